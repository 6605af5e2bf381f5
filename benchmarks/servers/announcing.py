"""The SDK's server on Holdfast, with a tool that notifies outside its request: `announcing.py PORT URL`."""

import sys

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp_types import ToolListChangedNotification

from benchmarks.servers.run import run
from holdfast import attach

mcp = MCPServer("benchmark")


@mcp.tool()
async def echo() -> str:
    """Return a text."""
    return "echo"


@mcp.tool()
async def announce(context: Context) -> str:
    """Notify the client that the tools have changed."""
    await context.session.send_notification(ToolListChangedNotification())
    return "announced"


if __name__ == "__main__":
    app = mcp.streamable_http_app()
    attach(app, store=sys.argv[2])
    run(app, int(sys.argv[1]))

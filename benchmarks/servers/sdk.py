"""The SDK's own stateful transport: `sdk.py PORT [json]`, answering with streams (its default) or JSON."""

import sys

from mcp.server import MCPServer

from benchmarks.servers.run import run

mcp = MCPServer("benchmark")


@mcp.tool()
async def echo(text: str) -> str:
    """Return the text."""
    return text


if __name__ == "__main__":
    run(mcp.streamable_http_app(json_response="json" in sys.argv), int(sys.argv[1]))

"""The echo tool on mcp-persist with durable sessions, in an environment of its own: `server.py PORT URL`."""

import logging
import sys

import uvicorn
from mcp.server import MCPServer
from mcp_persist import with_persistence

mcp = MCPServer("benchmark")


@mcp.tool()
async def echo(text: str) -> str:
    """Return the text."""
    return text


if __name__ == "__main__":
    logging.disable(logging.WARNING)
    app = with_persistence(mcp, backend="redis", url=sys.argv[2], ttl=3600, durable_sessions=True)
    port = int(sys.argv[1])
    uvicorn.run(
        app, host="127.0.0.1", port=port, loop="uvloop", http="httptools", log_level="error", access_log=False
    )

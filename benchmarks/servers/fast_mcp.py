"""FastMCP with its own transport: `fast_mcp.py PORT`."""

import sys

from fastmcp import FastMCP

from benchmarks.servers.run import run

mcp: FastMCP[None] = FastMCP("benchmark")


@mcp.tool
async def echo(text: str) -> str:
    """Return the text."""
    return text


if __name__ == "__main__":
    run(mcp.http_app(), int(sys.argv[1]))

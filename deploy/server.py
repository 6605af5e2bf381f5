"""The server of the Docker image: put yours in its place."""

from mcp.server import MCPServer

mcp = MCPServer("example")


@mcp.tool()
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b

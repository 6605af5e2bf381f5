"""The SDK's own stateful transport: `sdk.py PORT [json] [tuned]`; its default is to answer with streams.

`tuned` gives it the garbage collector's settings of `holdfast serve`.
"""

import gc
import sys

from mcp.server import MCPServer

from benchmarks.servers.run import run

mcp = MCPServer("benchmark")


@mcp.tool()
async def echo(text: str) -> str:
    """Return the text."""
    return text


if __name__ == "__main__":
    app = mcp.streamable_http_app(json_response="json" in sys.argv)
    if "tuned" in sys.argv:
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
    run(app, int(sys.argv[1]))

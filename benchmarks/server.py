"""One process that serves the echo tool: `python -m benchmarks.server PORT stock|STORE_URL`."""

import gc
import logging
import sys

import uvicorn
from mcp.server import MCPServer

import holdfast

mcp = MCPServer("benchmark")


@mcp.tool()
async def echo(text: str) -> str:
    """Return the text."""
    return text


def main() -> None:
    """Serve with the SDK's own transport, or with shared sessions."""
    port, kind = int(sys.argv[1]), sys.argv[2]
    logging.disable(logging.WARNING)
    app = mcp.streamable_http_app()
    if kind != "stock":
        holdfast.attach(app, store=kind)
        gc.collect()
        gc.freeze()
        gc.set_threshold(50_000, 20, 50)
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error", access_log=False)


if __name__ == "__main__":
    main()

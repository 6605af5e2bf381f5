"""How all servers in Python are run, but for the transport that is measured."""

import logging
from typing import Any

import uvicorn


def run(app: Any, port: int) -> None:
    """Serve with uvloop and httptools, as `holdfast serve` does, and without a word."""
    logging.disable(logging.WARNING)
    uvicorn.run(
        app, host="127.0.0.1", port=port, loop="uvloop", http="httptools", log_level="error", access_log=False
    )

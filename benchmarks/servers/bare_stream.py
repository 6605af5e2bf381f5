"""Streams without any work, `bare_stream.py PORT`: what uvicorn alone needs for one that is silent."""

import sys
from collections.abc import Awaitable, Callable
from typing import Any

from benchmarks.servers.run import run

START = {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Begin a stream, and leave it at that until the client goes away."""
    if scope["type"] == "lifespan":
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await send({"type": "lifespan.shutdown.complete"})
        return
    await send(START)
    await send({"type": "http.response.body", "body": b": hello\n\n", "more_body": True})
    while True:
        if (await receive())["type"] == "http.disconnect":
            return


if __name__ == "__main__":
    run(app, int(sys.argv[1]))

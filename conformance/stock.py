"""The examples as their own frameworks serve them, in one process: what Holdfast is measured against.

Run as `python -m conformance.stock MODULE:ATTRIBUTE --port N`.
"""

import argparse
import importlib

import uvicorn
from fastmcp import FastMCP
from fastmcp.server.event_store import EventStore as FastMCPEventStore
from mcp.server.mcpserver import MCPServer
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp_types import JSONRPCMessage
from starlette.applications import Starlette
from typing_extensions import override

RETRY_MILLISECONDS = 100


class MemoryEventStore(EventStore):
    """The least that lets the SDK resume a stream: every event of the process in one list."""

    def __init__(self) -> None:
        self._events: list[tuple[str, JSONRPCMessage | None]] = []

    @override
    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        """Keep the event; its id is its place in the list."""
        self._events.append((stream_id, message))
        return str(len(self._events) - 1)

    @override
    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        """Send what came after the event on its stream."""
        if not last_event_id.isdecimal() or int(last_event_id) >= len(self._events):
            return None
        start = int(last_event_id)
        stream = self._events[start][0]
        for place, (stream_id, message) in enumerate(self._events[start + 1 :], start + 1):
            if stream_id == stream and message is not None:
                await send_callback(EventMessage(message, str(place)))
        return stream


def build_app(server: object) -> Starlette:
    """The framework's own application for the server, with its own event store in memory."""
    if isinstance(server, FastMCP):
        return server.http_app(event_store=FastMCPEventStore(), retry_interval=RETRY_MILLISECONDS)
    if isinstance(server, MCPServer):
        return server.streamable_http_app(event_store=MemoryEventStore(), retry_interval=RETRY_MILLISECONDS)
    raise TypeError(f"expected an MCPServer or a FastMCP, got {type(server).__name__}")


def main() -> None:
    """Serve until told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("target", metavar="MODULE:ATTRIBUTE")
    parser.add_argument("--port", type=int, required=True)
    options = parser.parse_args()
    module, attribute = options.target.split(":")
    server = getattr(importlib.import_module(module), attribute)
    # httptools leaves the blanks behind a header's value, and the SDK compares the value as it comes; the
    # suite finds that (`http-header-validation`). h11 takes them off, as RFC 9110 5.5 asks.
    uvicorn.run(build_app(server), host="127.0.0.1", port=options.port, http="h11", log_level="warning")


if __name__ == "__main__":
    main()

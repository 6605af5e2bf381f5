"""A client of the HTTP+SSE transport, made by hand: one stream, and messages POSTed to any replica."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2
from typing_extensions import override

from holdfast.testing.replicas import Fleet
from tests.flows.wire import CAPABILITIES, Stream, Wire, call

__all__ = ["SseWire"]


class SseWire(Wire):
    """One session. `Wire`'s requests go to the endpoint that the stream named."""

    def __init__(
        self,
        fleet: Fleet,
        client: httpx2.AsyncClient,
        *,
        version: str = "2024-11-05",
        token: str | None = None,
        stream_path: str = "/sse",
    ) -> None:
        super().__init__(fleet, client, version=version, path="", token=token)
        self.stream_path = stream_path

    @asynccontextmanager
    async def connect(
        self, *, on: int | None = None, after: str | None = None, **headers: Any
    ) -> AsyncGenerator[Stream, None]:
        """Open the stream, and take from its first event where to POST."""
        endpoint, self.path = self.path, self.stream_path
        async with self.open(on=on, after=after, version=None, mcp_session_id=None, **headers) as stream:
            self.path = endpoint
            if stream.status == 200:
                first = await stream.next()
                assert first is not None
                assert first.name == "endpoint"
                self.path = first.data
                self.session = parse_qs(urlsplit(first.data).query)["session_id"][0]
            yield stream

    @asynccontextmanager
    async def session_open(self, on: int | None = None) -> AsyncGenerator[Stream, None]:
        """A stream with the handshake behind it."""
        async with self.connect(on=on) as stream:
            await self.handshake(stream, on=on)
            yield stream

    async def handshake(self, stream: Stream, on: int | None = None) -> dict[str, Any]:
        params = {
            "protocolVersion": self.version,
            "capabilities": CAPABILITIES,
            "clientInfo": {"name": "old", "version": "1"},
        }
        message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
        assert await self.tell(message, on=on) == 202
        self.initialized = (await stream.message())["result"]
        assert await self.tell({"jsonrpc": "2.0", "method": "notifications/initialized"}, on=on) == 202
        return self.initialized

    @override
    def headers(self, **changes: Any) -> dict[str, str]:
        return super().headers(**({"version": None, "mcp_session_id": None} | changes))

    async def tell(self, message: Any, *, on: int | None = None, **headers: Any) -> int:
        """POST a message; the status."""
        body = message if isinstance(message, bytes) else json.dumps(message).encode()
        return (await self.send("POST", body, on=on, **headers)).status_code

    async def start(self, action: str, text: str = "", *, on: int | None = None, id: int | str) -> None:  # noqa: A002
        """Call the tool; what becomes of it is told on the stream."""
        assert await self.tell(call(action, text, id=id), on=on) == 202

"""The witness of `make demo`: the client's own HTTP, watched; and a load of further clients."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx2
from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp_types import TextContent
from typing_extensions import override

from examples.demo_stage import PATIENCE_SECONDS, DemoFailedError, detail

LOAD_CLIENTS = 4
THINKING_SECONDS = 0.05


@dataclass
class Seen:
    """A request of the client and the replica that served it, by the proxy's own word."""

    what: str
    replica: str
    address: str
    at: float = field(default_factory=time.monotonic)


class Witness(httpx2.AsyncHTTPTransport):
    """The HTTP under the official client. It says where each request went, and can cut off a response."""

    def __init__(self, names: dict[str, str]) -> None:
        super().__init__()
        self._names = names
        self.seen: list[Seen] = []
        self.cut_now = False

    @override
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await super().handle_async_request(request)
        address = response.headers["x-holdfast-backend"]
        seen = Seen(what_it_is(request), self._names[address], address)
        self.seen.append(seen)
        detail(f"{seen.what:<52} -> replica {seen.replica}")
        if request.method == "POST" and isinstance(response.stream, httpx2.AsyncByteStream):
            response.stream = _Wire(response.stream, self)
        return response

    def saw(self, beginning: str) -> bool:
        """Whether there was a request of a kind."""
        return any(seen.what.startswith(beginning) for seen in self.seen)

    def last(self, beginning: str) -> Seen:
        """The latest request of a kind."""
        found = [seen for seen in self.seen if seen.what.startswith(beginning)]
        if not found:
            raise DemoFailedError(f"the client never sent: {beginning}")
        return found[-1]


class _Wire(httpx2.AsyncByteStream):
    """A response on its way. When it is cut, what was on the wire is lost and the connection is gone."""

    def __init__(self, inner: httpx2.AsyncByteStream, witness: Witness) -> None:
        self._inner = inner
        self._witness = witness

    @override
    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._inner:
            if self._witness.cut_now:
                self._witness.cut_now = False
                raise httpx2.ReadError("cut off")
            yield chunk

    @override
    async def aclose(self) -> None:
        await self._inner.aclose()


def what_it_is(request: httpx2.Request) -> str:
    """In words of MCP."""
    if request.method == "DELETE":
        return "DELETE the session"
    if request.method == "GET":
        return (
            "GET with Last-Event-ID"
            if "last-event-id" in request.headers
            else "GET the stream of notifications"
        )
    message: dict[str, Any] = json.loads(request.content)
    if "method" not in message:
        return "POST the answer to the server's question"
    name = message.get("params", {}).get("name")
    return f"POST {message['method']}{f' {name}' if name else ''}"


@dataclass
class Load:
    """Clients that call all the time, and how they fare.

    Attributes:
        failures: what each call that failed failed with.
    """

    calls: int = 0
    failures: list[str] = field(default_factory=list[str])
    stopping: bool = False

    async def client(self, url: str) -> None:
        """One client, from its handshake to its goodbye."""
        timeout = httpx2.Timeout(PATIENCE_SECONDS, read=None)
        async with (
            httpx2.AsyncClient(timeout=timeout) as http,
            streamable_http_client(url, http_client=http) as (reading, writing, *_),
            ClientSession(reading, writing) as client,
        ):
            await client.initialize()
            while not self.stopping:
                await self._call(client)
                await asyncio.sleep(THINKING_SECONDS)

    async def _call(self, client: ClientSession) -> None:
        async def on_progress(progress: float, total: float | None, message: str | None) -> None:
            heard.append(progress)

        heard: list[float] = []
        self.calls += 1
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                arguments = {"loaves": 2, "seconds_each": 0.05}
                result = await client.call_tool("bake", arguments, progress_callback=on_progress)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is counted and shown
            self.failures.append(f"{type(error).__name__}: {error}")
            return
        content = result.content[0]
        if heard != [1, 2] or not isinstance(content, TextContent) or content.text != "2 loaves are ready":
            self.failures.append(f"heard {heard}, and then {content}")


@contextlib.asynccontextmanager
async def load(url: str) -> AsyncGenerator[Load, None]:
    """Further clients at work while the block runs."""
    working = Load()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(LOAD_CLIENTS):
            tasks.create_task(working.client(url))
        try:
            yield working
        finally:
            working.stopping = True

"""HTTP without sockets: requests of an httpx2 client go straight into ASGI applications.

Unlike the transport that comes with the client, this one hands over every piece of an answer when it is sent,
tells the application when the client goes away, and runs on asyncio and on trio.
"""

import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine, MutableMapping
from contextlib import asynccontextmanager
from typing import Any, Final, TypeAlias

import anyio
import anyio.lowlevel
import httpx2
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from typing_extensions import override

__all__ = ["AsgiApp", "Bridge", "Message", "Receive", "Send", "Start", "lifespan"]

logger = logging.getLogger(__name__)

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
AsgiApp: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]
Start: TypeAlias = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]

_BUFFERED_CHUNKS: Final = 64
"""What an application may send ahead of a client that does not read; then it waits, as behind a socket."""


class Bridge(httpx2.AsyncBaseTransport):
    """A transport for `httpx2.AsyncClient`.

    Args:
        choose: the application that gets a request, and what starts a task for it. May raise
            `httpx2.ConnectError`, as a dead host would.
    """

    def __init__(self, choose: Callable[[httpx2.Request], tuple[AsgiApp, Start]]) -> None:
        self._choose = choose

    @override
    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        app, start = self._choose(request)
        exchange = _Exchange(request, await request.aread())
        start(lambda: exchange.run(app))
        try:
            return await exchange.response()
        except BaseException:
            exchange.disconnect()
            raise


class _Exchange:
    """One request on its way to an application, and the answer on its way back."""

    def __init__(self, request: httpx2.Request, body: bytes) -> None:
        self._request = request
        self._body: list[bytes] = [body]
        self._head: Message = {}
        self._started = anyio.Event()
        self._gone = anyio.Event()
        self._complete = False
        self._send_chunk: MemoryObjectSendStream[bytes]
        self._chunks: MemoryObjectReceiveStream[bytes]
        self._send_chunk, self._chunks = anyio.create_memory_object_stream[bytes](_BUFFERED_CHUNKS)

    async def run(self, app: AsgiApp) -> None:
        """Let the application answer. What it raises ends the answer, as it would behind a server."""
        try:
            await app(_scope(self._request), self._receive, self._send)
        except Exception:
            logger.exception("the application failed on %s %s", self._request.method, self._request.url.path)
        finally:
            self._gone.set()
            self._started.set()
            self._send_chunk.close()

    async def response(self) -> httpx2.Response:
        """Wait for the head of the answer."""
        await self._started.wait()
        if not self._head:
            return httpx2.Response(500, text="Internal Server Error")
        return httpx2.Response(
            self._head["status"], headers=self._head.get("headers", []), stream=_Body(self)
        )

    async def next_chunk(self) -> bytes:
        """The next piece of the answer's body.

        Raises:
            StopAsyncIteration: that was all.
            httpx2.ReadError: there should have been more.
        """
        try:
            return await self._chunks.receive()
        except anyio.EndOfStream:
            if self._complete:
                raise StopAsyncIteration from None
            raise httpx2.ReadError("the server hung up in the middle of its answer") from None

    def disconnect(self) -> None:
        """The client goes away."""
        self._gone.set()
        self._chunks.close()

    async def _receive(self) -> Message:
        if self._body:
            return {"type": "http.request", "body": self._body.pop(), "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        await anyio.lowlevel.checkpoint()
        if message["type"] == "http.response.start":
            self._head = message
            self._started.set()
            return
        try:
            if body := message.get("body", b""):
                await self._send_chunk.send(bytes(body))
        except anyio.BrokenResourceError:
            return  # the client has gone: a server drops what comes after that, too
        if not message.get("more_body", False):
            self._complete = True
            self._gone.set()
            self._send_chunk.close()


class _Body(httpx2.AsyncByteStream):
    """The body of an answer, as it comes."""

    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange

    @override
    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        return await self._exchange.next_chunk()

    @override
    async def aclose(self) -> None:
        self._exchange.disconnect()


def _scope(request: httpx2.Request) -> Message:
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": request.url.scheme,
        "path": request.url.path,
        "raw_path": request.url.raw_path.split(b"?")[0],
        "query_string": request.url.query,
        "root_path": "",
        "headers": [(name.lower(), value) for name, value in request.headers.raw],
        "server": (request.url.host, request.url.port),
        "client": ("127.0.0.1", 1),
    }


@asynccontextmanager
async def lifespan(app: AsgiApp) -> AsyncGenerator[dict[str, Any], None]:
    """Start an application and stop it again, as a server does. Yields the state for the scopes of requests.

    Raises:
        Exception: whatever the application raised at its start or its end.
    """
    state: dict[str, Any] = {}
    started, stop, failures = anyio.Event(), anyio.Event(), list[Exception]()
    asked = iter(["lifespan.startup", "lifespan.shutdown"])

    async def receive() -> Message:
        message = next(asked)
        if message == "lifespan.shutdown":
            await stop.wait()
        return {"type": message}

    async def send(message: Message) -> None:
        if message["type"] == "lifespan.startup.complete":
            started.set()

    async def run() -> None:
        try:
            await app({"type": "lifespan", "asgi": {"version": "3.0"}, "state": state}, receive, send)
        except Exception as error:  # noqa: BLE001 - raised below, where the caller is
            failures.append(error)
        finally:
            started.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await started.wait()
        if not failures:
            try:
                yield state
            finally:
                stop.set()
    if failures:
        raise failures[0]

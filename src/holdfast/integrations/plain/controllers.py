"""Connections as a `StreamController`: an SSE response, an anyio stream, a queue, a WebSocket."""

from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

import anyio
from anyio.abc import ObjectSendStream
from starlette.responses import Response
from starlette.types import Receive, Scope, Send
from typing_extensions import override

__all__ = [
    "AnyioController",
    "ConnectionClosed",
    "QueueController",
    "SseResponse",
    "WebSocketController",
]

BUFFERED_BYTES: Final = 256 * 1024
WRITE_SECONDS: Final = 10.0
KEEPALIVE_SECONDS: Final = 15.0
_KEEPALIVE: Final = b": keepalive\n\n"


class ConnectionClosed(Exception):
    """The connection behind a controller is gone: nothing more can be sent."""


class SseResponse(Response):
    """A response that carries a session, for an endpoint of Starlette or FastAPI to return.

        response = SseResponse()
        await manager.create(session_id, response, last_event_id=request.headers.get("last-event-id"))
        return response

    A client that reads too slowly is cut off, and harms nobody: when more than `buffered_bytes` wait for it,
    or one write takes longer than `write_seconds`. What it missed is in the log when it comes back.
    """

    def __init__(
        self,
        *,
        headers: dict[str, str] | None = None,
        buffered_bytes: int = BUFFERED_BYTES,
        write_seconds: float = WRITE_SECONDS,
        keepalive_seconds: float = KEEPALIVE_SECONDS,
    ) -> None:
        """Make a response whose body comes later.

        Args:
            headers: further headers.
            buffered_bytes: how much may wait for the client, besides what the server and the network hold.
            write_seconds: how long one write may take.
            keepalive_seconds: a comment is sent after so long a silence.
        """
        super().__init__(
            headers={"cache-control": "no-cache, no-transform", "x-accel-buffering": "no", **(headers or {})},
            media_type="text/event-stream",
        )
        del self.headers["content-length"]
        self.on_close: Callable[[], None] | None = None
        self.closed = False
        self._buffered_bytes = buffered_bytes
        self._write_seconds = write_seconds
        self._keepalive_seconds = keepalive_seconds
        self._chunks: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._news = anyio.Event()

    def enqueue(self, data: str) -> None:
        """Let an event wait for the client.

        Raises:
            ConnectionClosed: the client is gone, or too slow.
        """
        chunk = data.encode()
        if not self.closed and self._waiting_bytes + len(chunk) > self._buffered_bytes:
            self._chunks.clear()
            self.close()
        if self.closed:
            raise ConnectionClosed
        self._chunks.append(chunk)
        self._waiting_bytes += len(chunk)
        self._news.set()

    def close(self) -> None:
        """End the response after what waits already."""
        self.closed = True
        self._news.set()
        if self.on_close is not None:
            self.on_close()

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Write events as they come, until one side ends it."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._until_gone, receive, tasks.cancel_scope)
            try:
                await self._write_all(send)
            finally:
                self.close()
                tasks.cancel_scope.cancel()

    async def _write_all(self, send: Send) -> None:
        await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        while self._chunks or not self.closed:
            if not self._chunks:
                with anyio.move_on_after(self._keepalive_seconds):
                    await self._news.wait()
            self._news = anyio.Event()
            body = b"".join(self._chunks) or (b"" if self.closed else _KEEPALIVE)
            self._chunks.clear()
            self._waiting_bytes = 0
            with anyio.move_on_after(self._write_seconds) as patience:
                await send({"type": "http.response.body", "body": body, "more_body": True})
            if patience.cancelled_caught:
                return  # without an end: the client must not take it for a whole answer
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _until_gone(self, receive: Receive, scope: anyio.CancelScope) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass
        scope.cancel()


class AnyioController:
    """An anyio stream as a connection; whoever does not receive within `write_seconds` is let go."""

    def __init__(self, stream: ObjectSendStream[str], *, write_seconds: float = WRITE_SECONDS) -> None:
        self._stream = stream
        self._write_seconds = write_seconds

    async def enqueue(self, data: str) -> None:
        """Send an event.

        Raises:
            ConnectionClosed: the other end is closed, or does not receive.
        """
        try:
            with anyio.fail_after(self._write_seconds):
                await self._stream.send(data)
        except (TimeoutError, anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise ConnectionClosed from None

    async def close(self) -> None:
        """Close the stream."""
        await self._stream.aclose()


class _Queue(Protocol):
    """`asyncio.Queue`, `queue.Queue` and `multiprocessing.Queue` are such."""

    def put_nowait(self, item: Any, /) -> Any: ...


class QueueController:
    """A queue as a connection; None is put as its end. A full queue ends it, too: give it a bound."""

    def __init__(self, queue: _Queue) -> None:
        self._queue = queue

    def enqueue(self, data: str) -> None:
        """Put an event. Raises what the queue raises when it is full."""
        self._queue.put_nowait(data)

    def close(self) -> None:
        """Put None, if there is room."""
        try:
            self._queue.put_nowait(None)
        except Exception:  # noqa: BLE001 - each kind of queue has its own way to say that it is full
            return


class _WebSocket(Protocol):
    """Starlette's and FastAPI's are such."""

    async def send_text(self, data: str) -> None: ...

    async def close(self, code: int = 1000) -> None: ...


class WebSocketController:
    """A WebSocket as a connection: one text message for each event, framed as for SSE."""

    def __init__(self, websocket: _WebSocket, *, write_seconds: float = WRITE_SECONDS) -> None:
        self._websocket = websocket
        self._write_seconds = write_seconds

    async def enqueue(self, data: str) -> None:
        """Send an event.

        Raises:
            ConnectionClosed: the client does not take it. Errors of the framework come as they are.
        """
        try:
            with anyio.fail_after(self._write_seconds):
                await self._websocket.send_text(data)
        except TimeoutError:
            raise ConnectionClosed from None

    async def close(self) -> None:
        """Close it with the code for an end without fault."""
        with anyio.move_on_after(self._write_seconds):
            await self._websocket.close(1000)

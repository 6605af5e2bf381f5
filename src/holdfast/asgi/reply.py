"""How one POSTed request is answered: with JSON by the task that ran its handler, or with a stream beside it.

Most handlers are done at once: they run in the task of their HTTP request, and nothing is made for a stream
before one is needed.
"""

import random

import anyio

from holdfast.asgi.guards import Http
from holdfast.asgi.responses import send_json
from holdfast.asgi.streaming import Streaming
from holdfast.errors import SessionGone, StoreError, StreamError
from holdfast.sessions.breaker import STORE_RETRY_SECONDS
from holdfast.sessions.cancellation import is_foreign_cancellation
from holdfast.sessions.relay import LoggedStream, Outlet, UnloggedStream
from holdfast.sessions.replica import Replica
from holdfast.sessions.types import SessionFacts

__all__ = ["Reply"]


class Reply:
    """The answer to one POSTed request. `leave` it in the end."""

    __slots__ = ("_facts", "_http", "_outlet", "_replica", "_streaming", "_writer")

    def __init__(
        self, replica: Replica, streaming: Streaming, outlet: Outlet, facts: SessionFacts, http: Http
    ) -> None:
        self._replica = replica
        self._streaming = streaming
        self._outlet = outlet
        self._facts = facts
        self._http = http
        self._writer: _Writer | None = None
        outlet.on_open = self._opened

    def late(self) -> None:
        """The handler takes long: make it a stream, if nothing is decided yet."""
        if not self._outlet.decided:
            self._begin()

    async def complete(self) -> None:
        """The handler has answered: return once the client has all of it, or is gone."""
        if self._outlet.answer is None and self._writer is not None:
            await self._writer.ended.wait()
            if self._writer.failure is not None:
                raise self._writer.failure
        if self._outlet.answer is not None:  # perhaps only now: the store kept the stream from being opened
            await send_json(self._http.send, self._outlet.answer, session=self._facts.id)

    def leave(self) -> None:
        """Write no more: the server takes nothing after its application has returned."""
        if self._writer is not None:
            self._writer.scope.cancel()
        self._outlet.leave()

    def _opened(self) -> None:
        self._begin().opened.set()

    def _begin(self) -> "_Writer":
        if self._writer is None:
            self._writer = _Writer(self._streaming, self._outlet, self._facts, self._http)
            self._replica.write(self._writer.run)
        return self._writer


class _Writer:
    """The task beside the handler that writes its stream.

    Attributes:
        scope: ends it.
        opened: set when the stream was opened.
        ended: set when it has ended.
        failure: what writing to the client raised.
    """

    def __init__(self, streaming: Streaming, outlet: Outlet, facts: SessionFacts, http: Http) -> None:
        self.scope = anyio.CancelScope()
        self.opened = anyio.Event()
        self.ended = anyio.Event()
        self.failure: Exception | None = None
        self._streaming = streaming
        self._outlet = outlet
        self._facts = facts
        self._http = http

    async def run(self) -> None:
        """Open the stream if that was not done yet, and write it to its end."""
        try:
            with self.scope:
                if await self._open():
                    await self._serve()
        except Exception as error:  # noqa: BLE001 - raised where the HTTP request is served
            self.failure = error
        except anyio.get_cancelled_exc_class():
            if not is_foreign_cancellation():
                raise
            self.failure = StreamError("what this stream waited for was cancelled")
        finally:
            self._outlet.leave()
            self.ended.set()

    async def _open(self) -> bool:
        """Whether it is a stream in the end. Until it is one, it can still be answered with JSON."""
        while not self._outlet.decided:
            try:
                await self._outlet.open()
            except (StoreError, SessionGone):
                with anyio.move_on_after(random.uniform(*STORE_RETRY_SECONDS)):
                    await self.opened.wait()
        return self._outlet.answer is None

    async def _serve(self) -> None:
        if isinstance(self._outlet, LoggedStream):
            await self._streaming.serve_own(self._outlet, self._facts, self._http)
        elif isinstance(self._outlet, UnloggedStream):
            await self._streaming.serve_unlogged(self._outlet, self._facts, self._http)

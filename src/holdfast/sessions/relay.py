"""Sending: what goes to a client is stored first, on the stream that it belongs to, and then delivered."""

import itertools
import secrets
import time
from collections.abc import Callable
from functools import cached_property
from typing import Literal, Protocol, TypeAlias
from weakref import WeakValueDictionary

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from holdfast.errors import SessionGone, StreamClosed, StreamError
from holdfast.observe import NOBODY, Observer
from holdfast.sessions.hub import Hub, Reader
from holdfast.sessions.protocols import Backend
from holdfast.sessions.spooler import Spooler
from holdfast.sessions.types import STANDALONE, AppendKey, Event, Position, RequestId, SessionId, StreamId

__all__ = ["LoggedStream", "Outlet", "Relay", "Resumable", "UnloggedStream", "mint_stream_id"]

Resumable: TypeAlias = Literal["always", "auto", "never"]

_LOCAL_BUFFER = 64


def _nothing() -> None:
    """What an outlet calls that nobody listens to."""


def _refuse_late_question(expects: str | None) -> None:
    """What comes after the answer is dropped; who asks something then must not wait for ever."""
    if expects is not None:
        raise StreamError("the stream of this request has ended: the client cannot be asked on it")


def mint_stream_id() -> StreamId:
    """A new id for the stream of one POSTed request."""
    return StreamId(secrets.token_urlsafe(6))


class _Append(Protocol):
    """`EventLog.append`; None: the event waits in the spool."""

    async def __call__(
        self,
        session: SessionId,
        stream: StreamId,
        payload: bytes,
        *,
        key: AppendKey,
        final: bool = False,
        expects: str | None = None,
    ) -> Event | None: ...


class Outlet(Protocol):
    """The stream of one POSTed request, written by the replica that runs its handler.

    Until it is opened, the answer may still be plain JSON. Most requests end that way and at once, so nothing
    that only a stream needs is made before. Attributes:
        answer: the response, if it is to be sent as JSON.
        on_open: called once it became a stream.
    """

    answer: bytes | None
    on_open: Callable[[], None]

    @property
    def decided(self) -> bool:
        """Whether it is a stream now, or is answered with JSON."""
        ...

    def answer_now(self, response: bytes) -> bool:
        """Answer with JSON, if that needs no waiting. False: `finish` it."""
        ...

    def leave(self) -> None:
        """The HTTP response has ended: nobody reads here any more. The handler goes on."""
        ...

    async def open(self) -> None:
        """Make it a stream now."""
        ...

    async def emit(self, payload: bytes, *, expects: str | None = None) -> None:
        """Send a message that belongs to the request. Dropped after the answer; a question is refused then.

        Raises:
            StreamError: it is a question (`expects`), and the stream has ended.
        """
        ...

    async def finish(self, response: bytes) -> None:
        """Send the answer: as JSON if nothing made it a stream before."""
        ...


class LoggedStream:
    """An `Outlet` whose messages are in the event log, so that any replica can resume it."""

    def __init__(self, relay: "Relay", session: SessionId, request_id: RequestId) -> None:
        self.session = session
        self.request_id = request_id
        self.answer: bytes | None = None
        self.start: Position | None = None
        self.reader: Reader | None = None
        self.on_open: Callable[[], None] = _nothing
        self._relay = relay
        self._finished = False
        self._left = False
        self._made_lock: anyio.Lock | None = None

    @cached_property
    def stream(self) -> StreamId:
        """Its id, minted when it is first asked for."""
        return mint_stream_id()

    @property
    def decided(self) -> bool:
        """Whether it is a stream now, or is answered with JSON."""
        return self.start is not None or self.answer is not None

    @property
    def _lock(self) -> anyio.Lock:
        if self._made_lock is None:
            self._made_lock = anyio.Lock(fast_acquire=True)
        return self._made_lock

    def opened(self) -> tuple[Reader, Position]:
        """The reader of the POST that carries this stream, and where it starts.

        Raises:
            StreamError: it is not open.
        """
        if self.reader is None or self.start is None:
            raise StreamError("the stream is not open")
        return self.reader, self.start

    async def open(self) -> None:
        """Record the stream in the store; from here on it is a stream, and its start can be resumed from."""
        async with self._lock:
            await self._open()

    async def emit(self, payload: bytes, *, expects: str | None = None) -> None:
        """Append a message, opening the stream first if need be."""
        async with self._lock:
            if self._finished:
                _refuse_late_question(expects)
                return
            await self._open(though_unstored=True)
            await self._append(payload, expects=expects)

    async def finish(self, response: bytes) -> None:
        """Append the answer as the stream's last event, or leave it to be sent as JSON.

        An answer that cannot be stored still goes to the client that is connected here, without an id.
        """
        async with self._lock:
            if self._finished:
                return
            if self.start is None:
                self._answer(response)
            else:
                self._finished = True
                try:
                    await self._append_final(response)
                except BaseException:
                    self._relay.hub.hand_unlogged(self.session, self.stream, response)
                    raise

    def answer_now(self, response: bytes) -> bool:
        """Answer with JSON if the stream is neither open nor being opened."""
        if self.start is not None or (self._made_lock is not None and self._made_lock.locked()):
            return False
        self._answer(response)
        return True

    def leave(self) -> None:
        """Release the reader of the POST that carried this stream."""
        self._left = True
        if self.reader is not None:
            self._relay.hub.release(self.reader)

    def _answer(self, response: bytes) -> None:
        self._finished = True
        self.answer = response

    async def _open(self, *, though_unstored: bool = False) -> None:
        if self.start is None and not self._finished:
            start = await self._relay.open_stream(
                self.session, self.stream, self.request_id, though_unstored=though_unstored
            )
            # The reader must be there before the first append, so that it is handed every event.
            if not self._left:
                self.reader = self._relay.hub.open(self.session, self.stream, self.stream, writes=True)
            self.start = start
            self.on_open()

    async def finish_late(self, response: bytes) -> None:
        """Try again to give an answer that could not be stored, or for which the stream was never free."""
        async with self._lock:
            if self.start is None:
                self._answer(response)
            else:
                self._finished = True
                await self._append_final(response)

    async def _append_final(self, response: bytes) -> None:
        try:
            await self._append(response, final=True)
        except StreamClosed:
            # Another replica took this one for dead and answered in its place: that answer stands.
            self._relay.hub.wake(self.session)

    async def _append(self, payload: bytes, *, final: bool = False, expects: str | None = None) -> None:
        await self._relay.append(self.session, self.stream, payload, final=final, expects=expects)


class UnloggedStream:
    """An `Outlet` that lives in this process only: cheaper, and lost with the connection.

    Attributes:
        last: the answer, to be written after the messages.
    """

    def __init__(self, relay: "Relay", session: SessionId, *, json_only: bool) -> None:
        self.session = session
        self.answer: bytes | None = None
        self.last: bytes | None = None
        self.on_open: Callable[[], None] = _nothing
        self._relay = relay
        self._json_only = json_only
        self._left = False
        self._send: MemoryObjectSendStream[bytes] | None = None
        self._messages: MemoryObjectReceiveStream[bytes] | None = None

    @property
    def decided(self) -> bool:
        """Whether it is a stream now, or is answered with JSON."""
        return self._send is not None or self.answer is not None

    @property
    def messages(self) -> MemoryObjectReceiveStream[bytes]:
        """What the handler sent, to be written to the client.

        Raises:
            StreamError: it is not open.
        """
        if self._messages is None:
            raise StreamError("the stream is not open")
        return self._messages

    async def open(self) -> None:
        """Make it a stream, unless only JSON may be answered."""
        if self._json_only or self.decided:
            return
        self._send, self._messages = anyio.create_memory_object_stream[bytes](_LOCAL_BUFFER)
        if self._left:
            self._messages.close()
        self.on_open()

    async def emit(self, payload: bytes, *, expects: str | None = None) -> None:
        """Hand a message to the connected client; if it is gone or only JSON may be answered, drop it."""
        if self._json_only or self.answer is not None:
            _refuse_late_question(expects)
            return
        if expects is not None:
            if self._left:
                raise StreamError("the client has gone, and this stream cannot be resumed")
            await self._relay.backend.inbox.expect(self.session, expects)
        await self.open()
        if not await self._hand(payload):
            _refuse_late_question(expects)

    async def finish(self, response: bytes) -> None:
        """Hand the answer to the connected client."""
        if not self.answer_now(response) and self._send is not None:
            self.last = response
            self._send.close()

    def answer_now(self, response: bytes) -> bool:
        """Answer with JSON if nothing was sent before."""
        if self.decided:
            return False
        self.answer = response
        return True

    def leave(self) -> None:
        """Nobody takes the messages any more: the handler must not wait for that."""
        self._left = True
        if self._messages is not None:
            self._messages.close()

    async def _hand(self, payload: bytes) -> bool:
        """Whether the connected client will get it."""
        if self._send is None:
            return False
        try:
            await self._send.send(payload)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            return False
        return True


class Relay:
    """Stores messages on the right stream and hands them to readers in this process."""

    def __init__(
        self, backend: Backend, hub: Hub, observer: Observer = NOBODY, *, spooler: Spooler | None = None
    ) -> None:
        """Store through `backend`; with a spooler what the store does not take now is stored later."""
        self.backend = backend
        self._observer = observer
        self._spooler = spooler
        self.log = backend.log
        self.hub = hub
        self._counter = itertools.count(1)
        self._standalone_locks: WeakValueDictionary[SessionId, anyio.Lock] = WeakValueDictionary()

    async def append(
        self,
        session: SessionId,
        stream: StreamId,
        payload: bytes,
        *,
        final: bool = False,
        expects: str | None = None,
        though_unstored: bool = True,
    ) -> None:
        """Append one event and hand it to local readers. While the store is away it waits in the spool.

        Callers see to it that one stream has one append under way in this process.

        Args:
            session: whose.
            stream: where.
            payload: the message.
            final: it is the last one of its stream.
            expects: it is a question with this id.
            though_unstored: False: raise `StoreUnavailable` instead of letting it wait.
        """
        key = AppendKey(self.backend.replica, next(self._counter))
        append: _Append = self.log.append
        if self._spooler is not None:
            append = self._spooler.append if though_unstored else self._spooler.append_now
        began = time.monotonic()
        try:
            event = await append(session, stream, payload, key=key, final=final, expects=expects)
        except (SessionGone, StreamError):
            raise
        except BaseException:
            # It may be stored all the same, and the store does not wake the replica that appends.
            self.hub.wake(session)
            raise
        if event is None:
            return
        self.hub.hand(session, event)
        self._observer.appended(session, stream, len(payload), time.monotonic() - began)

    async def open_stream(
        self, session: SessionId, stream: StreamId, request_id: RequestId, *, though_unstored: bool
    ) -> Position:
        """Record the stream of a request. `UNSTORED`: that has to wait; not unless `though_unstored`."""
        if self._spooler is None or not though_unstored:
            return await self.log.open_stream(session, stream, request_id)
        return await self._spooler.open_stream(session, stream, request_id)

    async def send_standalone(
        self,
        session: SessionId,
        payload: bytes,
        *,
        expects: str | None = None,
        though_unstored: bool = True,
    ) -> None:
        """Send a message that belongs to no request; see `append`.

        Raises:
            SessionGone: there is no such session.
        """
        lock = self._standalone_locks.get(session) or self._standalone_locks.setdefault(session, anyio.Lock())
        async with lock:
            await self.append(session, STANDALONE, payload, expects=expects, though_unstored=though_unstored)

    async def send_to_subscribers(self, uri: str, payload: bytes) -> int:
        """Send a message to every session that subscribed to a resource, and return how many those were."""
        sent = 0
        async for sessions in self.backend.subscriptions.sessions(uri):
            for session in sessions:
                try:
                    await self.send_standalone(session, payload)
                except SessionGone:
                    await self.backend.subscriptions.drop(session)
                else:
                    sent += 1
        return sent

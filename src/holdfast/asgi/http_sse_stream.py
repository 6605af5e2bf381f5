"""The one connection of an HTTP+SSE client: it carries the standalone stream and those of its requests."""

import logging
import random
import secrets
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Final

import anyio
import pydantic_core
from anyio.abc import TaskGroup

from holdfast.asgi import sse
from holdfast.asgi.flow import answer_lost, end_stream, go_on_behind, write, write_all
from holdfast.asgi.guards import Http, Send
from holdfast.asgi.http_sse_cursor import Cursor
from holdfast.asgi.streaming import Streaming, not_before, start_stream, while_connected
from holdfast.errors import PositionLost, SessionGone, StoreError, StreamUnknown
from holdfast.sessions.breaker import STORE_RETRY_SECONDS
from holdfast.sessions.event_id import decode_event_id, encode_event_id
from holdfast.sessions.hub import Reader
from holdfast.sessions.tail import Tail
from holdfast.sessions.types import STANDALONE, UNSTORED, Event, Position, SessionFacts, SessionId, StreamId

__all__ = ["Carrying", "encode_opening"]

logger = logging.getLogger("holdfast")

_OPENING: Final = b'{"holdfast":"opened","at":'


def encode_opening(stream: StreamId, start: Position) -> bytes:
    """What tells the reader of the standalone stream that a request has a stream of its own from here on.

    It is stored before the request is accepted, so whoever carries the session finds all of its answers.
    """
    return _OPENING + pydantic_core.to_json(encode_event_id(stream, start)) + b"}"


def _decode_opening(payload: bytes) -> str | None:
    return pydantic_core.from_json(payload)["at"] if payload.startswith(_OPENING) else None


class Carrying(Streaming):
    """Writes all streams of a session to one client."""

    async def carry(self, cursor: Cursor, facts: SessionFacts, endpoint: str, http: Http) -> None:
        """Serve a GET: from the beginning of a new session, or from where the client was cut off.

        Raises:
            Refusal: the cursor is not one of this session, or too many clients want the stream.
            SessionGone: the session ended.
        """
        session = facts.id
        reader = self._replica.hub.open(session, STANDALONE, secrets.token_urlsafe(9))
        try:
            async with self._replica.backend.log.watch(session, partial(self._hear, session)):
                await while_connected(http, partial(self._carry, cursor, facts, endpoint, reader, http.send))
        finally:
            self._replica.hub.release(reader)
        if reader.retry_milliseconds is not None:
            await write(http.send, sse.retry(reader.retry_milliseconds))
        await end_stream(http.send)

    async def _carry(
        self, cursor: Cursor, facts: SessionFacts, endpoint: str, reader: Reader, send: Send
    ) -> None:
        # A position is looked at before the stream is claimed with it: a bad one must displace nobody.
        place = cursor.places.get(STANDALONE)
        _, after, heard = decode_event_id(place) if place else (STANDALONE, None, facts.broadcast)
        tail = self._replica.tail(reader, after or Position("", 0))
        events, gap = await self._first(tail, reader) if after is not None else ((), [])
        claim = await self._claim(reader, after)
        if after is None:
            tail.restart(claim.start)
        tail.listening = self._replica.listen(not_before(facts.broadcast, heard))
        cursor.places[STANDALONE] = place or tail.id_at(claim.start)
        await start_stream(send, reader.session)
        hello = sse.event("endpoint", endpoint.encode(), cursor.encode())
        await write_all(send, [hello, sse.retry(self._options.retry_milliseconds), *map(sse.frame, gap)])
        async with anyio.create_task_group() as tasks:
            connection = _Connection(self, cursor, reader, send, tasks)
            for event_id in [each for stream, each in cursor.places.items() if stream != STANDALONE]:
                connection.follow(event_id)
            await connection.deliver(tail, STANDALONE, events)
            await connection.carry_standalone(tail)
            tasks.cancel_scope.cancel()

    def _hear(self, session: SessionId, event: Event | None) -> None:
        """Another replica appended to one of the streams."""
        if event is None:
            self._replica.hub.wake(session)
        else:
            self._replica.hub.hand(session, event)

    def tail(self, reader: Reader, place: Position) -> Tail:
        """The rest of a stream."""
        return self._replica.tail(reader, place)

    def reader(self, session: SessionId, stream: StreamId) -> Reader:
        """A reader of the stream of one request. `release` it."""
        return self._replica.hub.open(session, stream, stream)

    def release(self, reader: Reader) -> None:
        """Nothing more of this stream is delivered here."""
        self._replica.hub.release(reader)

    async def take(self, reader: Reader, tail: Tail) -> tuple[Sequence[Event], list[bytes]]:
        """The next events of a stream, or what tells the client that some are lost.

        Raises:
            StreamUnknown: nothing of it is left.
            SessionGone: the session ended.
        """
        try:
            try:
                return await tail.next(), []
            except PositionLost as lost:
                gap = await go_on_behind(self._replica, reader, tail, lost)
                if gap is None:
                    raise StreamUnknown from lost
                return (), gap
        except StoreError as error:
            self._replica.observer.store_failed("read", error)
            with anyio.move_on_after(random.uniform(*STORE_RETRY_SECONDS)):
                await reader.wait()
            return (), []

    def lost(self, tail: Tail) -> bytes:
        """The answer to a request of which the stream has none any more."""
        return answer_lost(tail)

    @property
    def keepalive_seconds(self) -> float:
        """How long the connection may be silent."""
        return self._options.keepalive_seconds


class _Connection:
    """One client that is connected: it gets one sequence of events, and each id names all places."""

    def __init__(
        self, carrying: Carrying, cursor: Cursor, reader: Reader, send: Send, tasks: TaskGroup
    ) -> None:
        self._carrying = carrying
        self._cursor = cursor
        self._reader = reader
        self._send = send
        self._tasks = tasks
        self._writing = anyio.Lock()
        self._silent_since = anyio.current_time()

    def follow(self, event_id: str) -> None:
        """Deliver the stream of a request too, from a place in it."""
        stream, place, _ = decode_event_id(event_id)
        self._cursor.places[stream] = event_id
        self._tasks.start_soon(self._follow, stream, place)

    async def carry_standalone(self, tail: Tail) -> None:
        """Deliver the standalone stream until it is closed, and a comment whenever it was silent for long."""
        while not self._reader.closed:
            events: Sequence[Event] = ()
            told: list[bytes] = []
            with anyio.CancelScope(deadline=self._due()):
                try:
                    events, told = await self._carrying.take(self._reader, tail)
                except (SessionGone, StreamUnknown):
                    return
            await self._write(map(sse.frame, told))
            await self.deliver(tail, STANDALONE, events)
            if anyio.current_time() >= self._due():
                await self._write([sse.KEEPALIVE])

    def _due(self) -> float:
        return self._silent_since + self._carrying.keepalive_seconds

    async def deliver(self, tail: Tail, stream: StreamId, events: Sequence[Event]) -> bool:
        """Write events of one stream; whether its last one was among them."""
        async with self._writing:
            chunks: list[bytes] = []
            for event in events:
                if event.position == UNSTORED:
                    chunks.append(sse.frame(event.payload))
                    continue
                self._cursor.places[stream] = tail.id_of(event)
                opened = _decode_opening(event.payload)
                if opened is not None:
                    self.follow(opened)
                    continue
                if event.final:
                    del self._cursor.places[stream]
                if event.payload:
                    chunks.append(sse.frame(event.payload, self._cursor.encode()))
            await self._write_now(chunks)
        return any(event.final for event in events)

    async def _follow(self, stream: StreamId, place: Position) -> None:
        reader = self._carrying.reader(self._reader.session, stream)
        try:
            tail = self._carrying.tail(reader, place)
            answered = await self._follow_to_the_end(reader, tail)
            if reader.unlogged:
                await self._write(map(sse.frame, reader.unlogged))
            elif not answered and not reader.closed and tail.stream is not None:
                await self._write([sse.frame(self._carrying.lost(tail))])
        except SessionGone:
            self._reader.close()
        finally:
            self._carrying.release(reader)
        self._cursor.places.pop(stream, None)

    async def _follow_to_the_end(self, reader: Reader, tail: Tail) -> bool:
        """Deliver the stream of a request; whether its answer was delivered."""
        answered = False
        while not (reader.closed or reader.unlogged or tail.ended):
            try:
                events, told = await self._carrying.take(reader, tail)
            except StreamUnknown:
                break
            await self._write(map(sse.frame, told))
            answered = await self.deliver(tail, reader.stream, events) or answered
        return answered

    async def _write(self, chunks: Iterable[bytes]) -> None:
        async with self._writing:
            await self._write_now(chunks)

    async def _write_now(self, chunks: Iterable[bytes]) -> None:
        if joined := b"".join(chunks):
            await write(self._send, joined)
            self._silent_since = anyio.current_time()

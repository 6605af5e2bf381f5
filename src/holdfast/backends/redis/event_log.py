"""The event log of each session: a Redis stream whose ids are the offsets, and its bookkeeping in meta."""

import asyncio
import itertools
import json
import secrets
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from typing_extensions import override

from holdfast.backends.redis import scripts
from holdfast.backends.redis.client import Client
from holdfast.backends.redis.hints import Hints
from holdfast.backends.redis.keys import Keys, activity, decode, encode, quote_word
from holdfast.backends.redis.options import RedisOptions
from holdfast.errors import (
    PositionLost,
    SessionGone,
    StoreError,
    StoreRefused,
    StreamClosed,
    StreamUnknown,
)
from holdfast.sessions.protocols import EventLog
from holdfast.sessions.types import (
    STANDALONE,
    AppendKey,
    Claim,
    Event,
    Page,
    Position,
    Renewed,
    ReplicaId,
    RequestId,
    SessionId,
    StreamId,
    StreamState,
    shorten,
)

__all__ = ["RedisEventLog"]

_BATCH: Final = 256
_LOOK_AT: Final = 2_000
_BEYOND_ALL: Final = 2**53


class RedisEventLog(EventLog):
    """Per session: every message to its client, in one dense order."""

    def __init__(
        self, client: Client, hints: Hints, keys: Keys, replica: ReplicaId, options: RedisOptions
    ) -> None:
        self._client = client
        self._hints = hints
        self._keys = keys
        self._replica = replica
        self._options = options
        self._lease_ms = round(options.lease_seconds * 1000)
        self._seed = secrets.token_hex(6)
        self._count = itertools.count()
        self._announcing = f"{keys.channel_head} {keys.channel_tail} {options.inline_bytes}"

    @override
    async def open_stream(self, session: SessionId, stream: StreamId, request_id: RequestId) -> Position:
        if stream == STANDALONE:
            raise ValueError("the standalone stream is there from the start")
        keys = self._keys.session(session)
        request = json.dumps(request_id)
        args = (self._epoch(), encode(stream), self._replica, request, self._options.max_streams)
        status, *rest = await self._client.run(scripts.OPEN_STREAM, keys, args, safe=True)
        if status == b"ok":
            return Position(rest[0].decode(), rest[1])
        if status == b"taken":
            raise StoreRefused("a stream with this id was opened for something else")
        raise _error(status, session)

    @override
    async def append(
        self,
        session: SessionId,
        stream: StreamId,
        payload: bytes,
        *,
        key: AppendKey | None = None,
        final: bool = False,
        expects: str | None = None,
    ) -> Event:
        args = (
            self._epoch(),
            encode(stream),
            payload,
            quote_word(key.writer) if key else "",
            key.counter if key else "",
            _flag(expects, final=final),
            self._options.max_events,
            self._options.max_bytes,
            self._replica,
            f"1 e {session} {self._announcing}",
            *((activity("stream.closed", stream=stream),) if final else ()),
        )
        status, *rest = await self._client.run(
            scripts.APPEND, self._keys.session(session), args, safe=key is not None
        )
        if status == b"ok":
            return Event(stream, Position(rest[0].decode(), rest[1]), rest[2], payload, final)
        if status == b"again":
            stored = payload if rest[3] is None else rest[3]
            return Event(stream, Position(rest[0].decode(), rest[1]), rest[2], stored, final)
        if status == b"stale":
            raise ValueError(f"append key: this writer is past its number {args[4]}: counters must grow")
        raise _error(status, session)

    @override
    async def read(self, session: SessionId, stream: StreamId, *, after: Position, limit: int) -> Page:
        offset = after.offset if 0 <= after.offset < _BEYOND_ALL else _BEYOND_ALL
        args = (
            self._epoch(),
            encode(stream),
            encode(after.epoch),
            offset,
            max(1, limit),
            self._options.page_bytes,
            _LOOK_AT,
        )
        status, *rest = await self._client.run(scripts.READ, self._keys.session(session), args, safe=True)
        if status != b"ok":
            raise _error(status, session, *rest)
        epoch, cursor, complete, state, replica, request, flat = rest
        return Page(
            _events(stream, epoch.decode(), flat),
            Position(epoch.decode(), cursor),
            bool(complete),
            _stream_state(state, replica, request),
        )

    @override
    @asynccontextmanager
    async def watch(
        self, session: SessionId, heard: Callable[[Event | None], None]
    ) -> AsyncGenerator[Position]:
        keys = self._keys.session(session)
        with self._hints.events(session, heard):
            await self._hints.listening()
            there = await self._touch(session, self._lease_ms)
            if there is None:
                raise SessionGone(f"no session {shorten(session)}")
            try:
                yield there.top
            finally:
                last = self._hints.only_one_watches(session)
        if last:
            self._client.post(scripts.UNWATCH, keys, (self._replica,))

    @override
    async def renew(self, sessions: Sequence[SessionId]) -> Sequence[Renewed | None]:
        renewed: list[Renewed | BaseException | None] = []
        for start in range(0, len(sessions), _BATCH):
            batch = sessions[start : start + _BATCH]
            # All are renewed that can be: a node of a cluster may be away, and the others not.
            renewing = (self._renew_one(session) for session in batch)
            renewed += await asyncio.gather(*renewing, return_exceptions=True)
        return [_unless_failed(each) for each in renewed]

    @override
    async def claim(self, session: SessionId, reader: str, *, after: Position | None) -> Claim:
        args = (
            self._epoch(),
            secrets.token_hex(8),
            self._replica,
            encode(reader),
            encode(after.epoch) if after else "",
            after.offset if after else "",
            round(self._options.takeover_seconds * 1000),
            activity("standalone.claimed", replica=self._replica, resumed=after is not None),
        )
        status, *rest = await self._client.run(scripts.CLAIM, self._keys.session(session), args, safe=True)
        if status == b"wait":
            return Claim(after or Position(rest[1].decode(), rest[2]), wait_seconds=rest[0] / 1000)
        if status != b"ok":
            raise _error(status, session)
        epoch, offset, replica, holder, flat, first = rest
        start = Position(decode(epoch), int(offset))
        unanswered = tuple(
            Event(STANDALONE, Position(start.epoch, flat[i]), flat[i + 1], flat[i + 2])
            for i in range(0, len(flat), 3)
        )
        displaced = (ReplicaId(replica.decode()), decode(holder)) if replica else None
        return Claim(start, unanswered, displaced, first=bool(first))

    async def recover(self) -> None:
        """After a reconnect: take the leases of all watched sessions again."""
        await self.renew(self._hints.watched())

    async def _renew_one(self, session: SessionId) -> Renewed | None:
        if not self._keys.valid(session):
            return None
        return await self._touch(session, self._lease_ms if self._hints.watches(session) else 0)

    async def _touch(self, session: SessionId, lease_ms: int) -> Renewed | None:
        args = (self._epoch(), self._replica, lease_ms)
        status, *rest = await self._client.run(scripts.WATCH, self._keys.session(session), args, safe=True)
        if status == b"gone":
            return None
        epoch, top, reader = rest
        return Renewed(Position(epoch.decode(), top), None if reader is None else decode(reader))

    def _epoch(self) -> str:
        """A name for the next life of a log, should the script have to begin one. Each is used once."""
        return f"{self._seed}{next(self._count):x}"


def _unless_failed(renewed: Renewed | BaseException | None) -> Renewed | None:
    if isinstance(renewed, BaseException):
        raise renewed
    return renewed


def _flag(expects: str | None, *, final: bool) -> str | bytes:
    if final:
        return "f"
    return b"x" + encode(expects) if expects is not None else "0"


def _events(stream: StreamId, epoch: str, flat: list[Any]) -> tuple[Event, ...]:
    return tuple(
        Event(stream, Position(epoch, flat[i]), flat[i + 1], flat[i + 3], flat[i + 2] == b"f")
        for i in range(0, len(flat), 4)
    )


def _stream_state(state: bytes, replica: bytes, request: bytes) -> StreamState:
    return StreamState(
        running=state == b"r",
        replica=ReplicaId(replica.decode()) if replica else None,
        request_id=json.loads(request) if request else None,
    )


def _error(
    status: bytes,
    session: SessionId,
    resume_offset: int = 0,
    epoch: bytes = b"",
    unanswered: Sequence[Any] = (),
) -> Exception:
    match status:
        case b"gone":
            return SessionGone(f"no session {shorten(session)}")
        case b"unknown":
            return StreamUnknown(f"session {shorten(session)} has no such stream")
        case b"closed":
            return StreamClosed("the stream has had its final event")
        case b"trimmed" | b"epoch":
            return PositionLost(
                status.decode(),
                resume_offset=resume_offset,
                resume_epoch=epoch.decode(),
                unanswered=unanswered[2::3],
            )
        case _:
            return StoreError(f"unexpected reply {status!r}")

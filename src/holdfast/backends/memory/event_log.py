"""`EventLog` in memory."""

from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

from typing_extensions import override

from holdfast.backends.memory.data import Holder, MemoryData, Session, Waiting
from holdfast.errors import PositionLost
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
)

__all__ = ["MemoryEventLog"]

HOLDS_AT_LEAST_SECONDS: Final = 1.0
"""Who takes the standalone stream keeps it for so long: two readers must not evict each other for ever."""


class MemoryEventLog(EventLog):
    """Per session: every message to its client, in one dense order."""

    def __init__(self, data: MemoryData, replica: ReplicaId) -> None:
        self._data = data
        self._replica = replica

    @override
    async def open_stream(self, session: SessionId, stream: StreamId, request_id: RequestId) -> Position:
        state = StreamState(running=True, replica=self._replica, request_id=request_id)
        return self._data.live(session).log.open_stream(stream, state)

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
        found = self._data.live(session)
        event = found.log.repeated(stream, key, payload)
        if event is not None:
            return event
        event = found.log.append(stream, payload, key=key, final=final, precious=expects is not None)
        if expects is not None:
            found.waiting[expects] = Waiting(self._replica, event.position.offset, stream=stream)
        if final:
            found.withdraw(stream)
        self._data.touch(found)
        self._announce(session, event)
        return event

    @override
    async def read(self, session: SessionId, stream: StreamId, *, after: Position, limit: int) -> Page:
        found = self._data.live(session)
        try:
            return found.log.read(stream, after, limit)
        except PositionLost as lost:
            if lost.resume_epoch:
                first = after.offset if lost.reason == "trimmed" else 0
                events = _unanswered(found, stream, first, lost.resume_offset)
                lost.unanswered = tuple(event.payload for event in events)
            raise

    @override
    def watch(
        self, session: SessionId, heard: Callable[[Event | None], None]
    ) -> AbstractAsyncContextManager[Position]:
        return self._watch(session, heard)

    @override
    async def renew(self, sessions: Sequence[SessionId]) -> Sequence[Renewed | None]:
        return [self._renew(session) for session in sessions]

    @override
    async def claim(self, session: SessionId, reader: str, *, after: Position | None) -> Claim:
        found = self._data.live(session)
        now, held = self._data.clock(), found.holder
        if held is not None and (held.replica, held.reader) == (self._replica, reader):
            held = None  # a retry: nobody is displaced, nobody waits
        elif held is not None and (wait := held.since + HOLDS_AT_LEAST_SECONDS - now) > 0:
            return Claim(after or found.log.top, wait_seconds=wait)
        first = found.holder is None
        found.holder = Holder(self._replica, reader, now)
        displaced = (held.replica, held.reader) if held is not None else None
        if after is not None:
            return Claim(after, displaced=displaced, first=first)
        if first:
            return Claim(found.log.position(0), first=True)
        top = found.log.top
        return Claim(top, _unanswered(found, STANDALONE, 0, top.offset), displaced)

    def _announce(self, session: SessionId, event: Event) -> None:
        for replica, heard in self._data.watchers.of(session):
            if replica != self._replica:
                heard(event)

    @asynccontextmanager
    async def _watch(
        self, session: SessionId, heard: Callable[[Event | None], None]
    ) -> AsyncGenerator[Position]:
        top = self._data.live(session).log.top
        with self._data.watchers.added(session, (self._replica, heard)):
            yield top

    def _renew(self, session: SessionId) -> Renewed | None:
        found = self._data.get(session)
        if found is None:
            return None
        self._data.touch(found)
        return Renewed(found.log.top, found.holder.reader if found.holder is not None else None)


def _unanswered(session: Session, stream: StreamId, after: int, up_to: int) -> Sequence[Event]:
    """Requests to the client on a stream, in (`after`, `up_to`], that still wait for an answer."""
    waiting = [one.offset or 0 for one in session.waiting.values() if one.answer is None]
    return session.log.events_at(sorted(offset for offset in waiting if after < offset <= up_to), stream)

# pyright: reportPrivateUsage=false
"""Broken logs: appending, reading, waking."""

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import TypeAlias

import anyio
from typing_extensions import override

from holdfast.backends.memory import MemoryData
from holdfast.backends.memory.event_log import MemoryEventLog
from holdfast.backends.memory.session_log import SessionLog, _Stream
from holdfast.errors import StreamClosed
from holdfast.sessions.types import (
    STANDALONE,
    AppendKey,
    Event,
    Page,
    Position,
    Renewed,
    RequestId,
    SessionFacts,
    SessionId,
    StreamId,
    StreamState,
)
from holdfast.testing.conformance import EventLogSuite, WatchSuite
from tests.mutants.catalogue import must_fail

Heard: TypeAlias = Callable[[Event | None], None]

# --- appending ---------------------------------------------------------------------------------------------


@must_fail(EventLogSuite)
class OpensForAnybody(SessionLog):
    """A stream that was opened for one request is handed to another."""

    @override
    def open_stream(self, stream: StreamId, state: StreamState) -> Position:
        known = self._streams.get(stream)
        return super().open_stream(stream, state if known is None else known.state)


@must_fail(EventLogSuite)
class OffsetsFromAClock(SessionLog):
    """Offsets grow, but not one by one."""

    @override
    def append(
        self, stream: StreamId, payload: bytes, *, key: AppendKey | None, final: bool, precious: bool
    ) -> Event:
        self._top += 6
        return super().append(stream, payload, key=key, final=final, precious=precious)


@must_fail(EventLogSuite)
class AppendInTwoSteps(MemoryEventLog):
    """Another writer may come between reading the top and writing it."""

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
        log = self._data.live(session).log
        top = log._top
        await anyio.lowlevel.checkpoint()
        log._top = top
        return await super().append(session, stream, payload, key=key, final=final, expects=expects)


@must_fail(EventLogSuite)
class KeysIgnored(SessionLog):
    """A repeated append stores twice."""

    @override
    def repeated(self, stream: StreamId, key: AppendKey | None, payload: bytes) -> Event | None:
        self._stream(stream)
        return None


@must_fail(EventLogSuite)
class KeysOfAllWritersMixed(SessionLog):
    """The last counter is kept per stream, whoever wrote."""

    @override
    def repeated(self, stream: StreamId, key: AppendKey | None, payload: bytes) -> Event | None:
        return super().repeated(stream, key and AppendKey("all", key.counter), payload)

    @override
    def append(
        self, stream: StreamId, payload: bytes, *, key: AppendKey | None, final: bool, precious: bool
    ) -> Event:
        key = key and AppendKey("all", key.counter)
        return super().append(stream, payload, key=key, final=final, precious=precious)


@must_fail(EventLogSuite)
class KeysKeptPerProcess(MemoryEventLog):
    """A retry on another replica stores again."""

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
        key = key and AppendKey(f"{key.writer} on {self._replica}", key.counter)
        return await super().append(session, stream, payload, key=key, final=final, expects=expects)


@must_fail(EventLogSuite)
class OldKeysAccepted(SessionLog):
    """A key older than the last one stores again."""

    @override
    def repeated(self, stream: StreamId, key: AppendKey | None, payload: bytes) -> Event | None:
        with suppress(ValueError):
            return super().repeated(stream, key, payload)
        return None


@must_fail(EventLogSuite)
class ClosedBeforeKey(SessionLog):
    """The final event, repeated, is refused because the stream is closed."""

    @override
    def repeated(self, stream: StreamId, key: AppendKey | None, payload: bytes) -> Event | None:
        if not self._stream(stream).state.running:
            raise StreamClosed
        return super().repeated(stream, key, payload)


@must_fail(EventLogSuite)
class ClosedStreamsTakeMore(SessionLog):
    """A stream goes on after its final event."""

    @override
    def append(
        self, stream: StreamId, payload: bytes, *, key: AppendKey | None, final: bool, precious: bool
    ) -> Event:
        event = super().append(stream, payload, key=key, final=False, precious=precious or final)
        return replace(event, final=final)


@must_fail(EventLogSuite)
class StreamsOpenThemselves(SessionLog):
    """An append to an unknown stream creates it."""

    @override
    def _stream(self, stream: StreamId) -> _Stream:
        self.open_stream(stream, StreamState(running=True))
        return super()._stream(stream)


@must_fail(EventLogSuite)
class SessionsResurrected(MemoryEventLog):
    """A late append creates the session again."""

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
        if self._data.get(session) is None:
            self._data.add(SessionFacts(session, None, "", b"", 60.0))
        return await super().append(session, stream, payload, key=key, final=final, expects=expects)


@must_fail(EventLogSuite)
class PreviousOfTheSession(SessionLog):
    """`previous` is the event before in the session, not in the stream."""

    @override
    def append(
        self, stream: StreamId, payload: bytes, *, key: AppendKey | None, final: bool, precious: bool
    ) -> Event:
        event = super().append(stream, payload, key=key, final=final, precious=precious)
        self._entries[event.position.offset].previous = event.position.offset - 1
        return replace(event, previous=event.position.offset - 1)


@must_fail(EventLogSuite)
class PayloadsReencoded(SessionLog):
    """JSON is parsed and written again."""

    @override
    def append(
        self, stream: StreamId, payload: bytes, *, key: AppendKey | None, final: bool, precious: bool
    ) -> Event:
        with suppress(ValueError):
            payload = json.dumps(json.loads(payload)).encode()
        return super().append(stream, payload, key=key, final=final, precious=precious)


@must_fail(EventLogSuite)
class RequestIdsAsText(MemoryEventLog):
    """The requests `1` and `"1"` become one."""

    @override
    async def open_stream(self, session: SessionId, stream: StreamId, request_id: RequestId) -> Position:
        return await super().open_stream(session, stream, str(request_id))


@must_fail(EventLogSuite)
class OpeningAgainMovesOn(MemoryEventLog):
    """The position before the first event is the top of the moment."""

    @override
    async def open_stream(self, session: SessionId, stream: StreamId, request_id: RequestId) -> Position:
        await super().open_stream(session, stream, request_id)
        return self._data.live(session).log.top


@must_fail(EventLogSuite)
class OneLogForAll(MemoryData):
    """All sessions share one log."""

    @override
    def add(self, facts: SessionFacts) -> None:
        super().add(facts)
        self._sessions[facts.id].log = next(iter(self._sessions.values())).log


# --- reading -----------------------------------------------------------------------------------------------


@must_fail(EventLogSuite)
class AllStreamsRead(SessionLog):
    """A read returns the events of other streams too."""

    @override
    def read(self, stream: StreamId, after: Position, limit: int) -> Page:
        page = super().read(stream, after, limit)
        events = [self._event(entry) for entry in self._entries.values() if entry.offset > after.offset]
        return replace(page, events=events[:limit], complete=len(events) <= limit)


@must_fail(EventLogSuite)
class PartialCalledComplete(SessionLog):
    """The first page says that it is all."""

    @override
    def read(self, stream: StreamId, after: Position, limit: int) -> Page:
        return replace(super().read(stream, after, limit), complete=True)


@must_fail(EventLogSuite)
class CursorJumpsToTheTop(SessionLog):
    """The cursor of a partial page skips the rest."""

    @override
    def read(self, stream: StreamId, after: Position, limit: int) -> Page:
        return replace(super().read(stream, after, limit), cursor=self.top)


@must_fail(EventLogSuite)
class FirstEventReadTwice(SessionLog):
    """A read begins at the position, not after it."""

    @override
    def read(self, stream: StreamId, after: Position, limit: int) -> Page:
        return super().read(stream, replace(after, offset=max(0, after.offset - 1)), limit)


@must_fail(EventLogSuite)
class EpochsIgnored(SessionLog):
    """Only the offset of a position counts."""

    @override
    def _present_offset(self, after: Position, stream: _Stream) -> int:
        return super()._present_offset(self.position(after.offset), stream)


@must_fail(EventLogSuite)
class FutureAccepted(SessionLog):
    """A position beyond the top waits in silence for the log to get there."""

    @override
    def _present_offset(self, after: Position, stream: _Stream) -> int:
        if after.epoch == self._epoch:
            return after.offset
        return super()._present_offset(after, stream)


@must_fail(EventLogSuite)
class StreamsRunForEver(SessionLog):
    """A page says that the stream runs when it does not."""

    @override
    def read(self, stream: StreamId, after: Position, limit: int) -> Page:
        page = super().read(stream, after, limit)
        return replace(page, stream=replace(page.stream, running=True))


# --- waking ------------------------------------------------------------------------------------------------


@must_fail(WatchSuite)
class WatchBeginsLater(MemoryEventLog):
    """Entering returns before listening is in effect."""

    @override
    @asynccontextmanager
    async def _watch(self, session: SessionId, heard: Heard) -> AsyncGenerator[Position]:
        async def listen() -> None:
            with self._data.watchers.added(session, (self._replica, heard)):
                await anyio.sleep_forever()

        top = self._data.live(session).log.top
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            yield top
            tasks.cancel_scope.cancel()


@must_fail(WatchSuite)
class WakesOnlyItself(MemoryEventLog):
    """Only the replica that wrote is woken."""

    @override
    def _announce(self, session: SessionId, event: Event) -> None:
        for replica, wake in self._data.watchers.of(session):
            if replica == self._replica:
                wake(event)


@must_fail(WatchSuite)
class WakesTheWriterToo(MemoryEventLog):
    """Each append wakes its own replica."""

    @override
    def _announce(self, session: SessionId, event: Event) -> None:
        for _, wake in self._data.watchers.of(session):
            wake(event)


@must_fail(WatchSuite)
class WakesEverybody(MemoryEventLog):
    """An append wakes the readers of all sessions."""

    @override
    def _announce(self, session: SessionId, event: Event) -> None:
        for replica, wake in self._data.watchers.all():
            if replica != self._replica:
                wake(event)


@must_fail(WatchSuite)
class WakesOneOfSeveral(MemoryEventLog):
    """Of several watchers the first is woken."""

    @override
    def _announce(self, session: SessionId, event: Event) -> None:
        for _, wake in [one for one in self._data.watchers.of(session) if one[0] != self._replica][:1]:
            wake(event)


@must_fail(WatchSuite)
class AnnouncesWhatWasBefore(MemoryEventLog):
    """An announced event claims that nothing came before it in its stream."""

    @override
    def _announce(self, session: SessionId, event: Event) -> None:
        super()._announce(session, replace(event, previous=0))


@must_fail(WatchSuite)
class AnnouncesOnTheWrongStream(MemoryEventLog):
    """An announced event is one of the standalone stream."""

    @override
    def _announce(self, session: SessionId, event: Event) -> None:
        super()._announce(session, replace(event, stream=STANDALONE))


@must_fail(WatchSuite)
class AnnouncesNoEnd(MemoryEventLog):
    """An announced event is never the last one."""

    @override
    def _announce(self, session: SessionId, event: Event) -> None:
        super()._announce(session, replace(event, final=False))


@must_fail(WatchSuite)
class LeavingEndsNothing(MemoryEventLog):
    """Whoever has left is woken for ever."""

    @override
    @asynccontextmanager
    async def _watch(self, session: SessionId, heard: Heard) -> AsyncGenerator[Position]:
        self._data.watchers._by_key[session].append((self._replica, heard))
        yield self._data.live(session).log.top


@must_fail(WatchSuite)
class LeavingEndsAll(MemoryEventLog):
    """When one watcher leaves, the others of the session hear nothing more."""

    @override
    @asynccontextmanager
    async def _watch(self, session: SessionId, heard: Heard) -> AsyncGenerator[Position]:
        top = self._data.live(session).log.top
        self._data.watchers._by_key[session].append((self._replica, heard))
        yield top
        self._data.watchers._by_key.pop(session, None)


@must_fail(WatchSuite)
class WatchesWhatIsNotThere(MemoryEventLog):
    """Watching an unknown session works."""

    @override
    @asynccontextmanager
    async def _watch(self, session: SessionId, heard: Heard) -> AsyncGenerator[Position]:
        found = self._data.get(session)
        with self._data.watchers.added(session, (self._replica, heard)):
            yield Position("", 0) if found is None else found.log.top


@must_fail(WatchSuite)
class RenewingSlidesNothing(MemoryEventLog):
    """A session with a quiet reader expires."""

    @override
    def _renew(self, session: SessionId) -> Renewed | None:
        found = self._data.get(session)
        return None if found is None else Renewed(found.log.top)


@must_fail(WatchSuite)
class RenewingLeavesOutTheGone(MemoryEventLog):
    """The answers do not line up with the questions."""

    @override
    async def renew(self, sessions: Sequence[SessionId]) -> Sequence[Renewed | None]:
        return [each for each in await super().renew(sessions) if each is not None]

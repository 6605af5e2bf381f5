# pyright: reportPrivateUsage=false
"""Broken logs: what is dropped, and whether the reader is told."""

from typing_extensions import override

from holdfast.backends.memory.event_log import MemoryEventLog
from holdfast.backends.memory.session_log import SessionLog
from holdfast.backends.memory.trim_order import Entry, TrimOrder
from holdfast.errors import PositionLost
from holdfast.sessions.types import STANDALONE, AppendKey, Event, Page, Position, SessionId, StreamId
from holdfast.testing.conformance import TrimmingSuite
from tests.mutants.catalogue import must_fail


@must_fail(TrimmingSuite)
class TrimsInSilence(SessionLog):
    """What was dropped is skipped, and nobody is told."""

    @override
    def _trim(self) -> None:
        super()._trim()
        for stream in self._streams.values():
            stream.trimmed = 0


@must_fail(TrimmingSuite)
class ForgetsWhoWaitsInAGap(MemoryEventLog):
    """A gap says nothing of the requests in it that still wait."""

    @override
    async def read(self, session: SessionId, stream: StreamId, *, after: Position, limit: int) -> Page:
        try:
            return await super().read(session, stream, after=after, limit=limit)
        except PositionLost as lost:
            lost.unanswered = ()
            raise


@must_fail(TrimmingSuite)
class AsksAgainWhatWasSeen(MemoryEventLog):
    """A gap names all requests that wait, also those before it and behind it."""

    @override
    async def read(self, session: SessionId, stream: StreamId, *, after: Position, limit: int) -> Page:
        try:
            return await super().read(session, stream, after=after, limit=limit)
        except PositionLost as lost:
            found = self._data.live(session)
            waiting = sorted(one.offset or 0 for one in found.waiting.values() if one.answer is None)
            lost.unanswered = tuple(event.payload for event in found.log.events_at(waiting, stream))
            raise


@must_fail(TrimmingSuite)
class TellsEverybody(SessionLog):
    """A position is refused if anything was dropped after it, in whichever stream."""

    @override
    def _trim(self) -> None:
        super()._trim()
        trimmed = max(stream.trimmed for stream in self._streams.values())
        for stream in self._streams.values():
            stream.trimmed = trimmed


@must_fail(TrimmingSuite)
class TellsTooMany(SessionLog):
    """A reader that has just seen the last dropped event is told of a loss."""

    @override
    def read(self, stream: StreamId, after: Position, limit: int) -> Page:
        page = super().read(stream, after, limit)
        trimmed = self._streams[stream].trimmed
        if after.offset == trimmed > 0:
            raise PositionLost("trimmed", resume_offset=trimmed + 1)
        return page


@must_fail(TrimmingSuite)
class TellsTooFew(SessionLog):
    """A reader that misses one event is told nothing."""

    @override
    def _trim(self) -> None:
        super()._trim()
        for stream in self._streams.values():
            if stream.entries:
                stream.trimmed = min(stream.trimmed, max(0, stream.entries[0].offset - 3))


@must_fail(TrimmingSuite)
class NeverTrims(TrimOrder):
    """A log grows for ever."""

    @override
    def next(self, newest: int) -> Entry | None:
        return None


@must_fail(TrimmingSuite)
class TrimsTooEarly(TrimOrder):
    """A log keeps a third of what it may."""

    def __init__(self, *, max_events: int, max_bytes: int) -> None:
        super().__init__(max_events=max_events // 3, max_bytes=max_bytes // 3)


@must_fail(TrimmingSuite)
class BytesUnbounded(TrimOrder):
    """A log may hold any number of bytes."""

    def __init__(self, *, max_events: int, max_bytes: int) -> None:
        super().__init__(max_events=max_events, max_bytes=2**62)


@must_fail(TrimmingSuite)
class TrimsByAgeAlone(TrimOrder):
    """Responses and requests to the client go like everything else."""

    @override
    def add(self, entry: Entry) -> None:
        entry.precious = False
        super().add(entry)


@must_fail(TrimmingSuite)
class TrimsResponsesFirst(TrimOrder):
    """The one event that a client cannot do without is the first to go."""

    @override
    def next(self, newest: int) -> Entry | None:
        if super().next(newest) is None:
            return None
        finals = [entry for entry in self._precious if entry.kept and entry.final]
        return min(finals) if finals else super().next(newest)


@must_fail(TrimmingSuite)
class TrimsRequestsByAge(TrimOrder):
    """Unanswered requests to the client are not spared."""

    @override
    def add(self, entry: Entry) -> None:
        entry.precious = entry.final
        super().add(entry)


@must_fail(TrimmingSuite)
class NothingReservedForStandalone(TrimOrder):
    """One busy request empties the standalone stream."""

    @override
    def next(self, newest: int) -> Entry | None:
        self._ordinary_standalone += self._max_events
        try:
            return super().next(newest)
        finally:
            self._ordinary_standalone -= self._max_events


@must_fail(TrimmingSuite)
class ResponsesLeaveNoRoom(TrimOrder):
    """In a log full of responses a new event is dropped at once."""

    @override
    def _too_precious(self) -> bool:
        return False

    @override
    def next(self, newest: int) -> Entry | None:
        return super().next(0)


@must_fail(TrimmingSuite)
class BoundPerStream(SessionLog):
    """Each stream may fill the whole bound."""

    @override
    def append(
        self, stream: StreamId, payload: bytes, *, key: AppendKey | None, final: bool, precious: bool
    ) -> Event:
        self._trim_order._max_events = 64 * len(self._streams)
        return super().append(stream, payload, key=key, final=final, precious=precious)


@must_fail(TrimmingSuite)
class ClosedStreamsStayKnown(SessionLog):
    """A stream whose response was dropped reads as one that never says anything."""

    @override
    def _drop_stream(self, name: StreamId) -> None:
        """Forget nothing."""


@must_fail(TrimmingSuite)
class RunningStreamsForgotten(SessionLog):
    """A running stream of which nothing is kept is unknown."""

    @override
    def _trim(self) -> None:
        super()._trim()
        for name, stream in list(self._streams.items()):
            if name != STANDALONE and stream.trimmed and not stream.entries:
                del self._streams[name]


@must_fail(TrimmingSuite)
class KeysForgottenWithTheirEvents(SessionLog):
    """A key is good as long as its event is kept."""

    @override
    def repeated(self, stream: StreamId, key: AppendKey | None, payload: bytes) -> Event | None:
        event = super().repeated(stream, key, payload)
        return event if event is not None and event.position.offset in self._entries else None


@must_fail(TrimmingSuite)
class PreviousIsWhatIsKept(SessionLog):
    """`previous` forgets an event that was dropped, so a reader who saw it cannot use the next one."""

    @override
    def append(
        self, stream: StreamId, payload: bytes, *, key: AppendKey | None, final: bool, precious: bool
    ) -> Event:
        to = self._stream(stream)
        to.last = to.entries[-1].offset if to.entries else 0
        return super().append(stream, payload, key=key, final=final, precious=precious)

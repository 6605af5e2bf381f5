# pyright: reportPrivateUsage=false
"""Broken broadcast logs."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace

from typing_extensions import override

from holdfast.backends.memory import MemoryData
from holdfast.backends.memory.broadcast_log import MemoryBroadcastLog
from holdfast.backends.memory.session_log import SessionLog
from holdfast.backends.memory.session_store import MemorySessionStore
from holdfast.errors import PositionLost
from holdfast.sessions.types import GENESIS, AppendKey, Event, Page, Position, SessionFacts
from holdfast.testing.conformance import BroadcastLivesSuite, BroadcastLogSuite
from tests.mutants.catalogue import must_fail


@must_fail(BroadcastLogSuite)
class BroadcastPerReplica(MemoryBroadcastLog):
    """Each replica has a log of its own."""

    def __init__(self, data: MemoryData) -> None:
        super().__init__(MemoryData(max_events=data._max_events, max_bytes=data._max_bytes))


@must_fail(BroadcastLogSuite)
class CreatedByLooking(MemoryBroadcastLog):
    """Asking for the top creates a log."""

    @override
    async def top(self) -> Position:
        return self._data.broadcast_log().top


@must_fail(BroadcastLogSuite)
class BroadcastKeyIgnored(MemoryBroadcastLog):
    """A repeated append is stored again."""

    @override
    async def append(self, payload: bytes, *, key: AppendKey | None = None) -> Event:
        return await super().append(payload)


@must_fail(BroadcastLogSuite)
class OneKeyForAllWriters(MemoryBroadcastLog):
    """Counters of two writers are taken for one."""

    @override
    async def append(self, payload: bytes, *, key: AppendKey | None = None) -> Event:
        return await super().append(payload, key=key and AppendKey("", key.counter))


@must_fail(BroadcastLogSuite)
class BroadcastsTrimmedInSilence(MemoryBroadcastLog):
    """A reader that is too far behind goes on with what is left, and is not told."""

    @override
    async def read(self, *, after: Position, limit: int) -> Page:
        try:
            return await super().read(after=after, limit=limit)
        except PositionLost as lost:
            if lost.reason != "trimmed":
                raise
            return await super().read(after=Position(lost.resume_epoch, lost.resume_offset), limit=limit)


@must_fail(BroadcastLogSuite)
class GenesisIsThePresent(MemoryBroadcastLog):
    """Who has heard nothing yet starts at the top."""

    @override
    async def read(self, *, after: Position, limit: int) -> Page:
        return await super().read(after=await self.top() if after == GENESIS else after, limit=limit)


@must_fail(BroadcastLogSuite)
class UnknownEpochEndsIt(MemoryBroadcastLog):
    """A lost place says nothing about where to go on."""

    @override
    async def read(self, *, after: Position, limit: int) -> Page:
        try:
            return await super().read(after=after, limit=limit)
        except PositionLost as lost:
            raise PositionLost(lost.reason) from lost


@must_fail(BroadcastLogSuite)
class UnknownEpochIsThePresent(MemoryBroadcastLog):
    """A place of another life is taken for one of this."""

    @override
    async def read(self, *, after: Position, limit: int) -> Page:
        log = self._data.broadcasts
        return await super().read(after=after if log is None else log.position(after.offset), limit=limit)


@must_fail(BroadcastLogSuite)
class LimitlessPages(MemoryBroadcastLog):
    """A page holds everything."""

    @override
    async def read(self, *, after: Position, limit: int) -> Page:
        return await super().read(after=after, limit=10**6)


@must_fail(BroadcastLogSuite)
class NeverAnnounced(MemoryBroadcastLog):
    """Nobody hears of a broadcast."""

    @asynccontextmanager
    @override
    async def _watch(self, heard: Callable[[Event | None], None]) -> AsyncGenerator[Position]:
        yield await self.top()


@must_fail(BroadcastLogSuite)
class AnnouncedBackwards(MemoryBroadcastLog):
    """Announcements overtake each other."""

    @asynccontextmanager
    @override
    async def _watch(self, heard: Callable[[Event | None], None]) -> AsyncGenerator[Position]:
        waiting: list[Event] = []

        def later(event: Event | None) -> None:
            if event is None:
                heard(None)
                return
            waiting.append(event)
            if len(waiting) == 5:
                for one in reversed(waiting):
                    heard(one)

        async with super()._watch(later) as top:
            yield top


@must_fail(BroadcastLogSuite)
class ListenedToForEver(MemoryBroadcastLog):
    """Whoever has left goes on hearing."""

    @asynccontextmanager
    @override
    async def _watch(self, heard: Callable[[Event | None], None]) -> AsyncGenerator[Position]:
        self._data.broadcast_listeners._by_key[""].append(heard)
        yield await self.top()


@must_fail(BroadcastLogSuite)
class UnboundedBroadcasts(MemoryData):
    """The log of the broadcasts grows for ever."""

    @override
    def broadcast_log(self) -> SessionLog:
        if self.broadcasts is None:
            self.broadcasts = SessionLog(max_events=10**9, max_bytes=10**12)
        return self.broadcasts


@must_fail(BroadcastLogSuite)
class BroadcastsWithoutAnEpoch(MemoryData):
    """Every life of the log has the same name."""

    @override
    def broadcast_log(self) -> SessionLog:
        log = super().broadcast_log()
        log._epoch = "one"
        return log


@must_fail(BroadcastLogSuite)
class ForgetsWhereTheBroadcastsWere(MemorySessionStore):
    """A session is opened as if nothing had been broadcast."""

    @override
    async def open(self, facts: SessionFacts, *, limit: int | None) -> None:
        await super().open(replace(facts, broadcast=GENESIS), limit=limit)


@must_fail(BroadcastLivesSuite)
class BroadcastsOfTwoLivesInOne(MemoryData):
    """After a failover the epoch stays, and old places are taken for new ones."""

    @override
    def fail_over(self, keep: int | None = None) -> None:
        epoch = self.broadcast_log()._epoch
        super().fail_over(keep)
        self.broadcast_log()._epoch = epoch


@must_fail(BroadcastLivesSuite)
class BroadcastsStartAnew(MemoryData):
    """After a failover nothing is left."""

    @override
    def fail_over(self, keep: int | None = None) -> None:
        super().fail_over(keep)
        self.broadcasts = None


@must_fail(BroadcastLivesSuite)
class BroadcastFencesForgotten(MemoryData):
    """After a failover every old place is lost."""

    @override
    def fail_over(self, keep: int | None = None) -> None:
        super().fail_over(keep)
        if self.broadcasts is not None:
            self.broadcasts._fences.clear()

# pyright: reportPrivateUsage=false
"""Broken claims of the standalone stream."""

from dataclasses import replace

import anyio
from typing_extensions import override

from holdfast.backends.memory.event_log import MemoryEventLog
from holdfast.sessions.types import STANDALONE, Claim, Position, Renewed, SessionId
from holdfast.testing.conformance import ClaimSuite
from tests.mutants.catalogue import must_fail


@must_fail(ClaimSuite)
class DisplacesNobody(MemoryEventLog):
    """The reader before is not named, so it goes on reading."""

    @override
    async def claim(self, session: SessionId, reader: str, *, after: Position | None) -> Claim:
        return replace(await super().claim(session, reader, after=after), displaced=None)


@must_fail(ClaimSuite)
class FirstReaderStartsAtTheTop(MemoryEventLog):
    """What was said before the first GET is lost."""

    @override
    async def claim(self, session: SessionId, reader: str, *, after: Position | None) -> Claim:
        claim = await super().claim(session, reader, after=after)
        return replace(claim, start=self._data.live(session).log.top) if after is None else claim


@must_fail(ClaimSuite)
class EveryReaderStartsAtZero(MemoryEventLog):
    """A new reader hears everything again."""

    @override
    async def claim(self, session: SessionId, reader: str, *, after: Position | None) -> Claim:
        claim = await super().claim(session, reader, after=after)
        return replace(claim, start=replace(claim.start, offset=0)) if after is None else claim


@must_fail(ClaimSuite)
class RenewingNamesNobody(MemoryEventLog):
    """A reader whose displacement was not heard of reads on for ever."""

    @override
    def _renew(self, session: SessionId) -> Renewed | None:
        renewed = super()._renew(session)
        return renewed and replace(renewed, reader=None)


@must_fail(ClaimSuite)
class PositionOfTheReaderIgnored(MemoryEventLog):
    """`after` is not looked at."""

    @override
    async def claim(self, session: SessionId, reader: str, *, after: Position | None) -> Claim:
        return await super().claim(session, reader, after=None)


@must_fail(ClaimSuite)
class UnansweredForgotten(MemoryEventLog):
    """A new reader never hears of the requests that still wait."""

    @override
    async def claim(self, session: SessionId, reader: str, *, after: Position | None) -> Claim:
        return replace(await super().claim(session, reader, after=after), unanswered=())


@must_fail(ClaimSuite)
class AnsweredAskedAgain(MemoryEventLog):
    """A new reader is asked what was answered already."""

    @override
    async def claim(self, session: SessionId, reader: str, *, after: Position | None) -> Claim:
        claim = await super().claim(session, reader, after=after)
        found = self._data.live(session)
        offsets = sorted(waiting.offset or 0 for waiting in found.waiting.values())
        unanswered = found.log.events_at(offsets, STANDALONE) if claim.unanswered else ()
        return replace(claim, unanswered=unanswered)


@must_fail(ClaimSuite)
class NobodyWaits(MemoryEventLog):
    """Two living readers evict each other for ever."""

    @override
    async def claim(self, session: SessionId, reader: str, *, after: Position | None) -> Claim:
        found = self._data.live(session)
        found.holder = found.holder and replace(found.holder, since=float("-inf"))
        return await super().claim(session, reader, after=after)


@must_fail(ClaimSuite)
class WaitingTakesAnyway(MemoryEventLog):
    """Who is told to wait has taken the stream all the same."""

    @override
    async def claim(self, session: SessionId, reader: str, *, after: Position | None) -> Claim:
        claim = await super().claim(session, reader, after=after)
        found = self._data.live(session)
        found.holder = found.holder and replace(found.holder, replica=self._replica, reader=reader)
        return claim


@must_fail(ClaimSuite)
class WaitNeverEnds(MemoryEventLog):
    """Being refused starts the time anew, and the wait that is named is too short."""

    @override
    async def claim(self, session: SessionId, reader: str, *, after: Position | None) -> Claim:
        claim = await super().claim(session, reader, after=after)
        found = self._data.live(session)
        if claim.wait_seconds and found.holder:
            found.holder = replace(found.holder, since=self._data.clock())
            return replace(claim, wait_seconds=claim.wait_seconds / 2)
        return claim


@must_fail(ClaimSuite)
class DisplacesItself(MemoryEventLog):
    """A reader that asks again is told that it was displaced by itself."""

    @override
    async def claim(self, session: SessionId, reader: str, *, after: Position | None) -> Claim:
        claim = await super().claim(session, reader + str(self._data.live(session).holder), after=after)
        self._data.live(session).holder = (
            replace(h, reader=reader)
            if (h := self._data.live(session).holder) and not claim.wait_seconds
            else h
        )
        return claim


@must_fail(ClaimSuite)
class ClaimInTwoSteps(MemoryEventLog):
    """Two readers may both find the stream free."""

    @override
    async def claim(self, session: SessionId, reader: str, *, after: Position | None) -> Claim:
        before = self._data.live(session).holder
        await anyio.lowlevel.checkpoint()
        self._data.live(session).holder = before
        return await super().claim(session, reader, after=after)

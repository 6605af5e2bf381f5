"""Writers that go on through faults, and what they may expect afterwards."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import anyio

from holdfast.backends.redis import RedisBackend
from holdfast.errors import PositionLost, StoreUnavailable
from holdfast.sessions.types import STANDALONE, AppendKey, Event, Position, SessionId
from holdfast.testing.conformance.harness import new_session, top_of
from tests.backends.redis.waiting import until


@dataclass
class Load:
    """Appends under idempotency keys to several sessions, each again and again until it is acknowledged."""

    backend: RedisBackend
    sessions: list[SessionId] = field(default_factory=list[SessionId])
    starts: dict[SessionId, Position] = field(default_factory=dict[SessionId, Position])
    stored: dict[SessionId, list[Event]] = field(
        default_factory=lambda: defaultdict[SessionId, list[Event]](list)
    )
    refusals: int = 0
    ending: bool = False

    async def open(self, count: int) -> None:
        for _ in range(count):
            session = await new_session(self.backend)
            self.sessions.append(session)
            self.starts[session] = await top_of(self.backend, session)

    async def write(self, session: SessionId) -> None:
        counter = 0
        while not self.ending:
            counter += 1
            await self.append(session, counter)
            await anyio.sleep(0.002)

    async def append(self, session: SessionId, counter: int) -> None:
        key = AppendKey(f"w{self.sessions.index(session)}", counter)
        while True:
            try:
                event = await self.backend.log.append(session, STANDALONE, b"%d" % counter, key=key)
            except StoreUnavailable:
                self.refusals += 1
                continue
            self.stored[session].append(event)
            return

    async def more(self, count: int) -> None:
        """Return when each session has so many more events, and has them from now."""
        goal = {session: len(self.stored[session]) + count for session in self.sessions}
        await until(lambda: all(len(self.stored[session]) >= goal[session] for session in self.sessions))

    async def check_nothing_lost(self, reader: RedisBackend) -> None:
        """Everything that was acknowledged is there, once, and a reader from the start gets it all."""
        for session in self.sessions:
            events, gaps = await read_on(reader, session, self.starts[session])
            assert gaps == 0
            assert [int(event.payload) for event in events] == list(range(1, len(events) + 1))
            assert len(events) == len(self.stored[session])

    async def check_losses_are_told(self, reader: RedisBackend) -> int:
        """What survived is there once, in order; whoever saw something that did not is told. Returns gaps."""
        told = 0
        for session in self.sessions:
            there, _ = await read_on(reader, session, self.starts[session])
            numbers = [int(event.payload) for event in there]
            assert len(set(numbers)) == len(numbers), "doubled"
            assert numbers == sorted(numbers), "out of order"
            survived = set(numbers)
            lost = [event for event in self.stored[session] if int(event.payload) not in survived]
            if lost:
                assert lost[-1].position.epoch != there[-1].position.epoch
                _, gaps = await read_on(reader, session, lost[-1].position)
                assert gaps, "lost in silence"
                told += 1
            for event in self.stored[session]:
                if int(event.payload) in survived:
                    after, _ = await read_on(reader, session, event.position)
                    assert [int(each.payload) for each in after] == [
                        n for n in numbers if n > int(event.payload)
                    ]
                    break
        return told


async def read_on(reader: RedisBackend, session: SessionId, cursor: Position) -> tuple[list[Event], int]:
    """All events after a position, going on behind gaps; and how many gaps were told."""
    events: list[Event] = []
    gaps = 0
    while True:
        try:
            page = await reader.log.read(session, STANDALONE, after=cursor, limit=500)
        except PositionLost as lost:
            if not lost.resume_epoch:
                raise
            cursor = Position(lost.resume_epoch, lost.resume_offset)
            gaps += 1
            continue
        events += page.events
        cursor = page.cursor
        if page.complete:
            return events, gaps

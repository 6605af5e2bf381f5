"""Two logs on one stream: every event of both, once, each log in its order, whatever the announcements do."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, cast

import anyio
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from holdfast.backends.memory import MemoryBackend, MemoryData
from holdfast.errors import PositionLost
from holdfast.sessions.broadcasts import Broadcasts, Listening
from holdfast.sessions.event_id import decode_event_id
from holdfast.sessions.hub import Hub
from holdfast.sessions.protocols import BroadcastLog
from holdfast.sessions.tail import Tail
from holdfast.sessions.types import (
    BROADCAST,
    GENESIS,
    STANDALONE,
    Event,
    Page,
    Position,
    ReplicaId,
    SessionFacts,
    SessionId,
)

SESSION: Final = SessionId("s")
HERE: Final = ReplicaId("here")


class LossyLog:
    """A broadcast log whose announcements arrive when the test says so, if at all."""

    def __init__(self, inner: BroadcastLog) -> None:
        self.inner = inner
        self.announced: list[Event] = []
        self.reads = 0
        self.heard: Callable[[Event | None], None] = lambda event: None
        self.top, self.append = inner.top, inner.append

    async def read(self, *, after: Position, limit: int) -> Page:
        self.reads += 1
        return await self.inner.read(after=after, limit=min(limit, 3))

    def watch(self, heard: Callable[[Event | None], None]) -> AbstractAsyncContextManager[Position]:
        return self._watch(heard)

    @asynccontextmanager
    async def _watch(self, heard: Callable[[Event | None], None]) -> AsyncGenerator[Position]:
        self.heard = heard

        def note(event: Event | None) -> None:
            if event is not None:
                self.announced.append(event)

        async with self.inner.watch(note) as top:
            yield top


class World:
    """Another replica that writes, and this process with one reader."""

    def __init__(self) -> None:
        self.data = MemoryData(max_events=1000)
        self.data.add(SessionFacts(SESSION, None, "2025-11-25", b"{}", 60.0))
        self.other = MemoryBackend(self.data)
        self.hub = Hub()
        self.log = LossyLog(self.other.broadcasts)
        self.broadcasts = Broadcasts(cast("BroadcastLog", self.log), self.hub, HERE)
        self.sent: dict[bool, list[bytes]] = {True: [], False: []}
        self.got: list[Event] = []
        self.ids: list[str] = []
        self.gaps = 0
        self.reader = self.hub.open(SESSION, STANDALONE, "t")
        self.tail: Tail
        self.follow(self.start(), GENESIS)

    def start(self) -> Position:
        return self.data.live(SESSION).log.position(0)

    def follow(self, after: Position, heard: Position) -> None:
        self.hub.release(self.reader)
        self.reader = self.hub.open(SESSION, STANDALONE, "t")

        async def no_orphans(_state: object, _epoch: str) -> bool:
            return False

        self.tail = Tail(self.other.log, self.reader, after, end_orphan=no_orphans, replica=HERE)
        self.tail.listening = Listening(self.broadcasts, heard)

    async def say(self, *, to_all: bool) -> None:
        payload = b"%d" % len(self.sent[to_all])
        self.sent[to_all].append(payload)
        if to_all:
            await self.other.broadcasts.append(payload)
        else:
            await self.other.log.append(SESSION, STANDALONE, payload)
            self.reader.wake()

    def announce(self, number: int) -> None:
        if self.log.announced:
            self.log.heard(self.log.announced[number % len(self.log.announced)])

    async def read(self) -> None:
        while not self.reader.closed:
            await self.read_some()

    async def read_some(self) -> None:
        tail = self.tail
        try:
            events = await tail.next()
        except PositionLost as lost:
            self.gaps += tail.go_on_behind(lost)
            return
        self.got += events
        self.ids += [tail.id_of(event) for event in events]

    def payloads(self, *, to_all: bool) -> list[bytes]:
        return [event.payload for event in self.got if (event.stream == BROADCAST) is to_all]

    @property
    def done(self) -> bool:
        return all(len(self.payloads(to_all=which)) >= len(self.sent[which]) for which in (True, False))


async def play(world: World, script: list[str | int]) -> None:
    """Do what a script says, then heal, and wait until everything has arrived."""
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks, world.broadcasts.listening():
            tasks.start_soon(world.broadcasts.run)
            reading = anyio.CancelScope()

            async def read() -> None:
                with reading:
                    await world.read()

            tasks.start_soon(read)
            for action in script:
                await anyio.wait_all_tasks_blocked()
                if action == "a":
                    await world.say(to_all=False)
                elif action == "b":
                    await world.say(to_all=True)
                elif action == "n":
                    world.log.heard(None)
                elif action == "c" and world.ids:  # the client comes back with the last id that it saw
                    reading.cancel()
                    await anyio.wait_all_tasks_blocked()
                    _, after, heard = decode_event_id(world.ids[-1])
                    world.follow(after, heard)
                    reading = anyio.CancelScope()
                    tasks.start_soon(read)
                elif isinstance(action, int):
                    world.announce(action)
            await anyio.wait_all_tasks_blocked()
            await world.broadcasts.top()  # as upkeep does
            world.hub.wake(SESSION)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()


@settings(max_examples=150, deadline=None)
@given(st.lists(st.one_of(st.sampled_from("aabbbcn"), st.integers(0, 40)), max_size=40))
@example(["b", "b", 1, 0, 0, 1])
@example(["b", 0, "a", "c", "b", "b", 2, "c"])
@example(["a", "b", "c", 0, "n", "b"])
def test_both_logs_arrive_whole_and_in_order(script: list[str | int]) -> None:
    world = World()
    anyio.run(play, world, script, backend="trio")
    assert world.payloads(to_all=True) == world.sent[True]
    assert world.payloads(to_all=False) == world.sent[False]
    assert world.gaps == 0
    assert len(set(world.ids)) == len(world.ids)


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.sampled_from("aabbb"), min_size=1, max_size=20),
    st.integers(0, 19),
)
def test_any_id_names_exactly_the_rest_of_both(script: list[str | int], cut: int) -> None:
    world = World()
    anyio.run(play, world, script, backend="trio")
    cut %= len(world.ids)
    before = world.got[: cut + 1]
    again = World()
    again.data, again.other, again.sent = world.data, world.other, world.sent
    again.log = LossyLog(world.other.broadcasts)
    again.broadcasts = Broadcasts(cast("BroadcastLog", again.log), again.hub, HERE)
    _, after, heard = decode_event_id(world.ids[cut])
    again.follow(after, heard)
    anyio.run(play, again, list[str | int](), backend="trio")
    again.got = before + again.got
    for which in (True, False):
        assert again.payloads(to_all=which) == world.sent[which]


async def test_announced_broadcasts_need_no_read() -> None:
    world = World()
    async with world.broadcasts.listening():
        first = world.log.reads
        for number in range(100):
            await world.say(to_all=True)
            world.announce(number)
        held = world.broadcasts.held_after(GENESIS)
        assert held is not None
        assert [event.payload for event in held] == world.sent[True]
        assert world.log.reads == first


async def test_what_is_held_is_bounded_and_who_is_behind_reads() -> None:
    world = World()
    async with world.broadcasts.listening():
        for number in range(600):
            await world.say(to_all=True)
            world.announce(number)
        assert world.broadcasts.held_after(GENESIS) is None
        held = world.broadcasts.held_after(Position(world.log.announced[-1].position.epoch, 590))
        assert held is not None
        assert len(held) == 10
        await _hears(world, 600)


async def test_after_a_failover_nothing_that_survived_is_lost_or_doubled() -> None:
    world = World()
    async with anyio.create_task_group() as tasks, world.broadcasts.listening():
        tasks.start_soon(world.broadcasts.run)
        for number in range(5):
            await world.say(to_all=True)
            world.announce(number)
        await _hears(world, 5)
        world.data.fail_over()
        world.log.heard(None)
        await world.say(to_all=True)
        world.announce(5)
        await _hears(world, 6)
        tasks.cancel_scope.cancel()
    assert world.payloads(to_all=True) == world.sent[True]
    assert world.gaps == 0


async def test_what_a_failover_lost_is_told() -> None:
    world = World()
    async with anyio.create_task_group() as tasks, world.broadcasts.listening():
        tasks.start_soon(world.broadcasts.run)
        for number in range(5):
            await world.say(to_all=True)
            world.announce(number)
        await _hears(world, 5)
        world.data.fail_over(3)
        await world.say(to_all=True)
        world.log.heard(None)
        await _hears(world, 6)
        tasks.cancel_scope.cancel()
    assert world.gaps == 1
    assert world.payloads(to_all=True) == world.sent[True]


@pytest.mark.parametrize("anyio_backend", ["asyncio"])
async def test_waking_many_readers_lets_others_have_their_turn() -> None:
    """Between two batches the event loop goes on: nobody waits for all of them."""
    world = World()
    for number in range(1_000):
        world.hub.open(SessionId(f"s{number}"), STANDALONE, "t")
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(count)
        await world.broadcasts.wake_readers()
        tasks.cancel_scope.cancel()
    assert turns > 20


async def _hears(world: World, number: int) -> None:
    with anyio.fail_after(5):
        while len(world.payloads(to_all=True)) < number:
            await world.read_some()

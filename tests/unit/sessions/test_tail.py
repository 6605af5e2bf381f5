"""The tail of a stream: no gap and no duplicate, whatever comes before or after what."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, cast

import anyio
import anyio.lowlevel
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from holdfast.backends.memory import MemoryBackend, MemoryData
from holdfast.errors import PositionLost, SessionGone, StoreUnavailable
from holdfast.sessions.hub import Hub, Reader
from holdfast.sessions.protocols import EventLog
from holdfast.sessions.tail import Tail
from holdfast.sessions.types import (
    STANDALONE,
    Event,
    Page,
    Position,
    ReplicaId,
    SessionId,
    StreamId,
    StreamState,
)
from holdfast.testing.conformance.harness import new_facts
from holdfast.testing.faults import FaultyBackend

SESSION: Final = SessionId("s")
STREAM: Final = StreamId("stream")
OTHER: Final = StreamId("other")
HERE: Final = ReplicaId("here")
THERE: Final = ReplicaId("there")


@dataclass
class Pending:
    """A read under way: the store looks, and later the answer arrives."""

    looked: anyio.Event = field(default_factory=anyio.Event)
    arrived: anyio.Event = field(default_factory=anyio.Event)


class ScriptedLog:
    """A log whose reads go on only when the test says so."""

    def __init__(self, *, page_size: int = 500, writer: ReplicaId | None = HERE) -> None:
        self.events: list[Event] = []
        self.top = 0
        self.running = True
        self.reads = 0
        self.pending: Pending | None = None
        self.scripted = True
        self.failure: Exception | None = None
        self._page_size = page_size
        self._writer = writer

    def append(self, *, final: bool = False, stream: StreamId = STREAM) -> Event:
        self.top += 1
        previous = max((e.position.offset for e in self.events if e.stream == stream), default=0)
        event = Event(stream, Position("e", self.top), previous, b"%d" % self.top, final)
        self.events.append(event)
        self.running = self.running and not final
        return event

    async def read(self, session: SessionId, stream: StreamId, *, after: Position, limit: int) -> Page:
        self.reads += 1
        if self.failure is not None:
            raise self.failure
        if self.scripted:
            self.pending = pending = Pending()
            await pending.looked.wait()
            page = self._page(stream, after, min(limit, self._page_size))
            await pending.arrived.wait()
            return page
        return self._page(stream, after, min(limit, self._page_size))

    def _page(self, stream: StreamId, after: Position, limit: int) -> Page:
        rest = [e for e in self.events if e.stream == stream and e.position.offset > after.offset]
        events, complete = rest[:limit], len(rest) <= limit
        cursor = Position("e", self.top) if complete else events[-1].position
        return Page(events, cursor, complete, StreamState(self.running, self._writer, 1))


def make_tail(log: ScriptedLog, *, orphans: "list[StreamState] | None" = None) -> tuple[Tail, Reader, Hub]:
    hub = Hub()
    reader = hub.open(SESSION, STREAM, "t")

    async def end_orphan(stream: StreamState, _epoch: str) -> bool:
        if orphans is None:
            return False
        orphans.append(stream)
        log.append(final=True)
        return True

    tail = Tail(cast("EventLog", log), reader, Position("e", 0), end_orphan=end_orphan, replica=HERE)
    return tail, reader, hub


async def collect(tail: Tail, into: list[int]) -> None:
    while not tail.ended:
        into += [event.position.offset for event in await tail.next()]


class Explorer:
    """One run: events are appended, handed, hinted at and read in the order that a script says.

    On trio, which knows at once when all tasks wait.
    """

    def __init__(self, *, page_size: int, live: bool) -> None:
        self.log = ScriptedLog(page_size=page_size)
        self.tail, self.reader, self.hub = make_tail(self.log)
        if live:
            self.tail.start_live()
        self.unhanded: list[Event] = []
        self.dropped = False
        self.got: list[int] = []

    def append(self) -> None:
        self.unhanded.append(self.log.append())

    def append_elsewhere(self) -> None:
        """Another stream of the session: the offsets of ours have holes that are none."""
        self.log.append(stream=OTHER)

    def hand(self) -> None:
        if self.unhanded:
            self.hub.hand(SESSION, self.unhanded.pop(0))

    def drop(self) -> None:
        """This one was written by another replica: it is not handed, and only a hint tells of it."""
        if self.unhanded:
            self.unhanded.pop(0)
            self.dropped = True

    def hint(self) -> None:
        self.hub.wake(SESSION)

    def look(self) -> None:
        if self.log.pending is not None:
            self.log.pending.looked.set()

    def arrive(self) -> None:
        if self.log.pending is not None:
            self.log.pending.looked.set()
            self.log.pending.arrived.set()

    async def run(self, script: str) -> None:
        actions = {
            "a": self.append,
            "o": self.append_elsewhere,
            "h": self.hand,
            "d": self.drop,
            "w": self.hint,
            "l": self.look,
            "r": self.arrive,
        }
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(collect, self.tail, self.got)
                for action in script:
                    await anyio.wait_all_tasks_blocked()
                    actions[action]()
                await self.end()

    async def end(self) -> None:
        """Whatever was left open comes to its end: the final event, and a hint for what was never handed."""
        self.unhanded.append(self.log.append(final=True))
        while self.unhanded:
            await anyio.wait_all_tasks_blocked()
            self.hand()
        if self.dropped:
            self.hint()
        self.log.scripted = False
        await anyio.wait_all_tasks_blocked()
        self.arrive()

    @property
    def expected(self) -> list[int]:
        return [event.position.offset for event in self.log.events if event.stream == STREAM]


@pytest.mark.guarantee("G6")
@settings(max_examples=400, deadline=None)
@given(
    st.text("aohdwlr", max_size=24),
    st.sampled_from([1, 2, 500]),
)
@example("alahr", 500)  # appended between the look and the arrival, and handed before it
@example("alrhah", 500)
@example("aadh", 1)
@example("lawr", 500)  # hinted while a read is under way that did not see it
@example("ladwr", 1)
@example("aoahh", 500)
def test_every_order_gives_every_event_once_and_in_order(script: str, page_size: int) -> None:
    explorer = Explorer(page_size=page_size, live=False)
    anyio.run(explorer.run, script, backend="trio")
    assert explorer.got == explorer.expected


@settings(max_examples=200, deadline=None)
@given(st.text("aohlr", max_size=20))
def test_the_writers_own_reader_misses_nothing_and_need_not_read(script: str) -> None:
    """Everything in its stream was appended here and handed over."""
    explorer = Explorer(page_size=500, live=True)
    anyio.run(explorer.run, script, backend="trio")
    assert explorer.got == explorer.expected
    assert explorer.log.reads == 0


@settings(max_examples=100, deadline=None)
@given(st.text("aohwlr", max_size=16), st.integers(1, 12))
def test_being_cancelled_at_any_moment_loses_nothing(script: str, after: int) -> None:
    """As a keepalive does: the wait is given up and begun again."""

    async def run() -> tuple[list[int], list[int]]:
        log = ScriptedLog()
        log.scripted = False
        tail, _, hub = make_tail(log)
        explorer = Explorer(page_size=500, live=False)
        explorer.log, explorer.tail, explorer.hub = log, tail, hub
        got: list[int] = []
        scopes: list[anyio.CancelScope] = []

        async def impatient() -> None:
            while not tail.ended:
                with anyio.CancelScope() as scope:
                    scopes.append(scope)
                    got.extend(event.position.offset for event in await tail.next())

        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(impatient)
                for number, action in enumerate(script):
                    await anyio.lowlevel.checkpoint()
                    if number % after == 0 and scopes:
                        scopes[-1].cancel()
                    {
                        "a": explorer.append,
                        "o": explorer.append_elsewhere,
                        "h": explorer.hand,
                        "w": explorer.hint,
                        "l": explorer.look,
                        "r": explorer.arrive,
                    }[action]()
                await explorer.end()
        return got, explorer.expected

    got, expected = anyio.run(run, backend="trio")
    assert got == expected


@settings(max_examples=200, deadline=None)
@given(st.lists(st.one_of(st.sampled_from("aolrw"), st.integers(0, 30)), max_size=40), st.integers(1, 3))
@example(["a", "a", 1, 0, 0, 1], 1)  # the second before the first, and both again
@example(["a", "r", 0, "a", "a", 2, "r", 1], 1)
@example(["a", "o", "a", "a", "r", 2, 1, 0], 3)
def test_announcements_in_any_order_give_every_event_once_and_in_order(
    script: list[str | int], page_size: int
) -> None:
    """A number is the announcement of the event with that number: late, again, out of order, or never."""

    async def run() -> Explorer:
        explorer = Explorer(page_size=page_size, live=False)
        actions: dict[str, Callable[[], object]] = {
            "a": explorer.log.append,
            "o": explorer.append_elsewhere,
            "w": explorer.hint,
            "l": explorer.look,
            "r": explorer.arrive,
        }
        with anyio.fail_after(5):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(collect, explorer.tail, explorer.got)
                for action in script:
                    await anyio.wait_all_tasks_blocked()
                    if isinstance(action, str):
                        actions[action]()
                    elif explorer.log.events:
                        explorer.reader.hear(explorer.log.events[action % len(explorer.log.events)])
                explorer.dropped = True
                await explorer.end()
        return explorer

    explorer = anyio.run(run, backend="trio")
    assert explorer.got == explorer.expected


async def _next(tail: Tail) -> list[int]:
    with anyio.fail_after(5):
        return [event.position.offset for event in await tail.next()]


async def test_more_handed_events_than_fit_are_read_from_the_log() -> None:
    log = ScriptedLog()
    log.scripted = False
    tail, _, hub = make_tail(log)
    tail.start_live()
    for _ in range(200):
        hub.hand(SESSION, log.append())
    got: list[int] = []
    while len(got) < 200:
        got += await _next(tail)
    assert got == list(range(1, 201))
    assert log.reads == 1


async def test_an_event_of_another_life_of_the_log_is_not_taken_on_trust() -> None:
    log = ScriptedLog()
    log.scripted = False
    tail, _, hub = make_tail(log)
    tail.start_live()
    hub.hand(SESSION, log.append())
    assert await _next(tail) == [1]
    log.failure = PositionLost("failover", resume_epoch="f")
    hub.hand(SESSION, Event(STREAM, Position("f", 2), 1, b"x"))
    with pytest.raises(PositionLost):
        await _next(tail)


async def test_a_failed_read_is_made_again_from_the_same_place() -> None:
    log = ScriptedLog()
    log.scripted = False
    tail, _, _ = make_tail(log)
    log.append()
    log.failure = StoreUnavailable("down")
    for _ in range(3):
        with pytest.raises(StoreUnavailable):
            await _next(tail)
    log.failure = None
    assert await _next(tail) == [1]


async def test_the_end_of_the_session_is_raised() -> None:
    log = ScriptedLog()
    log.failure = SessionGone("gone")
    tail, _, _ = make_tail(log)
    with pytest.raises(SessionGone):
        await _next(tail)


async def test_a_closed_reader_waits_for_nothing() -> None:
    log = ScriptedLog()
    log.scripted = False
    tail, reader, hub = make_tail(log)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_expect_nothing, tail)
        await anyio.wait_all_tasks_blocked()
        hub.close(SESSION)
    assert reader.closed
    assert await _next(tail) == []


async def test_a_message_that_could_not_be_stored_interrupts_the_wait() -> None:
    log = ScriptedLog()
    log.scripted = False
    tail, reader, hub = make_tail(log)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_expect_nothing, tail)
        await anyio.wait_all_tasks_blocked()
        assert hub.hand_unlogged(SESSION, STREAM, b"x")
    assert list(reader.unlogged) == [b"x"]


async def test_a_stream_whose_writer_is_gone_is_ended_for_it() -> None:
    log, orphans = ScriptedLog(writer=THERE), list[StreamState]()
    log.scripted = False
    tail, reader, _ = make_tail(log, orphans=orphans)
    assert await _next(tail) == [1]
    assert tail.ended
    assert reader.writer == THERE
    assert [state.replica for state in orphans] == [THERE]


async def test_a_stream_of_this_replica_is_never_taken_for_an_orphan() -> None:
    log, orphans = ScriptedLog(writer=HERE), list[StreamState]()
    log.scripted = False
    tail, _, hub = make_tail(log, orphans=orphans)
    got: list[int] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(collect, tail, got)
        await anyio.wait_all_tasks_blocked()
        hub.hand(SESSION, log.append(final=True))
    assert got == [1]
    assert orphans == []


async def test_what_is_there_already_is_returned_without_waiting() -> None:
    log = ScriptedLog()
    log.scripted = False
    tail, _, _ = make_tail(log)
    assert list(await tail.first()) == []
    log.append()
    assert [event.position.offset for event in await tail.first()] == [1]
    assert tail.cursor == Position("e", 1)


async def _expect_nothing(tail: Tail) -> None:
    assert await _next(tail) == []


async def test_a_thousand_missed_events_are_read_at_once() -> None:
    store = FaultyBackend(MemoryBackend(MemoryData(max_events=1_000)))
    facts = new_facts()
    await store.sessions.open(facts, limit=None)
    for number in range(1_000):
        await store.log.append(facts.id, STANDALONE, b"%d" % number)
    (renewed,) = await store.log.renew([facts.id])
    assert renewed is not None
    store.calls.clear()

    async def nobody_died(_stream: StreamState, _: str) -> bool:
        return False

    reader = Hub().open(facts.id, STANDALONE, "token")
    tail = Tail(store.log, reader, Position(renewed.top.epoch, 0), end_orphan=nobody_died, replica=HERE)
    assert [event.payload for event in await tail.first()] == [b"%d" % number for number in range(1_000)]
    assert await tail.present() == ()
    assert store.calls == ["log.read"]

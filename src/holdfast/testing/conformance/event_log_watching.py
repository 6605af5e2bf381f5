# ruff: noqa: D102 - a test is named by a sentence
"""`EventLog`: being woken."""

import anyio
import pytest

from holdfast.errors import SessionGone
from holdfast.sessions.types import STANDALONE, Event
from holdfast.testing.conformance.harness import (
    PATIENCE_SECONDS,
    Heard,
    StoreUnderTest,
    new_facts,
    new_session,
    new_stream,
    start_of,
    top_of,
)

__all__ = ["WatchSuite"]


class WatchSuite:
    """Hints may be lost in a broken connection, never in a good one."""

    pytestmark = pytest.mark.anyio

    async def test_entering_returns_the_top(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            async with b.log.watch(session, Heard()) as top:
                assert top == await start_of(a, session)
            event = await a.log.append(session, STANDALONE, b"x")
            async with b.log.watch(session, Heard()) as top:
                assert top == event.position

    async def test_whoever_has_entered_misses_nothing(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            for _ in range(10):
                woken = Heard()
                async with b.log.watch(session, woken) as top:
                    event = await a.log.append(session, STANDALONE, b"x")
                    assert event.position.offset == top.offset + 1
                    await woken.once()

    async def test_an_announced_event_is_the_one_that_was_stored(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            streams = [await new_stream(a, session) for _ in range(2)]
            heard = Heard()
            async with b.log.watch(session, heard):
                stored = [
                    await a.log.append(session, stream, payload, final=count == 1)
                    for count in range(2)
                    for stream in (*streams, *([STANDALONE] if not count else []))
                    for payload in (b'{"a": "b c"} \r\n\x00', b"")[: 1 + (not count)]
                ]
                big = await a.log.append(session, STANDALONE, b"x" * 2**20)
                await heard.until(lambda calls: (None,) in calls or (big,) in calls)
            announced = [event for (event,) in heard.calls if event is not None]
            assert [event for event in announced if event not in (*stored, big)] == []
            assert announced == sorted(announced, key=lambda event: event.position.offset)

    async def test_the_writer_is_not_woken_by_its_own_event(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            own, others = Heard(), Heard()
            async with a.log.watch(session, own), b.log.watch(session, others):
                await a.log.append(session, STANDALONE, b"x")
                await others.once()
                await store.advance(0.1)
                assert own.calls == []
                await b.log.append(session, STANDALONE, b"x")
                await own.once()

    async def test_every_watcher_of_every_other_replica_is_woken(self, store: StoreUnderTest) -> None:
        async with store.replicas(3) as (a, b, c):
            session = await new_session(a)
            stream = await new_stream(a, session)
            heard = [Heard() for _ in range(4)]
            async with (
                b.log.watch(session, heard[0]),
                b.log.watch(session, heard[1]),
                c.log.watch(session, heard[2]),
                c.log.watch(session, heard[3]),
            ):
                await a.log.append(session, stream, b"x")
                for woken in heard:
                    await woken.once()

    async def test_other_sessions_wake_nobody(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session, other = await new_session(a), await new_session(a)
            mine, theirs = Heard(), Heard()
            async with b.log.watch(session, mine), b.log.watch(other, theirs):
                await a.log.append(other, STANDALONE, b"x")
                await theirs.once()
                await store.advance(0.1)
                assert mine.calls == []

    async def test_whoever_has_left_is_left_alone_and_the_others_are_not(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            left, stayed = Heard(), Heard()
            async with b.log.watch(session, stayed):
                async with b.log.watch(session, left):
                    pass
                await a.log.append(session, STANDALONE, b"x")
                await stayed.once()
            assert left.calls == []
            async with b.log.watch(session, left):
                await a.log.append(session, STANDALONE, b"x")
                await left.once()

    async def test_watching_creates_no_session(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            facts = new_facts()
            with pytest.raises(SessionGone):
                async with a.log.watch(facts.id, Heard()):
                    raise AssertionError("entered")
            await a.sessions.open(facts, limit=None)

    async def test_replay_and_live_are_one_loop(self, store: StoreUnderTest) -> None:
        number = store.max_events // 2
        async with store.replicas(3) as (a, b, c):
            session = await new_session(a)
            received: list[Event] = []

            async def write() -> None:
                for count in range(number):
                    writer = (a, b)[count % 2]
                    await writer.log.append(session, STANDALONE, b"%d" % count)
                    await anyio.lowlevel.checkpoint()

            with anyio.fail_after(PATIENCE_SECONDS):
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(write)
                    woken = Heard()
                    async with c.log.watch(session, woken):
                        cursor = await start_of(c, session)
                        for _ in range(10 * number):
                            woken.calls.clear()
                            page = await c.log.read(session, STANDALONE, after=cursor, limit=3)
                            received += page.events
                            cursor = page.cursor
                            if len(received) >= number:
                                break
                            if page.complete:
                                await woken.once()
            assert [int(event.payload) for event in received] == list(range(number))

    async def test_renewing_returns_each_top_in_order_and_none_for_what_is_gone(
        self, store: StoreUnderTest
    ) -> None:
        async with store.replicas(2) as (a, b):
            sessions = [await new_session(a) for _ in range(3)]
            events = [await a.log.append(session, STANDALONE, b"x") for session in sessions[:2]]
            await a.sessions.close(sessions[1])
            unknown = new_facts().id
            renewed = await b.log.renew([*sessions, unknown, sessions[0]])
            first, last = events[0].position, await top_of(a, sessions[2])
            tops = [None if each is None else each.top for each in renewed]
            assert tops == [first, None, last, None, first]
            assert last.offset == 0
            assert list(await b.log.renew([])) == []

    async def test_renewing_keeps_a_session_with_a_quiet_reader(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a, ttl_seconds=store.short_seconds)
            woken = Heard()
            async with b.log.watch(session, woken):
                for _ in range(4):
                    await store.advance(store.short_seconds * 0.5)
                    await top_of(b, session)
                await a.log.append(session, STANDALONE, b"x")
                await woken.once()
            await store.advance(store.short_seconds * 1.5)
            assert list(await b.log.renew([session])) == [None]

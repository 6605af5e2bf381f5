# ruff: noqa: D102 - a test is named by a sentence
"""`EventLog`: streams, appending and reading."""

import anyio
import pytest

from holdfast.errors import PositionLost, SessionGone, StoreRefused, StreamClosed, StreamUnknown
from holdfast.sessions.protocols import Backend
from holdfast.sessions.types import (
    STANDALONE,
    AppendKey,
    Event,
    Position,
    RequestId,
    SessionId,
    StreamId,
    StreamState,
)
from holdfast.testing.conformance.harness import (
    HOSTILE_IDS,
    PAYLOADS,
    Heard,
    StoreUnderTest,
    new_facts,
    new_session,
    new_stream,
    read_all,
    start_of,
    top_of,
)

__all__ = ["EventLogSuite"]


class EventLogSuite:
    """Every message to one client, in one dense order given by the store."""

    pytestmark = pytest.mark.anyio

    async def test_offsets_count_one_two_three_over_all_streams(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            stream = await new_stream(a, session)
            events = [
                await a.log.append(session, STANDALONE, b"1"),
                await b.log.append(session, stream, b"2"),
                await b.log.append(session, STANDALONE, b"3"),
                await a.log.append(session, stream, b"4"),
            ]
            assert [event.position.offset for event in events] == [1, 2, 3, 4]
            assert len({event.position.epoch for event in events}) == 1
            assert await top_of(b, session) == events[-1].position

    async def test_fifty_writers_on_two_replicas_make_one_dense_order(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as replicas:
            session = await new_session(replicas[0])
            events: list[Event] = []

            async def write(backend: Backend, number: int) -> None:
                events.append(await backend.log.append(session, STANDALONE, b"%d" % number))

            async with anyio.create_task_group() as tasks:
                for number in range(50):
                    tasks.start_soon(write, replicas[number % 2], number)

            events.sort(key=lambda event: event.position.offset)
            assert [event.position.offset for event in events] == list(range(1, 51))
            assert [event.previous for event in events] == list(range(50))
            assert await read_all(replicas[1], session, STANDALONE) == events

    async def test_what_append_returns_is_what_every_replica_reads(self, store: StoreUnderTest) -> None:
        async with store.replicas(3) as (a, b, c):
            session = await new_session(a)
            stream = await new_stream(b, session)
            first = await a.log.append(session, stream, b"first")
            await c.log.append(session, STANDALONE, b"between")
            last = await b.log.append(session, stream, b"last", final=True)
            assert first == Event(stream, first.position, 0, b"first", final=False)
            assert last == Event(stream, last.position, first.position.offset, b"last", final=True)
            for backend in (a, b, c):
                assert await read_all(backend, session, stream) == [first, last]

    async def test_an_event_knows_the_one_before_it_in_its_own_stream(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            stream = await new_stream(a, session)
            order = (stream, STANDALONE, STANDALONE, stream, stream, STANDALONE)
            for name in order:
                await a.log.append(session, name, b"x")
            assert [event.previous for event in await read_all(b, session, stream)] == [0, 1, 4]
            assert [event.previous for event in await read_all(b, session, STANDALONE)] == [0, 2, 3]

    async def test_payloads_are_kept_to_the_byte(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            for payload in PAYLOADS:
                event = await a.log.append(session, STANDALONE, payload)
                assert event.payload == payload
            assert [event.payload for event in await read_all(b, session, STANDALONE)] == list(PAYLOADS)

    async def test_sessions_share_nothing(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            one, other = await new_session(a), await new_session(b)
            event = await a.log.append(one, STANDALONE, b"one")
            assert (await b.log.append(other, STANDALONE, b"other")).position.offset == 1
            assert await read_all(b, one, STANDALONE) == [event]
            assert (await top_of(a, one)).epoch != (await top_of(a, other)).epoch

    async def test_prefixes_of_session_ids_share_nothing(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            base = new_facts().id
            for tail in ("", "1", "10", "1-log"):
                await new_session(a, id=SessionId(base + tail))
                await a.log.append(SessionId(base + tail), STANDALONE, tail.encode())
            await a.sessions.close(SessionId(base + "1"))
            for tail in ("", "10", "1-log"):
                events = await read_all(a, SessionId(base + tail), STANDALONE)
                assert [event.payload for event in events] == [tail.encode()]

    async def test_the_same_key_stores_once_on_whichever_replica(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            key = AppendKey("writer", 1)
            event = await a.log.append(session, STANDALONE, b"once", key=key)
            assert await a.log.append(session, STANDALONE, b"once", key=key) == event
            assert await b.log.append(session, STANDALONE, b"once", key=key) == event
            second = await a.log.append(session, STANDALONE, b"twice", key=AppendKey("writer", 2))
            assert await b.log.append(session, STANDALONE, b"twice", key=AppendKey("writer", 2)) == second
            assert await read_all(b, session, STANDALONE) == [event, second]

    async def test_a_retry_that_overtakes_the_first_try_stores_once(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as replicas:
            session = await new_session(replicas[0])
            events: list[Event] = []

            async def write(backend: Backend) -> None:
                key = AppendKey("writer", 1)
                events.append(await backend.log.append(session, STANDALONE, b"once", key=key))

            async with anyio.create_task_group() as tasks:
                for number in range(10):
                    tasks.start_soon(write, replicas[number % 2])
            assert len(set(events)) == 1
            assert await read_all(replicas[0], session, STANDALONE) == events[:1]

    async def test_keys_of_other_writers_and_streams_are_other_keys(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = await new_session(a)
            stream = await new_stream(a, session)
            for name in (STANDALONE, stream):
                for writer in ("one", "other"):
                    await a.log.append(session, name, writer.encode(), key=AppendKey(writer, 1))
                events = await read_all(a, session, name)
                assert [event.payload for event in events] == [b"one", b"other"]

    async def test_an_old_key_is_refused_and_stores_nothing(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = await new_session(a)
            for counter in (1, 2):
                await a.log.append(session, STANDALONE, b"x", key=AppendKey("writer", counter))
            with pytest.raises(ValueError):  # noqa: PT011 - a bug of the caller; its wording is free
                await a.log.append(session, STANDALONE, b"x", key=AppendKey("writer", 1))
            assert (await top_of(a, session)).offset == 2

    async def test_the_final_event_sent_twice_is_no_error(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            stream = await new_stream(a, session)
            key = AppendKey("writer", 1)
            event = await a.log.append(session, stream, b"done", key=key, final=True)
            assert await b.log.append(session, stream, b"done", key=key, final=True) == event

    async def test_a_stream_takes_nothing_after_its_final_event(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            stream, other = await new_stream(a, session), await new_stream(a, session)
            final = await a.log.append(session, stream, b"done", final=True)
            for backend in (a, b):
                with pytest.raises(StreamClosed):
                    await backend.log.append(session, stream, b"late")
                with pytest.raises(StreamClosed):
                    await backend.log.append(session, stream, b"late", final=True)
            assert await read_all(b, session, stream) == [final]
            assert (await b.log.append(session, other, b"on")).position.offset == 2

    async def test_one_of_two_final_events_wins(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as replicas:
            session = await new_session(replicas[0])
            stream = await new_stream(replicas[0], session)
            refused: list[StreamClosed] = []

            async def finish(backend: Backend) -> None:
                try:
                    await backend.log.append(session, stream, b"done", final=True)
                except StreamClosed as error:
                    refused.append(error)

            async with anyio.create_task_group() as tasks:
                for number in range(6):
                    tasks.start_soon(finish, replicas[number % 2])
            assert len(refused) == 5
            assert len(await read_all(replicas[1], session, stream)) == 1

    async def test_a_stream_that_nobody_opened_takes_nothing(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session, other = await new_session(a), await new_session(a)
            elsewhere = await new_stream(a, other)
            start = await start_of(a, session)
            for stream in (elsewhere, StreamId("unknown"), *map(StreamId, HOSTILE_IDS)):
                if stream == STANDALONE:
                    continue
                with pytest.raises(StreamUnknown):
                    await a.log.append(session, stream, b"x")
                with pytest.raises(StreamUnknown):
                    await a.log.read(session, stream, after=start, limit=1)
            assert (await top_of(a, session)).offset == 0

    async def test_opening_a_stream_returns_the_position_before_its_first_event(
        self, store: StoreUnderTest
    ) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            await b.log.append(session, STANDALONE, b"before")
            top = await top_of(a, session)
            opened = await a.log.open_stream(session, StreamId("r1"), 7)
            assert opened == top
            event = await a.log.append(session, StreamId("r1"), b"first")
            assert await a.log.open_stream(session, StreamId("r1"), 7) == top
            assert await read_all(b, session, StreamId("r1"), after=opened) == [event]

    async def test_a_stream_is_opened_for_one_request_of_one_replica(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            opened = await a.log.open_stream(session, StreamId("r1"), 1)
            for backend, request_id in ((a, 2), (a, "1"), (b, 1)):
                with pytest.raises(StoreRefused):
                    await backend.log.open_stream(session, StreamId("r1"), request_id)
            page = await b.log.read(session, StreamId("r1"), after=opened, limit=1)
            assert page.stream == StreamState(running=True, replica=a.replica, request_id=1)
            await a.log.append(session, StreamId("r1"), b"x", final=True)
            assert await a.log.open_stream(session, StreamId("r1"), 1) == opened

    async def test_a_stream_knows_its_request_and_its_replica(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            start = await start_of(a, session)
            ids: tuple[RequestId, ...] = (1, "1", "", 0, -5, 2**63, "é🦊\0", "{a}", '"', "null")
            for number, request_id in enumerate(ids):
                await a.log.open_stream(session, StreamId(f"r{number}"), request_id)
            for number, request_id in enumerate(ids):
                page = await b.log.read(session, StreamId(f"r{number}"), after=start, limit=1)
                assert page.stream == StreamState(running=True, replica=a.replica, request_id=request_id)
                assert type(page.stream.request_id) is type(request_id)

    async def test_a_page_shows_whether_the_stream_still_runs(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            stream = await new_stream(a, session)
            start = await start_of(a, session)
            assert (await b.log.read(session, stream, after=start, limit=9)).stream.running
            final = await a.log.append(session, stream, b"done", final=True)
            page = await b.log.read(session, stream, after=start, limit=9)
            assert not page.stream.running
            assert page.stream.replica == a.replica
            again = await b.log.read(session, stream, after=final.position, limit=9)
            assert (list(again.events), again.complete, again.stream.running) == ([], True, False)
            standalone = await b.log.read(session, STANDALONE, after=start, limit=9)
            assert standalone.stream == StreamState(running=True)

    async def test_a_read_returns_the_events_of_its_stream_only(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            streams = [STANDALONE, await new_stream(a, session), await new_stream(a, session)]
            for number in range(12):
                await a.log.append(session, streams[number % 3], b"%d" % number)
            for index, stream in enumerate(streams):
                events = await read_all(b, session, stream)
                assert [int(event.payload) for event in events] == list(range(index, 12, 3))
                assert {event.stream for event in events} == {stream}

    async def test_a_read_begins_after_the_position_and_misses_nothing(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            stream = await new_stream(a, session)
            for number in range(10):
                await a.log.append(session, (STANDALONE, stream)[number % 2], b"x")
            epoch = (await top_of(a, session)).epoch
            for offset in range(11):
                events = await read_all(b, session, stream, after=Position(epoch, offset))
                assert [e.position.offset for e in events] == [n for n in (2, 4, 6, 8, 10) if n > offset]

    async def test_pages_join_without_gap_or_double(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            noise = await new_stream(a, session)
            for number in range(20):
                await a.log.append(session, STANDALONE, b"%d" % number)
                await a.log.append(session, noise, b"noise")
            for limit in (1, 2, 3, 7, 19, 20, 21, 100):
                events = await read_all(b, session, STANDALONE, limit=limit)
                assert [int(event.payload) for event in events] == list(range(20))

    async def test_a_page_is_not_complete_while_more_is_there(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = await new_session(a)
            for number in range(5):
                await a.log.append(session, STANDALONE, b"%d" % number)
            start = await start_of(a, session)
            page = await a.log.read(session, STANDALONE, after=start, limit=4)
            assert len(page.events) == 4
            assert not page.complete
            assert page.cursor == page.events[-1].position
            rest = await a.log.read(session, STANDALONE, after=page.cursor, limit=4)
            assert [event.payload for event in rest.events] == [b"4"]
            assert rest.complete

    async def test_a_cursor_that_passed_over_other_streams_goes_on_with_what_comes(
        self, store: StoreUnderTest
    ) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            stream = await new_stream(a, session)
            await a.log.append(session, stream, b"mine")
            for _ in range(5):
                await a.log.append(session, STANDALONE, b"other")
            page = await b.log.read(session, stream, after=await start_of(b, session), limit=10)
            assert page.complete
            idle = await b.log.read(session, stream, after=page.cursor, limit=10)
            assert (list(idle.events), idle.complete) == ([], True)
            event = await a.log.append(session, stream, b"next")
            assert await read_all(b, session, stream, after=page.cursor) == [event]
            assert event.previous <= page.cursor.offset

    async def test_a_position_of_another_life_or_session_is_refused(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session, other = await new_session(a), await new_session(a)
            for name in (session, other):
                await a.log.append(name, STANDALONE, b"x")
            foreign = await top_of(a, other)
            epochs = (foreign.epoch, "", "0", "*", "é", foreign.epoch.upper() + "x", "x" * 5000)
            for position in (Position(epoch, offset) for epoch in epochs for offset in (0, 1, 7)):
                with pytest.raises(PositionLost) as lost:
                    await b.log.read(session, STANDALONE, after=position, limit=1)
                assert lost.value.reason == "epoch"
                assert not lost.value.resume_epoch, "nothing may be read with a position that was never ours"

    async def test_a_position_that_the_log_has_not_reached_is_refused(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = await new_session(a)
            top = (await a.log.append(session, STANDALONE, b"x")).position
            for ahead in (1, 10**6, 2**62):
                with pytest.raises(PositionLost) as lost:
                    await a.log.read(
                        session, STANDALONE, after=Position(top.epoch, top.offset + ahead), limit=1
                    )
                assert lost.value.reason == "epoch"
                assert not lost.value.resume_epoch

    async def test_without_a_session_nothing_works_and_nothing_is_left_behind(
        self, store: StoreUnderTest
    ) -> None:
        async with store.replicas(1) as (a,):
            facts = new_facts()
            for session in (facts.id, *map(SessionId, HOSTILE_IDS)):
                await assert_gone(a, session)
            assert await a.sessions.count() == 0
            await a.sessions.open(facts, limit=None)
            assert (await top_of(a, facts.id)).offset == 0
            with pytest.raises(StreamUnknown):
                await a.log.append(facts.id, StreamId("r1"), b"x")

    async def test_a_late_handler_does_not_resurrect_a_deleted_session(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            stream = await new_stream(a, session)
            await a.log.append(session, stream, b"x", key=AppendKey("writer", 1))
            assert await b.sessions.close(session)
            with pytest.raises(SessionGone):
                await a.log.append(session, stream, b"x", key=AppendKey("writer", 1))
            await assert_gone(a, session, stream)
            assert await b.sessions.find(session, owner=None, with_facts=True) is None

    async def test_an_expired_session_is_gone_for_the_log_too(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = await new_session(a, ttl_seconds=store.short_seconds)
            stream = await new_stream(a, session)
            await store.advance(store.short_seconds * 1.5)
            await assert_gone(a, session, stream)


async def assert_gone(backend: Backend, session: SessionId, stream: StreamId = STANDALONE) -> None:
    """Each method of the log says that there is no such session."""
    log = backend.log
    with pytest.raises(SessionGone):
        await log.append(session, stream, b"x", key=AppendKey("late", 1), expects="q")
    with pytest.raises(SessionGone):
        await log.append(session, stream, b"x", final=True)
    with pytest.raises(SessionGone):
        await log.open_stream(session, StreamId("r1"), 1)
    with pytest.raises(SessionGone):
        await log.read(session, stream, after=Position("e", 0), limit=1)
    with pytest.raises(SessionGone):
        await log.claim(session, "reader", after=None)
    with pytest.raises(SessionGone):
        async with log.watch(session, Heard()):
            pass
    assert list(await log.renew([session])) == [None]

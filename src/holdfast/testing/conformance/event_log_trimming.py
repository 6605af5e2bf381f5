# ruff: noqa: D102 - a test is named by a sentence
"""`EventLog`: what is dropped when a log is full, and that a reader is told exactly when it must be."""

import pytest

from holdfast.errors import PositionLost, StreamClosed, StreamUnknown
from holdfast.sessions.protocols import Backend
from holdfast.sessions.types import STANDALONE, AppendKey, Event, Position, SessionId, StreamId
from holdfast.testing.conformance.harness import (
    StoreUnderTest,
    new_session,
    new_stream,
    read_all,
    start_of,
    top_of,
)

__all__ = ["TrimmingSuite"]


class TrimmingSuite:
    """Complete or told: a read has everything that was said after a position, or refuses."""

    pytestmark = pytest.mark.anyio

    async def test_a_log_is_bounded_and_keeps_the_newest(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            events = await flood(a, session, STANDALONE, store.max_events * 2)
            kept = await read_after_loss(b, session, STANDALONE)
            assert store.max_events // 2 <= len(kept) <= store.max_events
            assert kept == events[-len(kept) :]

    async def test_the_bound_holds_for_replicas_that_take_turns(self, store: StoreUnderTest) -> None:
        """Each of them counts what the others have appended, also before it knew the session."""
        async with store.replicas(3) as replicas:
            session = await new_session(replicas[0])
            events = await flood(replicas[0], session, STANDALONE, store.max_events)
            for writer in (1, 0, 2, 1):
                events += await flood(replicas[writer], session, STANDALONE, store.max_events // 2)
                kept = await read_after_loss(replicas[2 - writer], session, STANDALONE)
                assert store.max_events // 2 <= len(kept) <= store.max_events
                assert kept == events[-len(kept) :]

    async def test_nothing_is_dropped_before_the_log_is_full(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = await new_session(a)
            events = await flood(a, session, STANDALONE, store.max_events)
            assert await read_all(a, session, STANDALONE) == events

    async def test_the_bound_is_for_all_streams_together(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = await new_session(a)
            streams = [await new_stream(a, session) for _ in range(4)]
            for _ in range(store.max_events):
                for stream in streams:
                    await a.log.append(session, stream, b"x")
            kept = [len(await read_after_loss(a, session, stream)) for stream in streams]
            assert sum(kept) <= store.max_events

    async def test_a_position_is_lost_exactly_when_something_after_it_was_dropped(
        self, store: StoreUnderTest
    ) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            stream = await new_stream(a, session)
            written: list[Event] = []
            for number in range(store.max_events):
                written.append(await a.log.append(session, stream, b"%d" % number))
                await a.log.append(session, STANDALONE, b"x")
            epoch = (await top_of(b, session)).epoch
            resume = await lost_from(b, session, stream, Position(epoch, 0))
            kept = await read_all(b, session, stream, after=Position(epoch, resume))
            dropped = written[: -len(kept)]
            assert [*dropped, *kept] == written
            assert dropped[-1].position.offset <= resume < kept[0].position.offset
            for event in dropped[:-1]:
                assert await lost_from(b, session, stream, event.position) == resume
            assert await read_all(b, session, stream, after=dropped[-1].position) == kept

    async def test_a_busy_stream_loses_no_position_of_a_quiet_one(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            silent = await new_stream(a, session)
            opened = await top_of(a, session)
            quiet = await new_stream(a, session)
            heard = await a.log.append(session, quiet, b"heard")
            await flood(a, session, await new_stream(a, session), store.max_events * 2)
            assert await read_all(b, session, quiet, after=heard.position) == []
            assert await read_all(b, session, silent, after=opened) == []
            assert await read_all(b, session, STANDALONE, after=opened) == []
            late = await a.log.append(session, quiet, b"late")
            assert await read_all(b, session, quiet, after=heard.position) == [late]
            assert late.previous == heard.position.offset

    async def test_a_response_outlives_a_flood_of_others(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            stream = await new_stream(a, session)
            start = await top_of(a, session)
            final = await a.log.append(session, stream, b"done", final=True)
            for noise in (STANDALONE, await new_stream(a, session)):
                await flood(a, session, noise, store.max_events * 2)
            assert await read_all(b, session, stream, after=start) == [final]

    async def test_a_response_outlives_the_progress_before_it(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            stream = await new_stream(a, session)
            start = await top_of(a, session)
            await flood(a, session, stream, store.max_events // 2)
            final = await a.log.append(session, stream, b"done", final=True)
            await flood(a, session, STANDALONE, store.max_events * 2)
            resume = await lost_from(b, session, stream, start)
            assert await read_all(b, session, stream, after=Position(start.epoch, resume)) == [final]

    async def test_an_unanswered_request_outlives_a_flood(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            stream = await new_stream(a, session)
            start = await top_of(a, session)
            asked = await a.log.append(session, stream, b"?", expects="q1")
            asked_alone = await a.log.append(session, STANDALONE, b"?", expects="q2")
            await flood(a, session, await new_stream(a, session), store.max_events * 2)
            assert await read_all(b, session, stream, after=start) == [asked]
            assert await read_all(b, session, STANDALONE, after=start) == [asked_alone]
            assert await b.inbox.put(session, "q1", b"!")

    async def test_a_gap_names_the_requests_in_it_that_still_wait(self, store: StoreUnderTest) -> None:
        """They were spared, and whoever goes on behind the gap would skip them."""
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            stream = await new_stream(a, session)
            start = await top_of(a, session)
            for number, name in enumerate(("seen", "first", "answered", "second")):
                event = await a.log.append(session, stream, b"?%d" % number, expects=name)
                start = event.position if name == "seen" else start
            await a.log.append(session, STANDALONE, b"? on another stream", expects="other")
            await b.inbox.put(session, "answered", b"!")
            await flood(a, session, stream, store.max_events * 2)
            last = await a.log.append(session, stream, b"? behind the gap", expects="third")
            with pytest.raises(PositionLost) as lost:
                await b.log.read(session, stream, after=start, limit=1)
            assert lost.value.unanswered == (b"?1", b"?3")
            resume = Position(lost.value.resume_epoch, lost.value.resume_offset)
            rest = await read_all(b, session, stream, after=resume)
            assert rest[-1] == last
            assert not {event.payload for event in rest} & {b"?0", b"?1", b"?3"}

    async def test_a_busy_request_leaves_the_standalone_stream_its_share(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            start = await start_of(a, session)
            events = await flood(a, session, STANDALONE, 2)
            await flood(a, session, await new_stream(a, session), store.max_events * 2)
            assert await read_all(b, session, STANDALONE, after=start) == events

    async def test_a_closed_stream_without_its_response_is_unknown(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            start = await start_of(a, session)
            streams = [await new_stream(a, session) for _ in range(store.max_events * 2)]
            for stream in streams:
                await a.log.append(session, stream, b"done", final=True)
            for backend in (a, b):
                with pytest.raises(StreamUnknown):
                    await backend.log.read(session, streams[0], after=start, limit=1)
                with pytest.raises((StreamUnknown, StreamClosed)):
                    await backend.log.append(session, streams[0], b"late")
            assert len(await read_all(b, session, streams[-1], after=start)) == 1

    async def test_a_running_stream_stays_known_when_all_of_it_is_dropped(
        self, store: StoreUnderTest
    ) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            stream = await new_stream(a, session)
            start = await top_of(a, session)
            (event,) = await flood(a, session, stream, 1)
            await flood(a, session, await new_stream(a, session), store.max_events * 2)
            assert await lost_from(b, session, stream, start) >= event.position.offset
            late = await b.log.append(session, stream, b"late", final=True)
            assert await read_all(a, session, stream, after=event.position) == [late]
            assert late.previous == event.position.offset

    async def test_a_log_full_of_responses_and_requests_takes_new_events(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            for number in range(store.max_events):
                stream = await new_stream(a, session)
                await a.log.append(session, STANDALONE, b"?", expects=f"q{number}")
                await a.log.append(session, stream, b"done", final=True)
            busy = await new_stream(a, session)
            for stream in (busy, STANDALONE, busy, STANDALONE):
                before = await top_of(a, session)
                event = await a.log.append(session, stream, b"new")
                assert await read_all(b, session, stream, after=before) == [event]

    async def test_bytes_are_bounded_too(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            size = store.max_bytes // 8
            events = await flood(a, session, STANDALONE, 16, payload=b"x" * size)
            kept = await read_after_loss(b, session, STANDALONE)
            assert 4 <= len(kept) <= 8
            assert kept == events[-len(kept) :]

    async def test_a_key_is_remembered_when_its_event_is_dropped(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = await new_session(a)
            key = AppendKey("writer", 1)
            event = await a.log.append(session, STANDALONE, b"x", key=key)
            await flood(a, session, STANDALONE, store.max_events * 2)
            top = await top_of(a, session)
            again = await a.log.append(session, STANDALONE, b"x", key=key)
            assert again.position == event.position
            assert await top_of(a, session) == top


async def flood(
    backend: Backend, session: SessionId, stream: StreamId, number: int, *, payload: bytes = b"noise"
) -> list[Event]:
    """Append many ordinary events."""
    return [await backend.log.append(session, stream, payload) for _ in range(number)]


async def lost_from(backend: Backend, session: SessionId, stream: StreamId, after: Position) -> int:
    """Where to resume, after a read that must be refused because something was dropped."""
    with pytest.raises(PositionLost) as lost:
        await backend.log.read(session, stream, after=after, limit=1)
    assert lost.value.reason == "trimmed"
    assert lost.value.resume_epoch == (await top_of(backend, session)).epoch
    return lost.value.resume_offset


async def read_after_loss(backend: Backend, session: SessionId, stream: StreamId) -> list[Event]:
    """What is left of a stream that has lost something."""
    start = await start_of(backend, session)
    resume = await lost_from(backend, session, stream, start)
    return await read_all(backend, session, stream, after=Position(start.epoch, resume))

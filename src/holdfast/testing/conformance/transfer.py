# ruff: noqa: D102 - a test is named by a sentence
"""`Transfer`: whole sessions out of a store, and into another.

Here both are the same store: a session is restored under another id, and has to be what the first one is.
"""

from dataclasses import replace

import pytest

from holdfast.errors import PositionLost, SessionExists, StreamClosed
from holdfast.sessions.image import AskedImage, SessionImage
from holdfast.sessions.protocols import Backend
from holdfast.sessions.types import STANDALONE, Event, Position, ReplicaId, RequestId, SessionId, StreamId
from holdfast.testing.conformance.harness import (
    PAYLOADS,
    StoreUnderTest,
    new_facts,
    new_session,
    new_stream,
    read_all,
    start_of,
    top_of,
)

__all__ = ["TransferSuite"]

OLD_EPOCH = "0123456789ab"


class TransferSuite:
    """A session that was moved is the session that it was: for its client, for handlers and for operators."""

    pytestmark = pytest.mark.anyio

    async def test_what_is_not_there_cannot_be_dumped(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            assert await a.transfer.dump(SessionId("unknown")) is None
            assert await a.transfer.dump(SessionId("{}")) is None
            session = await new_session(a)
            await a.sessions.close(session)
            assert await a.transfer.dump(session) is None

    async def test_a_session_arrives_as_it_left(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await busy_session(a)
            image = await dumped(a, session)
            copy = await copied(b, image)
            assert await dumped(a, copy.facts.id) == copy

    async def test_every_position_of_every_stream_reads_the_same(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await busy_session(a)
            image = await dumped(a, session)
            copy = (await copied(b, image)).facts.id
            for stream in {each.name for each in image.streams}:
                for offset in range(image.top + 1):
                    position = Position(image.epoch, offset)
                    there = await a.log.read(session, stream, after=position, limit=1000)
                    assert await b.log.read(copy, stream, after=position, limit=1000) == there

    async def test_any_payload_is_moved_as_it_is(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = await new_session(a)
            for payload in PAYLOADS:
                await a.log.append(session, STANDALONE, payload)
            copy = await copied(a, await dumped(a, session))
            events = await read_all(a, copy.facts.id, STANDALONE)
            assert [event.payload for event in events] == list(PAYLOADS)

    async def test_a_request_id_keeps_its_type(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = await new_session(a)
            ids: tuple[RequestId, ...] = (1, "1", "", "a|b;c", "é🦊")
            for number, request_id in enumerate(ids):
                await a.log.open_stream(session, StreamId(f"r{number}"), request_id)
            copy = (await copied(a, await dumped(a, session))).facts.id
            start = await start_of(a, copy)
            for number, request_id in enumerate(ids):
                page = await a.log.read(copy, StreamId(f"r{number}"), after=start, limit=1)
                assert page.stream.request_id == request_id
                assert type(page.stream.request_id) is type(request_id)
                assert page.stream.replica == a.replica

    async def test_the_log_goes_on_where_it_was(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            running, done = await new_stream(a, session), await new_stream(a, session)
            await a.log.append(session, running, b"1")
            await a.log.append(session, done, b"2", final=True)
            copy = (await copied(b, await dumped(a, session))).facts.id
            event = await b.log.append(copy, running, b"3")
            assert (event.position.offset, event.previous) == (3, 1)
            assert event.position.epoch == (await dumped(a, session)).epoch
            with pytest.raises(StreamClosed):
                await b.log.append(copy, done, b"4")
            assert [each.payload for each in await read_all(a, copy, running)] == [b"1", b"3"]

    async def test_what_was_trimmed_stays_a_hole(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = await new_session(a)
            for number in range(store.max_events + 10):
                await a.log.append(session, STANDALONE, b"%d" % number)
            start = await start_of(a, session)
            image = await dumped(a, session)
            copy = (await copied(a, image)).facts.id
            with pytest.raises(PositionLost) as lost:
                await a.log.read(copy, STANDALONE, after=start, limit=10)
            assert lost.value.reason == "trimmed"
            (standalone,) = [stream for stream in image.streams if stream.name == STANDALONE]
            assert lost.value.resume_offset == standalone.trimmed > 0
            rest = Position(image.epoch, standalone.trimmed)
            kept = await read_all(a, copy, STANDALONE, after=rest)
            assert [event.position for event in kept] == [event.position for event in image.events]
            following = await a.log.append(copy, STANDALONE, b"next")
            assert following.position == Position(image.epoch, image.top + 1)

    async def test_a_log_that_was_moved_is_trimmed_as_any_other(self, store: StoreUnderTest) -> None:
        """Requests without an answer and responses go last, plain events first."""
        async with store.replicas(1) as (a,):
            session = await new_session(a)
            await a.log.append(session, STANDALONE, b"?", expects="q")
            stream = await new_stream(a, session)
            await a.log.append(session, stream, b"!", final=True)
            await a.log.append(session, STANDALONE, b"plain")
            copy = (await copied(a, await dumped(a, session))).facts.id
            other = await new_stream(a, copy)
            for _ in range(store.max_events * 2):
                await a.log.append(copy, other, b"x")
            image = await dumped(a, copy)
            assert {b"?", b"!"} <= {event.payload for event in image.events}
            assert len(image.events) <= store.max_events
            assert image.events[-1].position.offset == image.top

    async def test_positions_of_earlier_lives_are_honoured_up_to_what_survived(
        self, store: StoreUnderTest
    ) -> None:
        async with store.replicas(1) as (a,):
            session = await new_session(a)
            for payload in (b"1", b"2", b"3"):
                await a.log.append(session, STANDALONE, payload)
            image = await dumped(a, session)
            image = replace(image, fences=((OLD_EPOCH, 2), *image.fences))
            copy = (await copied(a, image)).facts.id
            events = await read_all(a, copy, STANDALONE, after=Position(OLD_EPOCH, 1))
            assert [event.payload for event in events] == [b"2", b"3"]
            with pytest.raises(PositionLost) as lost:
                await a.log.read(copy, STANDALONE, after=Position(OLD_EPOCH, 3), limit=1)
            assert (lost.value.reason, lost.value.resume_offset) == ("epoch", 2)
            with pytest.raises(PositionLost):
                await a.log.read(copy, STANDALONE, after=Position("never-ours", 1), limit=1)

    async def test_a_question_takes_one_answer_where_it_arrived(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = await new_session(a)
            await a.log.append(session, STANDALONE, b"?", expects="logged")
            await a.inbox.expect(session, "unlogged")
            copy = (await copied(a, await dumped(a, session))).facts.id
            for question in ("logged", "unlogged"):
                assert await a.inbox.take(copy, question) is None
                assert await a.inbox.put(copy, question, b"yes")
                assert not await a.inbox.put(copy, question, b"no")
                assert await a.inbox.take(copy, question) == b"yes"
            assert not await a.inbox.put(copy, "never asked", b"yes")

    async def test_an_answer_that_nobody_took_can_be_taken(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = await new_session(a)
            await a.inbox.expect(session, "q")
            assert await a.inbox.put(session, "q", b"\x00|yes|")
            image = await dumped(a, session)
            assert image.asked == (AskedImage("q", ReplicaId(""), answer=b"\x00|yes|"),)
            copy = (await copied(a, image)).facts.id
            assert not await a.inbox.put(copy, "q", b"no")
            assert await a.inbox.take(copy, "q") == b"\x00|yes|"

    async def test_an_answer_that_was_taken_does_not_come_back(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = await new_session(a)
            await a.inbox.expect(session, "q")
            await a.inbox.put(session, "q", b"yes")
            assert await a.inbox.take(session, "q") == b"yes"
            assert (await dumped(a, session)).asked == ()

    async def test_the_first_claim_stays_the_first(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = await new_session(a)
            await a.log.append(session, STANDALONE, b"1")
            image = await dumped(a, session)
            assert image.holder is None
            copy = (await copied(a, image)).facts.id
            assert (await a.log.claim(copy, "reader", after=None)).start == Position(image.epoch, 0)

    async def test_later_claims_start_at_the_top_with_what_is_unanswered(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = await new_session(a)
            await a.log.claim(session, "reader", after=None)
            await a.log.append(session, STANDALONE, b"old")
            question = await a.log.append(session, STANDALONE, b"?", expects="q")
            copy = (await copied(a, await dumped(a, session))).facts.id
            claim = await a.log.claim(copy, "another", after=None)
            assert (claim.start, claim.wait_seconds) == (question.position, 0)
            assert claim.unanswered == (question,)
            assert claim.displaced == (a.replica, "reader")

    async def test_facts_settings_and_owner_are_kept(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            facts = {"owner": "me", "client": b'{"x":"\xc3\xa9"}', "ttl_seconds": 123.0}
            session = await new_session(a, broadcast=Position(OLD_EPOCH, 7), **facts)
            await a.sessions.configure(session, log_level="debug")
            settings = await a.sessions.configure(session, log_level="error")
            image = await dumped(a, session)
            copy = (await copied(b, image)).facts.id
            found = await a.sessions.find(copy, owner="me", with_facts=True)
            assert found is not None
            assert found.facts == replace(image.facts, id=copy)
            assert found.settings == settings
            assert await a.sessions.find(copy, owner=None, with_facts=False) is None

    async def test_it_is_counted_and_listed(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = await new_session(a, owner="me")
            before = await a.sessions.count()
            copy = (await copied(a, await dumped(a, session))).facts.id
            assert await a.sessions.count() == before + 1
            assert set(await a.sessions.list()) == {session, copy}
            assert set(await a.sessions.list(owner="me")) == {session, copy}

    async def test_it_lives_as_long_as_a_new_one_and_ends(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            facts = new_facts(ttl_seconds=60.0)
            await a.sessions.open(facts, limit=None)
            image = await dumped(a, facts.id)
            short = replace(image.facts, id=SessionId(f"{facts.id}-short"), ttl_seconds=store.short_seconds)
            await a.transfer.restore(replace(image, facts=short))
            assert await a.transfer.dump(short.id) is not None
            await store.advance(store.short_seconds * 1.5)
            assert await a.transfer.dump(short.id) is None
            assert await a.transfer.dump(facts.id) is not None

    async def test_what_is_there_is_not_overwritten(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = await busy_session(a)
            image = await dumped(a, session)
            await a.log.append(session, STANDALONE, b"more")
            present = await dumped(a, session)
            with pytest.raises(SessionExists):
                await a.transfer.restore(image)
            with pytest.raises(SessionExists):
                await a.transfer.restore(image, over=image)
            assert await dumped(a, session) == present

    async def test_what_was_set_meanwhile_is_not_overwritten(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = await new_session(a)
            image = await dumped(a, session)
            await a.sessions.configure(session, log_level="debug")
            with pytest.raises(SessionExists):
                await a.transfer.restore(image, over=image)

    async def test_an_older_copy_is_replaced_by_a_newer_one(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = await busy_session(a)
            older = await copied(a, await dumped(a, session))
            stream = await new_stream(a, session)
            await a.log.append(session, stream, b"more", final=True)
            newer = replace(await dumped(a, session), facts=older.facts)
            before = await a.sessions.count()
            await a.transfer.restore(newer, over=older)
            assert await dumped(a, older.facts.id) == newer
            assert await a.sessions.count() == before
            assert (await a.log.append(older.facts.id, STANDALONE, b"x")).position.offset == newer.top + 1

    async def test_a_deleted_session_does_not_come_back(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = await busy_session(a)
            image = await dumped(a, session)
            await a.sessions.close(session)
            for over in (None, image):
                with pytest.raises(SessionExists):
                    await a.transfer.restore(image, over=over)
            assert await a.transfer.dump(session) is None

    async def test_looking_does_not_keep_a_session_alive(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = await new_session(a, ttl_seconds=store.short_seconds)
            for _ in range(4):
                await store.advance(store.short_seconds * 0.4)
                await a.transfer.dump(session)
            assert await a.transfer.dump(session) is None


async def dumped(backend: Backend, session: SessionId) -> SessionImage:
    image = await backend.transfer.dump(session)
    assert image is not None, "the session is gone"
    return image


async def copied(backend: Backend, image: SessionImage) -> SessionImage:
    """Restore a session under another id; the image with that id."""
    copy = replace(image, facts=replace(image.facts, id=SessionId(f"{image.facts.id}-copy")))
    await backend.transfer.restore(copy)
    return copy


async def busy_session(backend: Backend) -> SessionId:
    """A session with a bit of everything."""
    session = await new_session(backend, owner="me")
    await backend.log.claim(session, "reader", after=None)
    await backend.sessions.configure(session, log_level="info")
    answered, running = await new_stream(backend, session), await new_stream(backend, session)
    events: list[Event] = []
    for number, stream in enumerate((STANDALONE, answered, running, STANDALONE, running)):
        events.append(await backend.log.append(session, stream, b"%d" % number))
    await backend.log.append(session, answered, b"answer", final=True)
    await backend.log.append(session, STANDALONE, b"?", expects="open")
    await backend.log.append(session, running, b"?", expects="answered")
    await backend.inbox.put(session, "answered", b"yes")
    await backend.inbox.expect(session, "unlogged")
    await new_stream(backend, session)
    assert (await top_of(backend, session)).offset == len(events) + 3
    return session

# ruff: noqa: D102 - a test is named by a sentence
"""`Inbox`: answers of clients on their way to the replica that waits."""

import anyio
import pytest

from holdfast.errors import SessionGone, StreamClosed, StreamUnknown
from holdfast.sessions.protocols import Backend
from holdfast.sessions.types import STANDALONE, AppendKey, SessionId, StreamId
from holdfast.testing.conformance.harness import (
    HOSTILE_IDS,
    PAYLOADS,
    Heard,
    StoreUnderTest,
    new_facts,
    new_session,
    new_stream,
)

__all__ = ["InboxSuite"]


class InboxSuite:
    """An answer is accepted once, only if it is waited for, and is there until it is taken."""

    pytestmark = pytest.mark.anyio

    async def test_an_answer_posted_anywhere_reaches_whoever_waits(self, store: StoreUnderTest) -> None:
        async with store.replicas(3) as (a, b, c):
            session = await new_session(a)
            for number, poster in enumerate((a, b, c)):
                arrived = Heard()
                async with a.inbox.listen(arrived):
                    await a.inbox.expect(session, f"q{number}")
                    assert await poster.inbox.put(session, f"q{number}", b"yes")
                    await arrived.told(session, f"q{number}")
                    assert await a.inbox.take(session, f"q{number}") == b"yes"

    async def test_only_the_replica_that_waits_is_told(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            waits, bystander = Heard(), Heard()
            async with a.inbox.listen(waits), b.inbox.listen(bystander):
                await a.inbox.expect(session, "q")
                await b.inbox.put(session, "q", b"yes")
                await waits.told(session, "q")
                await store.advance(0.1)
            assert (session, "q") not in bystander.calls

    async def test_an_answer_is_accepted_once(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            await a.inbox.expect(session, "q")
            assert await b.inbox.put(session, "q", b"first")
            for backend in (a, b):
                assert not await backend.inbox.put(session, "q", b"second")
            assert await a.inbox.take(session, "q") == b"first"
            assert not await b.inbox.put(session, "q", b"third")
            assert await a.inbox.take(session, "q") is None

    async def test_of_many_answers_at_once_one_is_accepted(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as replicas:
            session = await new_session(replicas[0])
            await replicas[0].inbox.expect(session, "q")
            accepted: list[bytes] = []

            async def answer(number: int) -> None:
                text = b"%d" % number
                if await replicas[number % 2].inbox.put(session, "q", text):
                    accepted.append(text)

            async with anyio.create_task_group() as tasks:
                for number in range(8):
                    tasks.start_soon(answer, number)
            assert len(accepted) == 1
            assert await replicas[0].inbox.take(session, "q") == accepted[0]

    async def test_an_answer_is_taken_once(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = await new_session(a)
            await a.inbox.expect(session, "q")
            await a.inbox.put(session, "q", b"yes")
            taken: list[bytes | None] = []

            async def take() -> None:
                taken.append(await a.inbox.take(session, "q"))

            async with anyio.create_task_group() as tasks:
                for _ in range(5):
                    tasks.start_soon(take)
            assert sorted(taken, key=str) == [None, None, None, None, b"yes"]

    async def test_an_answer_that_nobody_waits_for_is_not_stored(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            await a.inbox.expect(session, "q")
            arrived = Heard()
            async with a.inbox.listen(arrived):
                for forged in ("unknown", "Q", "q ", *HOSTILE_IDS):
                    assert not await b.inbox.put(session, forged, b"forged")
                    assert await a.inbox.take(session, forged) is None
                assert await b.inbox.put(session, "q", b"yes")
                await arrived.told(session, "q")
                assert set(arrived.calls) <= {(session, "q"), (None, None)}
            await a.inbox.expect(session, "unknown")
            assert await a.inbox.take(session, "unknown") is None

    async def test_an_answer_counts_for_its_own_session_only(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session, other = await new_session(a), await new_session(a)
            await a.inbox.expect(session, "q")
            assert not await b.inbox.put(other, "q", b"forged")
            assert await a.inbox.take(session, "q") is None
            await a.inbox.expect(other, "q")
            assert await b.inbox.put(other, "q", b"theirs")
            assert await b.inbox.put(session, "q", b"mine")
            assert await a.inbox.take(session, "q") == b"mine"
            assert await a.inbox.take(other, "q") == b"theirs"

    async def test_a_request_in_the_log_can_be_answered_from_its_very_append_on(
        self, store: StoreUnderTest
    ) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            stream = await new_stream(a, session)
            arrived = Heard()
            async with a.inbox.listen(arrived):
                for name in (STANDALONE, stream):
                    await a.log.append(session, name, b"?", expects=f"q{name}")
                    assert await b.inbox.put(session, f"q{name}", b"yes")
                    await arrived.told(session, f"q{name}")
                    assert await a.inbox.take(session, f"q{name}") == b"yes"

    async def test_a_request_that_was_refused_by_the_log_cannot_be_answered(
        self, store: StoreUnderTest
    ) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            stream = await new_stream(a, session)
            await a.log.append(session, stream, b"done", final=True)
            with pytest.raises(StreamClosed):
                await a.log.append(session, stream, b"?", expects="late")
            with pytest.raises(StreamUnknown):
                await a.log.append(session, StreamId("unknown"), b"?", expects="lost")
            for name in ("late", "lost"):
                assert not await b.inbox.put(session, name, b"yes")

    async def test_a_request_sent_twice_is_answered_once(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            key = AppendKey("writer", 1)
            await a.log.append(session, STANDALONE, b"?", expects="q", key=key)
            await b.inbox.put(session, "q", b"yes")
            await a.log.append(session, STANDALONE, b"?", expects="q", key=key)
            assert await a.inbox.take(session, "q") == b"yes"
            await a.log.append(session, STANDALONE, b"?", expects="q", key=key)
            assert not await b.inbox.put(session, "q", b"again")

    async def test_an_answer_waits_for_a_waiter_who_looks_later(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            await a.inbox.expect(session, "q")
            assert await a.inbox.take(session, "q") is None
            await b.inbox.put(session, "q", b"yes")
            for _ in range(3):
                await b.log.append(session, STANDALONE, b"x")
            assert await a.inbox.take(session, "q") == b"yes"

    async def test_a_withdrawn_request_cannot_be_answered(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            await a.inbox.expect(session, "bare")
            await a.log.append(session, STANDALONE, b"?", expects="logged")
            await a.inbox.expect(session, "kept")
            for name in ("bare", "logged", "never there"):
                await a.inbox.withdraw(session, name)
                assert not await b.inbox.put(session, name, b"late")
                assert await a.inbox.take(session, name) is None
            assert await b.inbox.put(session, "kept", b"yes")

    async def test_the_end_of_a_stream_withdraws_what_was_asked_on_it(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            ended, other = await new_stream(a, session), await new_stream(a, session)
            for stream in (ended, other, STANDALONE):
                await a.log.append(session, stream, b"?", expects=f"on {stream}")
            await a.log.append(session, ended, b"answered", expects="answered")
            assert await b.inbox.put(session, "answered", b"yes")
            await b.log.append(session, ended, b"the end", final=True)
            assert not await b.inbox.put(session, f"on {ended}", b"late")
            assert await a.inbox.take(session, "answered") == b"yes"
            assert await b.inbox.put(session, f"on {other}", b"yes")
            assert await b.inbox.put(session, f"on {STANDALONE}", b"yes")

    async def test_withdrawing_forgets_an_answer_that_is_there(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            await a.inbox.expect(session, "q")
            await b.inbox.put(session, "q", b"yes")
            await a.inbox.withdraw(session, "q")
            assert await a.inbox.take(session, "q") is None

    async def test_without_a_session_there_is_no_inbox(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            deleted = await new_session(a)
            await a.inbox.expect(deleted, "q")
            await a.inbox.put(deleted, "q", b"yes")
            await a.sessions.close(deleted)
            facts = new_facts()
            for session in (deleted, facts.id, *map(SessionId, HOSTILE_IDS)):
                await assert_no_inbox(a, session)
            await a.sessions.open(facts, limit=None)
            assert not await a.inbox.put(facts.id, "q", b"yes")

    async def test_an_answer_ends_with_its_session(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = await new_session(a, ttl_seconds=store.short_seconds)
            await a.inbox.expect(session, "q")
            await store.advance(store.short_seconds * 1.5)
            await assert_no_inbox(a, session)

    async def test_answers_are_kept_to_the_byte(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            for number, answer in enumerate(PAYLOADS):
                await a.inbox.expect(session, f"q{number}")
                assert await b.inbox.put(session, f"q{number}", answer)
                assert await a.inbox.take(session, f"q{number}") == answer

    async def test_whoever_has_stopped_listening_is_left_alone(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            left, stayed = Heard(), Heard()
            async with a.inbox.listen(stayed):
                async with a.inbox.listen(left):
                    pass
                await a.inbox.expect(session, "q")
                await b.inbox.put(session, "q", b"yes")
                await stayed.told(session, "q")
            assert (session, "q") not in left.calls


async def assert_no_inbox(backend: Backend, session: SessionId) -> None:
    """Each method of the inbox says that there is no such session."""
    assert not await backend.inbox.put(session, "q", b"yes")
    await backend.inbox.withdraw(session, "q")
    with pytest.raises(SessionGone):
        await backend.inbox.expect(session, "q")
    with pytest.raises(SessionGone):
        await backend.inbox.take(session, "q")

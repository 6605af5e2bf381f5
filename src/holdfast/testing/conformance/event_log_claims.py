# ruff: noqa: D102 - a test is named by a sentence
"""`EventLog.claim`: who reads the standalone stream, and from where."""

import anyio
import pytest

from holdfast.errors import SessionGone
from holdfast.sessions.protocols import Backend
from holdfast.sessions.types import STANDALONE, Claim, Position, SessionId
from holdfast.testing.conformance.harness import (
    StoreUnderTest,
    new_facts,
    new_session,
    new_stream,
    read_all,
    start_of,
    top_of,
)

__all__ = ["ClaimSuite"]


class ClaimSuite:
    """The newest reader wins, but not too often."""

    pytestmark = pytest.mark.anyio

    async def test_the_first_reader_starts_at_initialize(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            events = [await a.log.append(session, STANDALONE, b"x") for _ in range(3)]
            asked = await a.log.append(session, STANDALONE, b"?", expects="q")
            claim = await b.log.claim(session, "reader", after=None)
            assert claim.start == await start_of(a, session)
            assert (list(claim.unanswered), claim.displaced, claim.wait_seconds) == ([], None, 0.0)
            assert await read_all(b, session, STANDALONE, after=claim.start) == [*events, asked]

    async def test_a_later_reader_starts_at_the_top_with_what_is_unanswered(
        self, store: StoreUnderTest
    ) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            await b.log.claim(session, "first", after=None)
            stream = await new_stream(a, session)
            await a.log.append(session, STANDALONE, b"plain")
            asked = [
                await a.log.append(session, STANDALONE, name.encode(), expects=name)
                for name in ("open", "answered", "withdrawn", "taken", "last")
            ]
            await a.log.append(session, stream, b"of a request", expects="elsewhere")
            await b.inbox.put(session, "answered", b"!")
            await a.inbox.withdraw(session, "withdrawn")
            await b.inbox.put(session, "taken", b"!")
            await a.inbox.take(session, "taken")
            top = await top_of(a, session)
            claim = await take_over(store, a, session, "second")
            assert claim.start == top
            assert list(claim.unanswered) == [asked[0], asked[4]]
            assert claim.displaced == (b.replica, "first")

    async def test_a_reader_with_a_position_starts_there(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            events = [await a.log.append(session, STANDALONE, b"x") for _ in range(3)]
            claim = await a.log.claim(session, "first", after=events[0].position)
            assert claim.start == events[0].position
            claim = await take_over(store, b, session, "second", after=events[1].position)
            assert claim.start == events[1].position
            assert await read_all(b, session, STANDALONE, after=claim.start) == events[2:]

    async def test_the_newest_reader_displaces_the_one_before(self, store: StoreUnderTest) -> None:
        async with store.replicas(3) as (a, b, c):
            session = await new_session(a)
            assert (await a.log.claim(session, "on a", after=None)).displaced is None
            assert (await take_over(store, b, session, "on b")).displaced == (a.replica, "on a")
            assert (await take_over(store, c, session, "on c")).displaced == (b.replica, "on b")
            assert (await take_over(store, c, session, "again")).displaced == (c.replica, "on c")

    async def test_two_readers_cannot_evict_each_other_for_ever(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            await a.log.claim(session, "one", after=None)
            await take_over(store, b, session, "other")
            refused = await a.log.claim(session, "one again", after=None)
            assert 0 < refused.wait_seconds <= 1
            assert refused.displaced is None
            await store.advance(refused.wait_seconds + 0.05)
            granted = await a.log.claim(session, "one again", after=None)
            assert granted.wait_seconds == 0
            assert granted.displaced == (b.replica, "other")

    async def test_of_many_claims_at_once_one_is_granted(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as replicas:
            session = await new_session(replicas[0])
            await replicas[0].log.claim(session, "first", after=None)
            await store.advance(1.05)
            claims: list[Claim] = []

            async def take(number: int) -> None:
                claims.append(await replicas[number % 2].log.claim(session, f"reader {number}", after=None))

            async with anyio.create_task_group() as tasks:
                for number in range(6):
                    tasks.start_soon(take, number)
            assert [claim.wait_seconds > 0 for claim in claims].count(False) == 1

    async def test_a_reader_does_not_displace_itself(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = await new_session(a)
            await a.log.claim(session, "reader", after=None)
            again = await a.log.claim(session, "reader", after=None)
            assert (again.displaced, again.wait_seconds) == (None, 0.0)

    async def test_renewing_says_who_has_the_stream_now(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session, other = await new_session(a), await new_session(a)
            assert await _readers(b, session, other) == [None, None]
            await a.log.claim(session, "on a", after=None)
            assert await _readers(b, session, other) == ["on a", None]
            await take_over(store, b, session, "on b", after=await top_of(a, session))
            assert await _readers(a, session, other) == ["on b", None]
            assert (await a.log.claim(session, "too early", after=None)).wait_seconds > 0
            assert await _readers(a, session, other) == ["on b", None]

    async def test_sessions_are_claimed_apart(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            one, other = await new_session(a), await new_session(a)
            await a.log.claim(one, "reader", after=None)
            claim = await b.log.claim(other, "other reader", after=None)
            assert (claim.displaced, claim.wait_seconds) == (None, 0.0)

    async def test_claiming_creates_no_session(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            facts = new_facts()
            with pytest.raises(SessionGone):
                await a.log.claim(facts.id, "reader", after=None)
            await a.sessions.open(facts, limit=None)
            assert (await a.log.claim(facts.id, "reader", after=None)).displaced is None


async def _readers(backend: Backend, *sessions: SessionId) -> list[str | None]:
    return [each.reader for each in await backend.log.renew(sessions) if each is not None]


async def take_over(
    store: StoreUnderTest, backend: Backend, session: SessionId, reader: str, *, after: Position | None = None
) -> Claim:
    """Claim, and once more if the stream changed hands too recently."""
    claim = await backend.log.claim(session, reader, after=after)
    if claim.wait_seconds > 0:
        await store.advance(claim.wait_seconds + 0.05)
        claim = await backend.log.claim(session, reader, after=after)
    assert claim.wait_seconds == 0, "the wait that was asked for was not enough"
    return claim

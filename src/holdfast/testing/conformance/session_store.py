# ruff: noqa: D102 - a test is named by a sentence
"""`SessionStore`: who is connected."""

from collections.abc import Sequence
from dataclasses import replace

import anyio
import pytest

from holdfast.errors import SessionExists, SessionGone, TooManySessions
from holdfast.sessions.protocols import Backend
from holdfast.sessions.types import STANDALONE, SessionFacts, SessionId, Settings
from holdfast.testing.conformance.harness import HOSTILE_IDS, StoreUnderTest, new_facts, new_session, top_of

__all__ = ["SessionStoreSuite"]


class SessionStoreSuite:
    """A session is data: every replica knows it, one principal owns it, and it ends for all at once."""

    pytestmark = pytest.mark.anyio

    async def test_every_replica_finds_a_session_with_its_facts(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            facts = new_facts(
                owner="é|{owner}*\n🦊", client=b'{"a":"\xc3\xa9\\u0000"} \x00\xff', ttl_seconds=61.5
            )
            await a.sessions.open(facts, limit=None)
            for backend in (a, b):
                found = await backend.sessions.find(facts.id, owner=facts.owner, with_facts=True)
                assert found is not None
                assert (found.facts, found.settings) == (facts, Settings())

    async def test_facts_are_returned_when_they_are_asked_for(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = await new_session(a)
            found = await a.sessions.find(session, owner=None, with_facts=False)
            assert found is not None
            assert found.facts is None

    async def test_unknown_and_hostile_ids_are_not_found(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = await new_session(a)
            for unknown in (new_facts().id, session[:-1], session + "x", session.upper(), *HOSTILE_IDS):
                assert await a.sessions.find(SessionId(unknown), owner=None, with_facts=True) is None
                assert not await a.sessions.close(SessionId(unknown))
                with pytest.raises(SessionGone):
                    await a.sessions.configure(SessionId(unknown), log_level="info")
            assert await alive(a, session)
            assert await a.sessions.count() == 1

    async def test_another_principal_finds_nothing(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            owners = (None, "", "alice", "alice2", "Alice", "None", "*")
            for owner in owners:
                session = await new_session(a, owner=owner)
                for asking in owners:
                    found = await b.sessions.find(session, owner=asking, with_facts=True)
                    assert (found is not None) == (asking == owner), f"{asking!r} asked for one of {owner!r}"

    async def test_a_session_expires_without_activity(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a, ttl_seconds=store.short_seconds)
            other = await new_session(a)
            await store.advance(store.short_seconds * 1.5)
            for backend in (a, b):
                assert not await alive(backend, session)
                with pytest.raises(SessionGone):
                    await backend.sessions.configure(session, log_level="info")
            assert not await a.sessions.close(session)
            assert await alive(b, other)

    async def test_finding_a_session_keeps_it(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as replicas:
            session = await new_session(replicas[0], ttl_seconds=store.short_seconds)
            for number in range(4):
                await store.advance(store.short_seconds * 0.5)
                assert await alive(replicas[number % 2], session)

    async def test_being_asked_for_by_somebody_else_does_not_keep_it(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = await new_session(a, owner="alice", ttl_seconds=store.short_seconds)
            for _ in range(3):
                await store.advance(store.short_seconds * 0.5)
                assert await a.sessions.find(session, owner="mallory", with_facts=True) is None
            assert await a.sessions.find(session, owner="alice", with_facts=True) is None

    async def test_settings_reach_every_replica_with_a_new_version(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            assert await a.sessions.configure(session, log_level="debug") == Settings(1, "debug")
            assert await b.sessions.configure(session, log_level="error") == Settings(2, "error")
            for backend in (a, b):
                found = await backend.sessions.find(session, owner=None, with_facts=False)
                assert found is not None
                assert found.settings == Settings(2, "error")

    async def test_each_of_many_changes_has_its_own_version(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as replicas:
            session = await new_session(replicas[0])
            versions: list[int] = []

            async def change(number: int) -> None:
                settings = await replicas[number % 2].sessions.configure(session, log_level=f"level {number}")
                versions.append(settings.version)

            async with anyio.create_task_group() as tasks:
                for number in range(10):
                    tasks.start_soon(change, number)
            assert sorted(versions) == list(range(1, 11))

    async def test_what_initialize_negotiated_is_settled_once_for_every_replica(
        self, store: StoreUnderTest
    ) -> None:
        async with store.replicas(2) as (a, b):
            facts = replace(new_facts(owner="alice"), protocol_version="", client=b"")
            await a.sessions.open(facts, limit=None)
            assert await b.sessions.settle(facts.id, protocol_version="2025-11-25", client=b'{"\xff": 1}')
            assert await a.sessions.settle(facts.id, protocol_version="2025-11-25", client=b'{"\xff": 1}')
            assert not await a.sessions.settle(facts.id, protocol_version="2024-11-05", client=b'{"\xff": 1}')
            assert not await a.sessions.settle(facts.id, protocol_version="2025-11-25", client=b"{}")
            for backend in (a, b):
                found = await backend.sessions.find(facts.id, owner="alice", with_facts=True)
                assert found is not None
                settled = replace(facts, protocol_version="2025-11-25", client=b'{"\xff": 1}')
                assert (found.facts, found.settings) == (settled, Settings())

    async def test_one_of_many_settlements_wins(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as replicas:
            facts = replace(new_facts(), protocol_version="", client=b"")
            await replicas[0].sessions.open(facts, limit=None)
            won: list[int] = []

            async def settle(number: int) -> None:
                client = b"%d" % number
                if await replicas[number % 2].sessions.settle(facts.id, protocol_version="v", client=client):
                    won.append(number)

            async with anyio.create_task_group() as tasks:
                for number in range(6):
                    tasks.start_soon(settle, number)
            found = await replicas[1].sessions.find(facts.id, owner=None, with_facts=True)
            assert found is not None
            assert found.facts is not None
            assert [found.facts.client] == [b"%d" % number for number in won]

    async def test_what_was_settled_at_the_opening_stays(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            facts = new_facts()
            await a.sessions.open(facts, limit=None)
            assert not await a.sessions.settle(facts.id, protocol_version="other", client=b"other")
            found = await a.sessions.find(facts.id, owner=None, with_facts=True)
            assert found is not None
            assert found.facts == facts

    async def test_settling_creates_no_session(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            for unknown in (new_facts().id, *HOSTILE_IDS):
                with pytest.raises(SessionGone):
                    await a.sessions.settle(SessionId(unknown), protocol_version="v", client=b"{}")
            assert await a.sessions.count() == 0

    async def test_configuring_creates_no_session(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            facts = new_facts()
            with pytest.raises(SessionGone):
                await a.sessions.configure(facts.id, log_level="debug")
            await a.sessions.open(facts, limit=None)
            found = await a.sessions.find(facts.id, owner=None, with_facts=False)
            assert found is not None
            assert found.settings == Settings()

    async def test_a_deleted_session_is_deleted_everywhere(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            await a.log.append(session, STANDALONE, b"?", expects="q")
            assert await b.sessions.close(session)
            for backend in (a, b):
                assert not await backend.sessions.close(session)
                assert not await alive(backend, session)
                assert not await backend.inbox.put(session, "q", b"!")
                assert list(await backend.log.renew([session])) == [None]

    async def test_one_of_many_deletions_deletes(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as replicas:
            session = await new_session(replicas[0])
            deleted: list[bool] = []

            async def close(number: int) -> None:
                deleted.append(await replicas[number % 2].sessions.close(session))

            async with anyio.create_task_group() as tasks:
                for number in range(6):
                    tasks.start_soon(close, number)
            assert deleted.count(True) == 1

    async def test_a_deleted_session_stays_deleted(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            facts = new_facts()
            await a.sessions.open(facts, limit=None)
            await a.sessions.close(facts.id)
            await a.sessions.refresh([facts])
            for backend in (a, b):
                with pytest.raises(SessionExists):
                    await backend.sessions.open(facts, limit=None)
                assert not await alive(backend, facts.id)

    async def test_deleting_what_is_not_there_leaves_nothing(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            facts = new_facts()
            assert not await a.sessions.close(facts.id)
            await a.sessions.open(facts, limit=None)
            assert await alive(a, facts.id)

    async def test_an_id_in_use_is_refused_and_its_session_untouched(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            facts = new_facts(owner="alice")
            await a.sessions.open(facts, limit=None)
            await a.log.append(facts.id, STANDALONE, b"x")
            with pytest.raises(SessionExists):
                await b.sessions.open(new_facts(id=facts.id, owner="mallory", client=b"{}"), limit=None)
            found = await b.sessions.find(facts.id, owner="alice", with_facts=True)
            assert found is not None
            assert found.facts == facts
            assert (await top_of(b, facts.id)).offset == 1
            assert await a.sessions.count() == 1

    async def test_one_of_many_openings_opens(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as replicas:
            facts = new_facts()
            outcomes = await open_at_once(replicas, [facts] * 6, limit=None)
            assert outcomes.count("opened") == 1
            assert outcomes.count("SessionExists") == 5

    async def test_the_limit_holds_over_the_fleet(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            facts = [new_facts() for _ in range(4)]
            for number in range(3):
                await (a, b)[number % 2].sessions.open(facts[number], limit=3)
            for backend in (a, b):
                with pytest.raises(TooManySessions):
                    await backend.sessions.open(facts[3], limit=3)
            assert not await alive(a, facts[3].id)
            assert await a.sessions.count() == 3
            await b.sessions.open(facts[3], limit=4)
            await b.sessions.open(new_facts(), limit=None)

    async def test_the_limit_holds_for_many_at_once(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as replicas:
            outcomes = await open_at_once(replicas, [new_facts() for _ in range(12)], limit=5)
            assert outcomes.count("opened") == 5
            assert outcomes.count("TooManySessions") == 7

    async def test_a_deleted_session_makes_room(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = await new_session(a)
            with pytest.raises(TooManySessions):
                await a.sessions.open(new_facts(), limit=1)
            await b.sessions.close(session)
            await a.sessions.open(new_facts(), limit=1)

    async def test_an_expired_session_makes_room(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            await new_session(a, ttl_seconds=store.short_seconds)
            await store.advance(store.short_seconds * 1.5)
            await a.sessions.open(new_facts(), limit=1)
            assert await a.sessions.count() == 1

    async def test_a_refused_id_takes_no_room(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            facts = new_facts()
            await a.sessions.open(facts, limit=2)
            for _ in range(3):
                with pytest.raises(SessionExists):
                    await a.sessions.open(facts, limit=2)
            await a.sessions.open(new_facts(), limit=2)

    async def test_sessions_are_counted(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            assert await a.sessions.count() == 0
            sessions = [await new_session(a) for _ in range(3)]
            await new_session(b, ttl_seconds=store.short_seconds)
            assert await b.sessions.count() == 4
            await b.sessions.close(sessions[0])
            assert [await backend.sessions.count() for backend in (a, b)] == [3, 3]
            await store.advance(store.short_seconds * 1.5)
            assert [await backend.sessions.count() for backend in (a, b)] == [2, 2]

    async def test_sessions_are_listed_in_the_order_of_their_ids(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            assert list(await a.sessions.list()) == []
            sessions = sorted([await new_session(a, owner=("x", None)[n % 2]) for n in range(12)])
            assert list(await b.sessions.list()) == sessions
            assert list(await b.sessions.list(limit=5)) == sessions[:5]
            pages = [await b.sessions.list(limit=5, after=after) for after in (sessions[4], sessions[9])]
            assert [list(page) for page in pages] == [sessions[5:10], sessions[10:]]
            assert list(await b.sessions.list(after=sessions[-1])) == []

    async def test_sessions_of_one_owner_are_listed(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            sessions: dict[str | None, list[SessionId]] = {}
            for number in range(9):
                owner = ("alice", "bob*{}", None)[number % 3]
                sessions.setdefault(owner, []).append(await new_session(a, owner=owner))
            for owner in ("alice", "bob*{}"):
                expected = sorted(sessions[owner])
                assert list(await b.sessions.list(owner=owner)) == expected
                assert list(await b.sessions.list(owner=owner, limit=1, after=expected[0])) == expected[1:2]
            assert list(await b.sessions.list(owner="*")) == []

    async def test_ended_sessions_are_not_listed(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            closed = await new_session(a, owner="alice")
            expired = await new_session(a, owner="alice", ttl_seconds=store.short_seconds)
            session = await new_session(a, owner="alice")
            await a.sessions.close(closed)
            await store.advance(store.short_seconds * 1.5)
            assert list(await a.sessions.list()) == [session]
            assert list(await a.sessions.list(owner="alice")) == [session]
            assert not await alive(a, expired)

    async def test_a_session_in_use_stays_listed_and_counted(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            facts = new_facts(ttl_seconds=store.short_seconds, owner="alice")
            await a.sessions.open(facts, limit=None)
            for _ in range(4):
                await store.advance(store.short_seconds * 0.5)
                assert await a.sessions.find(facts.id, owner="alice", with_facts=False) is not None
                await a.sessions.refresh([facts])
            assert list(await a.sessions.list(owner="alice")) == [facts.id]
            assert await a.sessions.count() == 1


async def alive(backend: Backend, session: SessionId) -> bool:
    """Whether a session that was opened without an owner is there."""
    return await backend.sessions.find(session, owner=None, with_facts=True) is not None


async def open_at_once(
    replicas: Sequence[Backend], sessions: Sequence[SessionFacts], *, limit: int | None
) -> list[str]:
    """Open sessions concurrently on all replicas: what became of each, in no order."""
    outcomes: list[str] = []

    async def open_one(backend: Backend, facts: SessionFacts) -> None:
        try:
            await backend.sessions.open(facts, limit=limit)
        except (SessionExists, TooManySessions) as error:
            outcomes.append(type(error).__name__)
        else:
            outcomes.append("opened")

    async with anyio.create_task_group() as tasks:
        for number, facts in enumerate(sessions):
            tasks.start_soon(open_one, replicas[number % len(replicas)], facts)
    return outcomes

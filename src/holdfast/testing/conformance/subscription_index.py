# ruff: noqa: D102 - a test is named by a sentence
"""`SubscriptionIndex`: which sessions subscribed to which resource."""

from collections.abc import Sequence

import anyio
import pytest

from holdfast.sessions.protocols import Backend
from holdfast.sessions.types import SessionId
from holdfast.testing.conformance.harness import StoreUnderTest, new_facts

__all__ = ["SubscriptionIndexSuite"]

TTL = 60.0
ODD_URIS = (
    "file:///a b",
    "file:///a?x=1&y={z}",
    "*",
    "",
    "é漢🦊",
    "a\nb\0c",
    "a|b",
    "x\"'`",
    "u:" + "x" * 4096,
)
MOST_PER_BATCH = 1000


class SubscriptionIndexSuite:
    """Found from the resource and from the session, until removed or expired."""

    pytestmark = pytest.mark.anyio

    async def test_a_subscription_is_found_from_both_sides(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            one, other = new_facts().id, new_facts().id
            await a.subscriptions.add(one, "r:1", ttl_seconds=TTL)
            await a.subscriptions.add(one, "r:2", ttl_seconds=TTL)
            await b.subscriptions.add(other, "r:2", ttl_seconds=TTL)
            for backend in (a, b):
                assert list(await backend.subscriptions.uris(one)) == ["r:1", "r:2"]
                assert list(await backend.subscriptions.uris(other)) == ["r:2"]
                assert await subscribed(backend, "r:1") == {one}
                assert await subscribed(backend, "r:2") == {one, other}

    async def test_nobody_subscribed_to_what_nobody_named(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            await a.subscriptions.add(new_facts().id, "r:1", ttl_seconds=TTL)
            assert await subscribed(a, "r:") == set()
            assert await subscribed(a, "r:*") == set()
            assert list(await a.subscriptions.uris(new_facts().id)) == []

    async def test_uris_are_sorted(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = new_facts().id
            for uri in ("b", "a", "B", "10", "9", "é"):
                await a.subscriptions.add(session, uri, ttl_seconds=TTL)
            assert list(await a.subscriptions.uris(session)) == ["10", "9", "B", "a", "b", "é"]

    async def test_any_text_may_be_a_uri(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            session = new_facts().id
            for uri in ODD_URIS:
                await a.subscriptions.add(session, uri, ttl_seconds=TTL)
            assert list(await b.subscriptions.uris(session)) == sorted(ODD_URIS)
            for uri in ODD_URIS:
                assert await subscribed(b, uri) == {session}
                await b.subscriptions.remove(session, uri)
                assert await subscribed(a, uri) == set()
            assert list(await a.subscriptions.uris(session)) == []

    async def test_subscribing_again_is_one_subscription(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = new_facts().id
            for _ in range(3):
                await a.subscriptions.add(session, "r:1", ttl_seconds=TTL)
            assert [list(batch) async for batch in a.subscriptions.sessions("r:1")] == [[session]]
            await a.subscriptions.remove(session, "r:1")
            assert await subscribed(a, "r:1") == set()

    async def test_removing_forgets_one_subscription(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            one, other = new_facts().id, new_facts().id
            for session in (one, other):
                for uri in ("r:1", "r:2"):
                    await a.subscriptions.add(session, uri, ttl_seconds=TTL)
            await b.subscriptions.remove(one, "r:1")
            await b.subscriptions.remove(one, "never there")
            assert await subscribed(a, "r:1") == {other}
            assert await subscribed(a, "r:2") == {one, other}
            assert list(await a.subscriptions.uris(one)) == ["r:2"]

    async def test_dropping_forgets_all_of_one_session(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            one, other = new_facts().id, new_facts().id
            for session in (one, other):
                for uri in ("r:1", "r:2"):
                    await a.subscriptions.add(session, uri, ttl_seconds=TTL)
            await b.subscriptions.drop(one)
            await b.subscriptions.drop(new_facts().id)
            assert list(await a.subscriptions.uris(one)) == []
            assert list(await a.subscriptions.uris(other)) == ["r:1", "r:2"]
            for uri in ("r:1", "r:2"):
                assert await subscribed(a, uri) == {other}

    async def test_a_subscription_expires(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            short, long = new_facts().id, new_facts().id
            await a.subscriptions.add(short, "r:1", ttl_seconds=store.short_seconds)
            await a.subscriptions.add(long, "r:1", ttl_seconds=TTL)
            await store.advance(store.short_seconds * 1.5)
            assert await subscribed(a, "r:1") == {long}
            assert list(await a.subscriptions.uris(short)) == []

    async def test_refreshing_keeps_all_of_a_session(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            kept, added_again, left = (new_facts().id for _ in range(3))
            for session in (kept, added_again, left):
                for uri in ("r:1", "r:2"):
                    await a.subscriptions.add(session, uri, ttl_seconds=store.short_seconds)
            for _ in range(3):
                await store.advance(store.short_seconds * 0.5)
                await a.subscriptions.refresh(kept, ttl_seconds=store.short_seconds)
                await a.subscriptions.add(added_again, "r:1", ttl_seconds=store.short_seconds)
            assert list(await a.subscriptions.uris(kept)) == ["r:1", "r:2"]
            assert await subscribed(a, "r:1") == {kept, added_again}
            assert kept in await subscribed(a, "r:2")
            assert left not in await subscribed(a, "r:2")

    async def test_refreshing_brings_nothing_back(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            session = new_facts().id
            await a.subscriptions.add(session, "r:1", ttl_seconds=TTL)
            await a.subscriptions.drop(session)
            await a.subscriptions.refresh(session, ttl_seconds=TTL)
            assert list(await a.subscriptions.uris(session)) == []
            assert await subscribed(a, "r:1") == set()

    async def test_many_sessions_come_in_bounded_batches(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            sessions = {new_facts().id for _ in range(MOST_PER_BATCH + 500)}

            async def add(some: Sequence[SessionId]) -> None:
                for session in some:
                    await a.subscriptions.add(session, "r:1", ttl_seconds=TTL)

            async with anyio.create_task_group() as tasks:
                for first in range(20):
                    tasks.start_soon(add, sorted(sessions)[first::20])
            batches = [list(batch) async for batch in b.subscriptions.sessions("r:1")]
            assert all(len(batch) <= MOST_PER_BATCH for batch in batches)
            assert {session for batch in batches for session in batch} == sessions


async def subscribed(backend: Backend, uri: str) -> set[SessionId]:
    """All sessions that subscribed to a resource."""
    return {session async for batch in backend.subscriptions.sessions(uri) for session in batch}

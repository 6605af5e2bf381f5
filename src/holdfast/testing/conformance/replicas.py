# ruff: noqa: D102 - a test is named by a sentence
"""`ReplicaDirectory`: who lives."""

import pytest

from holdfast.sessions.types import ReplicaId
from holdfast.testing.conformance.harness import HOSTILE_IDS, StoreUnderTest

__all__ = ["ReplicaDirectorySuite"]


class ReplicaDirectorySuite:
    """A replica lives from its first beat until the beats stop or it says that it ends."""

    pytestmark = pytest.mark.anyio

    async def test_each_replica_has_an_id_of_its_own(self, store: StoreUnderTest) -> None:
        async with store.replicas(3) as replicas:
            ids = {backend.replica for backend in replicas}
            assert len(ids) == 3
            for replica in ids:
                assert replica
                assert not set(replica) & set(".{}|")
                assert replica.isascii()
                assert replica.isprintable()

    async def test_who_beats_lives_for_every_replica(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            await a.replicas.beat(60)
            await b.replicas.beat(60)
            for backend in (a, b):
                assert await backend.replicas.alive(a.replica)
                assert await backend.replicas.alive(b.replica)

    async def test_who_was_never_heard_of_is_dead(self, store: StoreUnderTest) -> None:
        async with store.replicas(1) as (a,):
            await a.replicas.beat(60)
            for unknown in ("unknown", a.replica[:-1], *HOSTILE_IDS):
                assert not await a.replicas.alive(ReplicaId(unknown))

    async def test_who_stops_beating_is_dead(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            await a.replicas.beat(store.short_seconds)
            await b.replicas.beat(60)
            await store.advance(store.short_seconds * 1.5)
            assert not await b.replicas.alive(a.replica)
            assert await a.replicas.alive(b.replica)
            await a.replicas.beat(60)
            assert await b.replicas.alive(a.replica)

    async def test_who_goes_on_beating_lives(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            for _ in range(4):
                await a.replicas.beat(store.short_seconds)
                await store.advance(store.short_seconds * 0.5)
                assert await b.replicas.alive(a.replica)

    async def test_a_name_that_several_share_lives_while_any_of_them_beats_it(
        self, store: StoreUnderTest
    ) -> None:
        async with store.replicas(2) as (a, b):
            shared = ReplicaId("shared")
            await a.replicas.beat(60, of=shared)
            assert await b.replicas.alive(shared)
            assert not await b.replicas.alive(a.replica)
            await b.replicas.beat(store.short_seconds, of=shared)
            await b.replicas.beat(60)
            await b.replicas.retire()
            assert await a.replicas.alive(shared)
            await store.advance(store.short_seconds * 1.5)
            assert not await a.replicas.alive(shared)

    async def test_who_retires_is_dead_at_once(self, store: StoreUnderTest) -> None:
        async with store.replicas(2) as (a, b):
            await a.replicas.beat(60)
            await b.replicas.beat(60)
            await a.replicas.retire()
            assert not await b.replicas.alive(a.replica)
            assert await a.replicas.alive(b.replica)
            await a.replicas.retire()

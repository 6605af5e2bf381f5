# pyright: reportPrivateUsage=false
"""The memory backend keeps every promise, on asyncio and on trio."""

import pytest

from holdfast.backends.memory import MemoryData
from holdfast.backends.memory.session_log import WRITERS_REMEMBERED
from holdfast.errors import ConfigurationError
from holdfast.sessions.types import STANDALONE, AppendKey, SessionId
from holdfast.testing import conformance
from holdfast.testing.conformance.harness import new_session
from tests.conformance.memory_store import MemoryStore


@pytest.fixture
def store() -> conformance.StoreUnderTest:
    return MemoryStore()


class TestEventLog(conformance.EventLogSuite): ...


class TestTrimming(conformance.TrimmingSuite): ...


class TestWatch(conformance.WatchSuite): ...


class TestClaims(conformance.ClaimSuite): ...


class TestLives(conformance.LivesSuite): ...


class TestBroadcastLog(conformance.BroadcastLogSuite): ...


class TestBroadcastLives(conformance.BroadcastLivesSuite): ...


class TestSessionStore(conformance.SessionStoreSuite): ...


class TestInbox(conformance.InboxSuite): ...


class TestBus(conformance.BusSuite): ...


class TestSubscriptionIndex(conformance.SubscriptionIndexSuite): ...


class TestReplicaDirectory(conformance.ReplicaDirectorySuite): ...


class TestTransfer(conformance.TransferSuite): ...


class TestNothingStaysBehind:
    """Beyond the protocols: a process may run for months."""

    async def test_ended_sessions_are_purged_in_passing(self) -> None:
        store = MemoryStore()
        backend = store.replica()
        for number in range(100):
            session = await new_session(backend, ttl_seconds=30)
            await backend.log.append(session, STANDALONE, b"x")
            if number % 2:
                await backend.sessions.close(session)
        await store.advance(31)
        for _ in range(100):
            assert await backend.sessions.find(SessionId("any"), owner=None, with_facts=False) is None
        data = store.data
        assert (data._sessions, data._tombstones, data._deadlines, data._ids) == ({}, {}, [], [])
        assert not data._ids_by_owner

    async def test_subscribing_and_unsubscribing_adds_nothing(self) -> None:
        store = MemoryStore()
        subscriptions = store.replica().subscriptions
        for _ in range(1000):
            await subscriptions.add(SessionId("s"), "r:1", ttl_seconds=60)
            await subscriptions.remove(SessionId("s"), "r:1")
        assert len(store.data.subscription_deadlines) == 1
        assert (store.data.subscriptions, store.data.subscribed) == ({}, {})

    async def test_answered_requests_are_let_go_behind_one_that_is_never_answered(self) -> None:
        store = MemoryStore()
        backend = store.replica()
        session = await new_session(backend)
        await backend.log.append(session, STANDALONE, b"?", expects="never")
        for number in range(1000):
            await backend.log.append(session, STANDALONE, b"?", expects=f"q{number}")
            await backend.inbox.put(session, f"q{number}", b"!")
            await backend.inbox.take(session, f"q{number}")
        found = store.data.live(session)
        order = found.log._trim_order
        assert len(found.waiting) == 1
        assert len(found.log._entries) == store.max_events
        assert max(map(len, (order._precious, order._standalone))) <= 2 * store.max_events + 1

    async def test_writers_are_remembered_up_to_a_bound(self) -> None:
        store = MemoryStore()
        backend = store.replica()
        session = await new_session(backend)
        for number in range(500):
            await backend.log.append(session, STANDALONE, b"x", key=AppendKey(f"w{number}", 1))
        assert len(store.data.live(session).log._streams[STANDALONE].accepted) == WRITERS_REMEMBERED

    def test_a_bound_of_nothing_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match="max_events is 0: it must be at least 1"):
            MemoryData(max_events=0)
        with pytest.raises(ConfigurationError, match="max_bytes is -1"):
            MemoryData(max_bytes=-1)

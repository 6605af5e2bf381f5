"""Behind the breaker, and behind the turnstile of the fallback, a backend keeps every promise."""

from typing import Self

import pytest
from typing_extensions import override

from holdfast.backends.fallback import FallbackBackend
from holdfast.backends.memory import MemoryBackend
from holdfast.errors import StoreUnavailable
from holdfast.sessions.breaker import Breaker
from holdfast.sessions.guarded import GuardedBackend
from holdfast.sessions.protocols import Backend
from holdfast.testing import conformance
from tests.conformance.memory_store import MemoryStore


class GuardedStore(MemoryStore):
    @override
    def replica(self) -> Backend:
        return GuardedBackend(super().replica(), Breaker())


class ReachedStore(MemoryStore):
    """The store was there at the start."""

    @override
    def replica(self) -> Backend:
        behind = super().replica()
        return FallbackBackend(lambda: behind, MemoryBackend(replica=behind.replica))


class _NeverThere(MemoryBackend):
    @override
    async def __aenter__(self) -> Self:
        raise StoreUnavailable("not there")


class IslandStore(MemoryStore):
    """It never was: memory serves."""

    @override
    def replica(self) -> Backend:
        return FallbackBackend(_NeverThere, super().replica())


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=[GuardedStore, ReachedStore, IslandStore], ids=["guarded", "reached", "island"])
def store(request: pytest.FixtureRequest) -> conformance.StoreUnderTest:
    made: conformance.StoreUnderTest = request.param()
    return made


class TestEventLog(conformance.EventLogSuite): ...


class TestTrimming(conformance.TrimmingSuite): ...


class TestWatch(conformance.WatchSuite): ...


class TestClaims(conformance.ClaimSuite): ...


class TestLives(conformance.LivesSuite): ...


class TestBroadcastLog(conformance.BroadcastLogSuite): ...


class TestBroadcastLives(conformance.BroadcastLivesSuite): ...


class TestInbox(conformance.InboxSuite): ...


class TestBus(conformance.BusSuite): ...


class TestSubscriptionIndex(conformance.SubscriptionIndexSuite): ...


class TestReplicaDirectory(conformance.ReplicaDirectorySuite): ...


class NoIslands:
    """An island says of no session that it is gone, which tests/flows/test_fallback.py shows."""

    @pytest.fixture(params=[GuardedStore, ReachedStore], ids=["guarded", "reached"])
    def store(self, request: pytest.FixtureRequest) -> conformance.StoreUnderTest:
        made: conformance.StoreUnderTest = request.param()
        return made


class TestTransfer(NoIslands, conformance.TransferSuite): ...


class TestSessionStore(NoIslands, conformance.SessionStoreSuite): ...

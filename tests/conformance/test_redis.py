"""The Redis backend keeps every promise, on Valkey and on Redis. Failovers: backends/redis/test_lives.py."""

import pytest
from typing_extensions import override

from holdfast.backends.redis import RedisBackend, RedisOptions
from holdfast.sessions.protocols import Backend
from holdfast.testing import conformance


class RedisStore(conformance.StoreUnderTest):
    def __init__(self, url: str) -> None:
        self.url = url

    @override
    def replica(self) -> Backend:
        return RedisBackend(
            self.url, options=RedisOptions(max_events=self.max_events, max_bytes=self.max_bytes)
        )


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def store(redis_url: str) -> conformance.StoreUnderTest:
    return RedisStore(redis_url)


class TestEventLog(conformance.EventLogSuite): ...


class TestTrimming(conformance.TrimmingSuite): ...


class TestWatch(conformance.WatchSuite): ...


class TestClaims(conformance.ClaimSuite): ...


class TestBroadcastLog(conformance.BroadcastLogSuite): ...


class TestSessionStore(conformance.SessionStoreSuite): ...


class TestInbox(conformance.InboxSuite): ...


class TestBus(conformance.BusSuite): ...


class TestSubscriptionIndex(conformance.SubscriptionIndexSuite): ...


class TestReplicaDirectory(conformance.ReplicaDirectorySuite): ...

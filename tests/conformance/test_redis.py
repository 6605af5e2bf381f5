"""The Redis backend keeps every promise, on Valkey and on Redis. Failovers: backends/redis/test_lives.py."""

import pytest

from holdfast.testing import conformance
from tests.conformance.redis_store import RedisStore


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


class TestTransfer(conformance.TransferSuite): ...

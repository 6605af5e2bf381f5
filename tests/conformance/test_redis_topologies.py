"""The Redis backend keeps every promise on a cluster; behind sentinels, what depends on the place."""

import pytest

from holdfast.testing import conformance
from tests.conformance.redis_store import RedisStore
from tests.topologies import ClusterSetup, SentinelSetup


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class OnCluster:
    @pytest.fixture
    def store(self, cluster: ClusterSetup) -> conformance.StoreUnderTest:
        return RedisStore(cluster.url)


class BehindSentinels:
    @pytest.fixture
    def store(self, sentinels: SentinelSetup) -> conformance.StoreUnderTest:
        return RedisStore(sentinels.url)


class TestEventLog(OnCluster, conformance.EventLogSuite): ...


class TestTrimming(OnCluster, conformance.TrimmingSuite): ...


class TestWatch(OnCluster, conformance.WatchSuite): ...


class TestClaims(OnCluster, conformance.ClaimSuite): ...


class TestBroadcastLog(OnCluster, conformance.BroadcastLogSuite): ...


class TestSessionStore(OnCluster, conformance.SessionStoreSuite): ...


class TestInbox(OnCluster, conformance.InboxSuite): ...


class TestBus(OnCluster, conformance.BusSuite): ...


class TestSubscriptionIndex(OnCluster, conformance.SubscriptionIndexSuite): ...


class TestReplicaDirectory(OnCluster, conformance.ReplicaDirectorySuite): ...


class TestWatchBehindSentinels(BehindSentinels, conformance.WatchSuite): ...


class TestInboxBehindSentinels(BehindSentinels, conformance.InboxSuite): ...


class TestBusBehindSentinels(BehindSentinels, conformance.BusSuite): ...

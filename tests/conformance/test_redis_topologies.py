"""The Redis backend keeps every promise on a cluster; behind sentinels, what depends on the place.

It runs as the users that docs/backends/redis.md says are enough.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from holdfast.testing import conformance
from tests.conformance.redis_store import RedisStore
from tests.topologies import ClusterSetup, SentinelSetup


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def documented_users() -> list[list[str]]:
    """The rules of the user for the servers, and of the one for the sentinels."""
    text = (Path(__file__).parents[2] / "docs" / "backends" / "redis.md").read_text("utf-8")
    return [
        match.split()
        for match in re.findall(r"^ACL SETUSER holdfast (.*?)^```", text, re.MULTILINE | re.DOTALL)
    ]


@pytest.fixture(scope="module")
def few_rights_in_the_cluster(running_cluster: ClusterSetup) -> Iterator[str]:
    rules, _ = documented_users()
    for server in running_cluster.servers:
        server.cli("ACL", "SETUSER", "holdfast", *rules, "+cluster|slots", "+cluster|info", "+asking")
    yield running_cluster.url.replace("://", "://holdfast:password@")
    for server in running_cluster.servers:
        server.cli("ACL", "DELUSER", "holdfast")


@pytest.fixture(scope="module")
def few_rights_behind_sentinels(running_sentinels: SentinelSetup) -> Iterator[str]:
    rules, rules_of_sentinels = documented_users()
    for server in running_sentinels.servers:
        server.cli("ACL", "SETUSER", "holdfast", *rules)
    for sentinel in running_sentinels.sentinels:
        sentinel.cli("ACL", "SETUSER", "holdfast", *rules_of_sentinels)
    url = running_sentinels.url.replace("://", "://holdfast:password@")
    yield f"{url}?sentinel_username=holdfast&sentinel_password=password"
    for server in (*running_sentinels.servers, *running_sentinels.sentinels):
        server.cli("ACL", "DELUSER", "holdfast")


class OnCluster:
    @pytest.fixture
    def store(self, cluster: ClusterSetup, few_rights_in_the_cluster: str) -> conformance.StoreUnderTest:
        return RedisStore(few_rights_in_the_cluster)


class BehindSentinels:
    @pytest.fixture
    def store(self, sentinels: SentinelSetup, few_rights_behind_sentinels: str) -> conformance.StoreUnderTest:
        return RedisStore(few_rights_behind_sentinels)


class TestEventLog(OnCluster, conformance.EventLogSuite): ...


class TestTrimming(OnCluster, conformance.TrimmingSuite): ...


class TestWatch(OnCluster, conformance.WatchSuite): ...


class TestClaims(OnCluster, conformance.ClaimSuite): ...


class TestBroadcastLog(OnCluster, conformance.BroadcastLogSuite): ...


class TestSessionStore(OnCluster, conformance.SessionStoreSuite): ...


class TestInbox(OnCluster, conformance.InboxSuite): ...


class TestBus(OnCluster, conformance.BusSuite): ...


class TestSubscriptionIndex(OnCluster, conformance.SubscriptionIndexSuite): ...


class TestTransfer(OnCluster, conformance.TransferSuite): ...


class TestReplicaDirectory(OnCluster, conformance.ReplicaDirectorySuite): ...


class TestWatchBehindSentinels(BehindSentinels, conformance.WatchSuite): ...


class TestInboxBehindSentinels(BehindSentinels, conformance.InboxSuite): ...


class TestBusBehindSentinels(BehindSentinels, conformance.BusSuite): ...

"""The SQLite backend keeps every promise, on asyncio and on trio."""

from pathlib import Path

import pytest

from holdfast.testing import conformance
from tests.conformance.sqlite_store import SqliteStore


@pytest.fixture
def store(tmp_path: Path) -> conformance.StoreUnderTest:
    return SqliteStore(tmp_path / "store.db")


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

"""Fixtures for all tests; README.md beside this file says which test goes where."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.mutants.summary import pytest_terminal_summary
from tests.servers import FLAVOURS, Flavour, RunningServer, assert_every_key_expires, start_server
from tests.topologies import ClusterSetup, SentinelSetup, start_cluster, start_sentinels

__all__ = ["pytest_terminal_summary"]  # here, where the process that prints the summary finds it too


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own store must never be what a test writes to."""
    monkeypatch.delenv("HOLDFAST_STORE", raising=False)
    monkeypatch.delenv("REDIS_URL", raising=False)


@pytest.fixture(scope="session")
def valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One Valkey for the whole run. Not checked or emptied: for that, take `redis_server`."""
    with start_server("valkey", directory=tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture(scope="session")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """One Redis for the whole run. Not checked or emptied: for that, take `redis_server`."""
    with start_server("redis", directory=tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=FLAVOURS)
def redis_flavour(request: pytest.FixtureRequest) -> Flavour:
    """Which server `redis_server` is: both, one after the other."""
    flavour: Flavour = request.param
    return flavour


@pytest.fixture
def redis_server(redis_flavour: Flavour, request: pytest.FixtureRequest) -> Iterator[RunningServer]:
    """An empty Valkey, then an empty Redis. Afterwards every key must have a TTL.

    A test may kill or pause it; it is up again for the next one.
    """
    server: RunningServer = request.getfixturevalue(redis_flavour)
    yield server
    if server.paused:
        server.resume()
    if not server.alive:
        server.restart()
    try:
        assert_every_key_expires(server)
    finally:
        server.cli("FLUSHALL")


@pytest.fixture(scope="session")
def running_sentinels(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SentinelSetup]:
    """One set-up with Sentinel for the whole run. For a test, take `sentinels`."""
    with start_sentinels("valkey", directory=tmp_path_factory.mktemp("sentinels")) as setup:
        yield setup


@pytest.fixture(scope="session")
def running_cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterSetup]:
    """One cluster for the whole run. For a test, take `cluster`."""
    with start_cluster("redis", directory=tmp_path_factory.mktemp("cluster")) as setup:
        yield setup


@pytest.fixture
def sentinels(running_sentinels: SentinelSetup) -> Iterator[SentinelSetup]:
    """An empty Valkey master with a replica, and three sentinels. What a test breaks is mended after it."""
    yield running_sentinels
    running_sentinels.heal()
    running_sentinels.check_and_empty()


@pytest.fixture
def cluster(running_cluster: ClusterSetup) -> Iterator[ClusterSetup]:
    """An empty Redis cluster of three masters, each with a replica. What a test breaks is mended after it."""
    yield running_cluster
    running_cluster.heal()
    running_cluster.check_and_empty()


@pytest.fixture
def redis_url(redis_server: RunningServer) -> str:
    """The URL of `redis_server`, checked for leaked keys at the end."""
    return redis_server.url

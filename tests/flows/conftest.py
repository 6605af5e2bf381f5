"""What flow tests run on: each store, each event loop that it allows, with sockets or without."""

from collections.abc import AsyncGenerator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import pytest
from typing_extensions import override

from holdfast.testing.replicas import Fleet, replicas
from tests.flows.apps import Framework, Stage, app_factory
from tests.flows.wire import Wire
from tests.servers import RunningServer, assert_every_key_expires
from tests.topologies import ClusterSetup, SentinelSetup


@dataclass(frozen=True)
class Setup:
    """One way to run a fleet."""

    store: Literal["memory", "sqlite", "valkey", "redis", "sentinels", "cluster"]
    loop: Literal["asyncio", "trio"] = "asyncio"
    sockets: bool = False

    @override
    def __str__(self) -> str:
        return "-".join([self.store, self.loop, *(["sockets"] if self.sockets else [])])


WIRE = (Setup("memory"), Setup("memory", "trio"), Setup("sqlite"), Setup("valkey"), Setup("redis"))
"""Without sockets: each request chooses its replica."""

CLIENTS = (
    Setup("memory", sockets=True),
    Setup("memory", "trio"),
    Setup("sqlite", sockets=True),
    Setup("valkey", sockets=True),
    Setup("redis", sockets=True),
)
"""For clients of others: over real HTTP and the round-robin proxy where that is possible."""


@pytest.fixture(params=WIRE, ids=str)
def setup(request: pytest.FixtureRequest) -> Setup:
    """How this test runs. Modules with clients of others choose `clients` instead."""
    chosen: Setup = request.param
    return chosen


@pytest.fixture
def anyio_backend(setup: Setup) -> str:
    return setup.loop


@pytest.fixture
def redis_server(setup: Setup, request: pytest.FixtureRequest) -> Iterator[RunningServer | None]:
    """The server of this test's store, if it has one; checked and emptied at the end."""
    if setup.store not in {"valkey", "redis"}:
        yield None
        return
    server: RunningServer = request.getfixturevalue(setup.store)
    yield server
    if server.paused:
        server.resume()
    if not server.alive:
        server.restart()
    try:
        assert_every_key_expires(server)
    finally:
        server.cli("FLUSHALL")


@pytest.fixture
def store(
    setup: Setup, redis_server: RunningServer | None, tmp_path: Path, request: pytest.FixtureRequest
) -> str | None:
    """The URL of this test's store; None for memory."""
    if setup.store in {"sentinels", "cluster"}:
        topology: SentinelSetup | ClusterSetup = request.getfixturevalue(setup.store)
        return topology.url
    if setup.store == "sqlite":
        return f"sqlite://{tmp_path / 'sessions.db'}"
    return None if redis_server is None else redis_server.url


@pytest.fixture(params=["sdk", "fastmcp"])
def framework(request: pytest.FixtureRequest) -> Framework:
    """Who serves. A test about one framework's own features names it itself."""
    name: Framework = request.param
    return name


@pytest.fixture
def stage() -> Stage:
    return Stage()


class Start(Protocol):
    """Start a fleet: `async with start(...) as fleet`."""

    def __call__(
        self,
        framework: Framework = "sdk",
        *,
        count: int = 3,
        app: dict[str, Any] | None = None,
        verifier: Any = None,
        **options: Any,
    ) -> AbstractAsyncContextManager[Fleet]: ...


@pytest.fixture
def start(setup: Setup, store: str | None, stage: Stage) -> Start:
    """Starts three replicas of the server of `apps.py` on this test's store."""

    def started(
        framework: Framework = "sdk",
        *,
        count: int = 3,
        app: dict[str, Any] | None = None,
        verifier: Any = None,
        **options: Any,
    ) -> AbstractAsyncContextManager[Fleet]:
        make_app = app_factory(framework, stage, verifier=verifier, **(app or {}))
        return replicas(make_app, count=count, store=store, sockets=setup.sockets, **options)

    return started


class Wired(Protocol):
    """Start a fleet and open a session: `async with wired(...) as wire`."""

    def __call__(
        self, framework: Framework = "sdk", *, version: str = "2025-11-25", **options: Any
    ) -> AbstractAsyncContextManager[Wire]: ...


@pytest.fixture
def wired(start: Start) -> Wired:
    """Three replicas, and one open session of a client made by hand."""

    @asynccontextmanager
    async def connected(
        framework: Framework = "sdk", *, version: str = "2025-11-25", **options: Any
    ) -> AsyncGenerator[Wire, None]:
        async with start(framework, **options) as fleet, fleet.client() as client:
            wire = Wire(fleet, client, version=version)
            await wire.initialize(on=0)
            yield wire

    return connected

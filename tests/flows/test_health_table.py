"""What a health check says of each fault: its status, its warning, and soon, whatever the store does."""

from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest
from starlette.applications import Starlette

from holdfast.ops.health import register
from holdfast.ops.health.examination import Examination, Probed, examine
from holdfast.ops.health.report import render, report
from holdfast.ops.health.rules import FALLBACK, NO_CANARY, NO_REDIS
from holdfast.sessions.condition import Condition
from holdfast.sessions.diagnosis import StoreFacts
from holdfast.sessions.replica import Replica
from holdfast.sessions.types import SessionId
from holdfast.testing.replicas import Fleet, replicas
from tests.flows.wire import Wire, payload
from tests.servers import RunningServer, start_server

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])  # the Redis client runs on asyncio only

PROMISED_SECONDS = 1.0
PATIENCE_SECONDS = 20.0


@dataclass
class Case:
    """A fleet of one, its server, and what ends with the test."""

    server: RunningServer
    fleet: Fleet
    stack: ExitStack

    @property
    def replica(self) -> Replica:
        replica = self.fleet.replicas[0].attached.replica
        assert replica is not None
        return replica


def app(kind: str) -> Callable[[int], Starlette]:
    def make(_number: int) -> Starlette:
        if kind == "fastmcp":
            from fastmcp import FastMCP  # noqa: PLC0415 - heavy

            fast = FastMCP("health")
            register(fast)
            return fast.http_app()
        from mcp.server import MCPServer  # noqa: PLC0415 - beside the other

        server = MCPServer("health")
        register(server)
        return server.streamable_http_app()

    return make


async def nothing(_case: Case) -> None:
    """All is well."""


async def slow(case: Case) -> None:
    case.server.cli("CLIENT", "PAUSE", 250, "ALL")


async def frozen(case: Case) -> None:
    case.server.pause()


async def gone(case: Case) -> None:
    case.server.kill()


async def wrong_password(case: Case) -> None:
    case.server.pipeline([("CONFIG", "SET", "requirepass", "hunter2"), ("CLIENT", "KILL", "TYPE", "normal")])
    with anyio.fail_after(PATIENCE_SECONDS):
        while (await examine(case.replica)).asked.ok:
            await anyio.lowlevel.checkpoint()


async def evicting(case: Case) -> None:
    case.server.pipeline(
        [("CONFIG", "SET", "maxmemory", "512mb"), ("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")]
    )


async def no_persistence(case: Case) -> None:
    case.server.cli("CONFIG", "SET", "appendonly", "no")


async def out_of_memory(case: Case) -> None:
    case.server.cli("CONFIG", "SET", "maxmemory", "1mb")


async def replica_behind(case: Case) -> None:
    extra = ["--replicaof", f"127.0.0.1 {case.server.port}"]
    follower = case.stack.enter_context(start_server(case.server.flavour, extra=extra))
    with anyio.fail_after(PATIENCE_SECONDS):
        while b"state=online" not in cast("bytes", case.server.cli("INFO", "replication")):
            await anyio.lowlevel.checkpoint()
    follower.pause()
    case.stack.callback(follower.resume)
    case.server.cli("SET", "big", b"x" * 2**21, "PX", 60_000)


async def draining(case: Case) -> None:
    case.fleet.replicas[0].attached.drain(seconds=60)


Fault = Callable[[Case], Awaitable[None]]
TABLE: list[tuple[Fault, str, str | None]] = [
    (nothing, "healthy", None),
    (slow, "degraded", "The store is slow"),
    (frozen, "unhealthy", NO_REDIS),
    (gone, "unhealthy", NO_REDIS),
    (wrong_password, "unhealthy", NO_REDIS),
    (evicting, "degraded", "The store evicts keys when memory is short (maxmemory-policy allkeys-lru)"),
    (no_persistence, "degraded", "The store has no persistence: its restart loses all sessions"),
    (out_of_memory, "unhealthy", NO_CANARY),
    (replica_behind, "degraded", "A replica of the store is behind"),
    (draining, "degraded", "This replica is shutting down"),
]


@pytest.mark.guarantee("G18")
@pytest.mark.parametrize(("fault", "status", "warning"), TABLE, ids=[row[0].__name__ for row in TABLE])
async def test_each_fault_has_its_status_and_its_warning(
    fault: Fault, status: str, warning: str | None
) -> None:
    with ExitStack() as stack:
        server = stack.enter_context(start_server("redis", extra=["--appendonly", "yes"]))
        async with replicas(app("sdk"), count=1, store=server.url) as fleet, fleet.client() as client:
            case = Case(server, fleet, stack)
            wire = Wire(fleet, client)
            await wire.initialize()
            await fault(case)
            with anyio.fail_after(2 * PROMISED_SECONDS):  # the promise, and as much for a busy machine
                data = report(await examine(case.replica), session=SessionId(str(wire.session)))
            text = render(data)
            server.resume() if server.paused else None
        assert data["overall_status"] == status, text
        assert status.upper() in text
        if warning is None:
            assert data["warnings"] == []
            assert "Session persistence is working correctly" in data["recommendations"]
            assert "Consider setting up Redis backup for production use" in data["recommendations"]
        else:
            assert any(line.startswith(warning) for line in data["warnings"]), text
        for secret in (str(wire.session), str(server.port), "hunter2"):
            assert secret not in text + repr(data)


def judged(mode: str = "redis", **found: Any) -> dict[str, Any]:
    return report(Examination(mode, **found), asked_by_client=False)


HEALTHY: dict[str, Any] = {"product": "Redis", "mode": "redis", "append_only": True}


@pytest.mark.parametrize(
    ("found", "status", "warning"),
    [
        ({"condition": Condition(mode="fallback")}, "degraded", FALLBACK),
        (
            {"condition": Condition(mode="outage", since=0.0, events_at_risk=3, sessions_at_risk=2)},
            "unhealthy",
            "The store has been away",
        ),
        (
            {"facts": StoreFacts(**HEALTHY, clock_skew_seconds=-30.0)},
            "degraded",
            "The store's clock is 30.0 s behind this machine's",
        ),
        (
            {"facts": StoreFacts(product="SQLite", mode="sqlite", free_bytes=2**20)},
            "degraded",
            "The disk of the store has 1 MB left",
        ),
        (
            {"facts": StoreFacts(**HEALTHY, last_save_failed=True)},
            "unhealthy",
            "The store cannot save its data",
        ),
        ({"facts": StoreFacts(**HEALTHY, evicted_keys=5)}, "degraded", "The store has evicted 5 keys"),
        ({"canary": Probed(error="refused", refused=True)}, "unhealthy", NO_CANARY),
    ],
)
async def test_the_rules_for_what_no_server_here_is_brought_to(
    found: dict[str, Any], status: str, warning: str
) -> None:
    """Rules alone: here the findings are given, and nothing was measured."""
    data = judged(**found)
    assert data["overall_status"] == status
    assert data["warnings"][0].startswith(warning)


@pytest.mark.parametrize("kind", ["sdk", "fastmcp"])
async def test_a_client_calls_the_tool_and_reads_it_either_way(kind: str) -> None:
    async with replicas(app(kind), count=1) as fleet, fleet.client() as client:
        wire = Wire(fleet, client)
        await wire.initialize()
        params: dict[str, Any] = {"name": "session_health_check", "arguments": {}}
        message: dict[str, Any] = {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params}
        result = payload(await wire.post(message))["result"]
        text, data = result["content"][0]["text"], result["structuredContent"]
        assert text.startswith("✅ Session Health Status: HEALTHY")
        assert "Storage Test: ✅ PASS" in text
        assert data["session_active"]
        assert data["session_id_length"] == len(str(wire.session))
        assert str(wire.session) not in text + repr(data)


@pytest.mark.guarantee("G18")
async def test_a_check_leaves_the_streams_of_clients_alone() -> None:
    with start_server("redis", extra=["--appendonly", "yes"]) as server:
        async with replicas(app("sdk"), count=1, store=server.url) as fleet, fleet.client() as client:
            wire = Wire(fleet, client)
            await wire.initialize()
            replica = fleet.replicas[0].attached.replica
            assert replica is not None
            session = SessionId(str(wire.session))
            before = await replica.backend.transfer.dump(session)
            assert before is not None
            assert (await examine(replica)).canary.ok
            after = await replica.backend.transfer.dump(session)
            assert after is not None
            assert (after.top, after.events) == (before.top, before.events)
            assert server.cli("EXISTS", f"{{mcp:canary}}:{replica.id}") == 0

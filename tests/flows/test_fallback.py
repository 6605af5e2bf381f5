"""The store is not there when the process starts: memory serves until it is, and nobody notices."""

import logging
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from holdfast.backends import open_store
from holdfast.errors import ConfigurationError, StoreRefused, StoreUnavailable
from holdfast.ops.health.checks import readiness
from holdfast.ops.health.examination import examine
from holdfast.ops.health.report import report
from holdfast.sessions.condition import Condition
from holdfast.settings import StoreSettings
from tests.flows.apps import Stage
from tests.flows.conftest import Setup, Start, Wired
from tests.flows.wire import Wire, call, said, until
from tests.servers import RunningServer, start_server


@pytest.fixture
def setup() -> Setup:
    return Setup("valkey")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    """One that was there, and is not."""
    with start_server("valkey", directory=tmp_path) as server:
        server.kill()
        yield server


@pytest.fixture
def store(server: RunningServer) -> str:
    return server.url


def condition(wire: Wire, on: int) -> Condition:
    attached = wire.fleet.replicas[on].attached
    assert attached.replica is not None
    return attached.replica.condition


async def moved(wire: Wire, on: int = 0) -> None:
    await until(lambda: condition(wire, on).mode == "normal")


@pytest.fixture
def alone(wired: Wired, monkeypatch: pytest.MonkeyPatch) -> Any:
    """One replica that begins in memory."""
    monkeypatch.setenv("FALLBACK_TO_MEMORY", "true")

    @asynccontextmanager
    async def started(**options: Any) -> AsyncGenerator[Wire]:
        async with wired(count=1, **options) as wire:
            assert condition(wire, 0).mode == "fallback"
            yield wire

    return started


@pytest.mark.guarantee("G11")
async def test_sessions_move_into_the_store_and_any_replica_serves_them(
    alone: Any, start: Start, server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING, "holdfast")
    async with alone() as wire:
        assert "Using memory fallback instead of Redis" in caplog.text
        assert condition(wire, 0).sessions_at_risk == 1
        async with wire.open(on=0) as standalone:
            await standalone.next()
            await wire.do("announce", on=0)
            await standalone.method("notifications/tools/list_changed")
            heard = standalone.last_id
        await wire.do("touch", "res://1", on=0)
        server.start()
        await moved(wire)
        assert condition(wire, 0) == Condition()
        assert "1 sessions moved into it" in caplog.text
        await wire.fleet.add()
        assert await wire.do("echo", "x", on=1) == "1:x"
        async with wire.open(on=1, after=heard) as elsewhere:
            message = await elsewhere.method("notifications/resources/updated")
            assert message["params"]["uri"] == "res://1"


@pytest.mark.guarantee("G11")
async def test_a_call_and_a_listener_go_on_through_the_move(
    alone: Any, server: RunningServer, stage: Stage
) -> None:
    async with (
        alone() as wire,
        wire.open(on=0) as standalone,
        wire.calling("report_and_wait", on=0) as stream,
    ):
        await standalone.next()
        await stream.method("notifications/progress")
        heard = stream.last_id
        server.start()
        await moved(wire)
        await wire.fleet.add()
        stage.mark("go")
        assert (await stream.method("notifications/progress"))["params"]["progress"] == 2
        await wire.do("announce", on=1)
        await standalone.method("notifications/tools/list_changed")
        async with wire.open(on=1, after=heard) as elsewhere:
            assert (await elsewhere.method("notifications/progress"))["params"]["progress"] == 2
            stage.mark("end")
            assert (await elsewhere.method("notifications/progress"))["params"]["progress"] == 3
            assert said(await elsewhere.result()) == "0:done"


async def test_a_question_may_be_answered_on_the_other_side(alone: Any, server: RunningServer) -> None:
    async with alone() as wire, wire.calling("elicit", "name?", on=0) as stream:
        question = await stream.method("elicitation/create")
        server.start()
        await moved(wire)
        await wire.fleet.add()
        assert await wire.answer(question, {"action": "accept", "content": {"name": "bob"}}, on=1) == 202
        assert said(await stream.result()) == "0:accept:bob"


async def test_health_and_readiness_say_so(alone: Any, server: RunningServer) -> None:
    async with alone() as wire:
        replica = wire.fleet.replicas[0].attached.replica
        found = report(await examine(replica))
        assert found["using_fallback"] is True
        assert found["overall_status"] != "healthy"
        assert "Using memory fallback instead of Redis" in found["warnings"]
        assert any("memory fallback" in reason for reason in (await readiness(replica)).reasons)
        server.start()
        await moved(wire)
        found = report(await examine(replica))
        assert found["using_fallback"] is False
        assert found["redis_connected"] is True
        assert (await readiness(replica)).reasons == []


@pytest.mark.guarantee("G11")
async def test_a_session_that_this_island_does_not_know_is_not_called_gone(
    alone: Any, server: RunningServer
) -> None:
    async with alone() as wire:
        unknown = await wire.post(call("echo", "x"), on=0, mcp_session_id="it-may-be-elsewhere")
        assert unknown.status_code == 503
        assert "retry-after" in unknown.headers
        assert await wire.delete(on=0) == 200
        assert (await wire.post(call("echo", "x"), on=0)).status_code == 404
        server.start()
        await moved(wire)
        assert (await wire.post(call("echo", "x"), on=0)).status_code == 404
        unknown = await wire.post(call("echo", "x"), on=0, mcp_session_id="it-may-be-elsewhere")
        assert unknown.status_code == 404


async def test_an_outage_after_that_is_no_fallback(alone: Any, server: RunningServer) -> None:
    async with alone() as wire:
        server.start()
        await moved(wire)
        server.pause()
        await until(lambda: condition(wire, 0).mode == "outage")
        server.resume()
        await moved(wire)
        assert await wire.do("echo", "x", on=0) == "0:x"


async def test_a_store_that_refuses_is_no_reason_for_memory(server: RunningServer) -> None:
    server.start()
    server.cli("CONFIG", "SET", "requirepass", "secret")
    with pytest.raises(StoreRefused):
        async with open_store(server.url, serving=True, fallback="memory"):
            pass


async def test_without_a_fallback_the_start_fails(store: str) -> None:
    with pytest.raises(StoreUnavailable):
        async with open_store(store, serving=True):
            pass
    with pytest.raises(StoreUnavailable):
        async with open_store(store, serving=True, fallback="fail"):
            pass
    with pytest.raises(StoreUnavailable):  # who does not serve has no use for another memory
        async with open_store(store, fallback="memory"):
            pass


@pytest.mark.parametrize(
    ("environment", "falls_back"),
    [
        ({"REDIS_URL": "redis://x"}, True),
        ({"REDIS_HOST": "x"}, True),
        ({"HOLDFAST_STORE": "redis://x"}, False),
        ({"REDIS_URL": "redis://x", "FALLBACK_TO_MEMORY": "false"}, False),
        ({"HOLDFAST_STORE": "redis://x", "FALLBACK_TO_MEMORY": "true"}, True),
    ],
)
async def test_the_guides_variables_bring_its_fallback_along(
    environment: dict[str, str], falls_back: bool
) -> None:
    settings = StoreSettings.from_environment(environment)
    assert settings.falls_back(settings.url_variable) is falls_back


async def test_a_wrong_choice_is_named() -> None:
    with pytest.raises(ConfigurationError, match="FALLBACK_TO_MEMORY: got 'maybe', expected true"):
        StoreSettings.from_environment({"FALLBACK_TO_MEMORY": "maybe"})
    with pytest.raises(ConfigurationError, match="fallback: got 'disk', expected memory or fail"):
        open_store("redis://x", fallback="disk")

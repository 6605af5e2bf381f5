"""`holdfast health` against a running server and against stores."""

import json
import sys
from collections.abc import Iterator
from subprocess import CompletedProcess, run

import anyio.to_thread
import pytest

from holdfast.ops.health import mount_health
from tests.flows.conftest import Setup, Start
from tests.servers import RunningServer, start_server


@pytest.fixture
def setup() -> Setup:
    return Setup("valkey", sockets=True)


@pytest.fixture
def own() -> Iterator[RunningServer]:
    with start_server("valkey", password="hunter2") as server:
        yield server


async def holdfast(*arguments: str) -> CompletedProcess[str]:
    """Run `holdfast health` to its end."""
    command = [sys.executable, "-m", "holdfast.ops.cli", "health", *arguments]
    return await anyio.to_thread.run_sync(
        lambda: run(command, capture_output=True, text=True, timeout=60, check=False)
    )


async def test_a_store_says_how_it_is(own: RunningServer) -> None:
    own.cli("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    own.cli("CONFIG", "SET", "maxmemory", str(2**30))
    told = await holdfast("--store", own.url)
    assert told.returncode == 0
    assert "Session Health Status: DEGRADED" in told.stdout
    assert "Storage Test: ✅ PASS" in told.stdout
    data = json.loads((await holdfast("--json", "--store", own.url)).stdout)
    assert data["redis_connected"] is True
    assert data["redis_info"]["maxmemory_policy"] == "allkeys-lru"
    for text in (told.stdout, told.stderr, json.dumps(data)):
        assert "hunter2" not in text


async def test_a_store_that_is_not_there_or_refuses_is_a_failure(own: RunningServer) -> None:
    wrong = await holdfast("--store", own.url.replace("hunter2", "wrong"))
    assert wrong.returncode == 1
    assert "Traceback" not in wrong.stderr
    own.kill()
    gone = await holdfast("--store", own.url)
    assert gone.returncode == 1
    assert "holdfast health: --store: " in gone.stderr
    assert "hunter2" not in gone.stderr


async def test_a_running_server_says_whether_it_is_ready(start: Start) -> None:
    async with start(count=1) as fleet:
        replica = fleet.replicas[0]
        mount_health(replica.app)
        told = await holdfast(replica.url)
        assert (told.returncode, told.stdout.split()) == (0, ["live", "ready"])
        replica.attached.drain(seconds=60)
        told = await holdfast(replica.url)
        assert told.returncode == 1
        assert "- this replica is shutting down" in told.stdout
        asked = json.loads((await holdfast("--json", replica.url)).stdout)
        assert (asked["live"]["ok"], asked["ready"]["ok"]) == (True, False)


@pytest.mark.parametrize("arguments", [(), ("ftp://x",), ("--store", "memory://")])
async def test_a_wrong_command_says_what_is_expected(
    arguments: tuple[str, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("HOLDFAST_STORE", "REDIS_URL", "REDIS_HOST"):
        monkeypatch.delenv(variable, raising=False)
    told = await holdfast(*arguments)
    assert told.returncode == 2
    assert "Traceback" not in told.stderr

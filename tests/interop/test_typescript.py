"""The TypeScript SDK's clients of both generations on three replicas."""

import json
from pathlib import Path
from typing import Any, TypeAlias

import anyio
import pytest

from holdfast.testing.replicas import Fleet, replicas
from tests.flows.apps import Framework, app_factory
from tests.servers import RunningServer

PATHS = {"http": "/mcp", "sse": "/sse"}
PATIENCE_SECONDS = 45.0
NodeCommand: TypeAlias = tuple[list[str], dict[str, str]]


async def run(command: NodeCommand, script: Path, *arguments: str) -> dict[str, Any]:
    """What a client says it saw."""
    with anyio.fail_after(PATIENCE_SECONDS):
        done = await anyio.run_process([*command[0], str(script), *arguments], env=command[1], check=False)
    assert done.returncode == 0, done.stderr.decode()[-2000:]
    seen: dict[str, Any] = json.loads(done.stdout)
    return seen


def answered(answers: list[str], what: str) -> bool:
    return [answer.partition(":")[2] for answer in answers] == [what] * 3


def posts(fleet: Fleet) -> set[int]:
    return {served.replica for served in fleet.log if served.method == "POST"}


@pytest.mark.timeout(400)  # the first one installs
@pytest.mark.parametrize("framework", ["sdk", "fastmcp"])
@pytest.mark.parametrize("transport", ["http", "sse"])
async def test_the_first_generation(
    installed: Path, node_command: NodeCommand, valkey: RunningServer, transport: Any, framework: Framework
) -> None:
    make_app = app_factory(framework, transport=transport)
    async with replicas(make_app, count=3, sockets=True, store=valkey.url) as fleet:
        url = fleet.url + PATHS[transport]
        seen = await run(node_command, installed / "typescript_1.mjs", transport, url)
        assert seen["tools"] == ["do"]
        assert answered(seen["echoed"], "x")
        assert answered(seen["elicited"], "accept:ada")
        assert seen["changed"]
        assert seen["failed"]
        if transport == "http":
            # Over SSE this client forgets whom to tell of progress when the answer comes in the same read.
            assert seen["steps"] == [1, 2, 3]
        assert posts(fleet) == {0, 1, 2}


@pytest.mark.timeout(400)
@pytest.mark.parametrize("transport", ["http", "sse"])
async def test_the_second_generation(
    installed: Path, node_command: NodeCommand, valkey: RunningServer, transport: Any
) -> None:
    make_app = app_factory(transport=transport)
    async with replicas(make_app, count=3, sockets=True, store=valkey.url) as fleet:
        url = fleet.url + PATHS[transport]
        seen = await run(node_command, installed / "typescript_2.mjs", transport, url)
        assert seen["tools"] == ["do"]
        assert answered(seen["echoed"], "x")
        assert answered(seen["elicited"], "accept:ada")
        assert posts(fleet) == {0, 1, 2}

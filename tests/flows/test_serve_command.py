"""`holdfast serve` as its users run it: real processes, real sockets, real signals."""

from __future__ import annotations

import os
import signal
import socket
from pathlib import Path
from typing import Final

import anyio
import httpx2
import pytest

from tests.flows.command import (
    PATIENCE_SECONDS,
    Client,
    Command,
    connected,
    refused,
    serving,
    until,
)
from tests.flows.conftest import Setup

SERVERS: Final = {
    "sdk.py": """
import gc, os
import anyio
from mcp.server import MCPServer
mcp = MCPServer("served")

@mcp.tool()
def who() -> str:
    return str(os.getpid())

@mcp.tool()
def collector() -> str:
    return f"{gc.get_freeze_count() > 10_000} {gc.get_threshold()}"

@mcp.tool()
async def hold(flag: str) -> str:
    open(flag + ".held", "w").close()
    while not os.path.exists(flag):
        await anyio.sleep(0.02)
    return "released"
""",
    "low.py": """
from mcp.server.lowlevel import Server
from mcp_types import CallToolResult, ListToolsResult, TextContent

async def list_tools(ctx, params):
    return ListToolsResult(tools=[])

async def call_tool(ctx, params):
    return CallToolResult(content=[TextContent(text="low")])

server = Server("low", on_list_tools=list_tools, on_call_tool=call_tool)
""",
    "fast.py": """
from fastmcp import FastMCP
app = FastMCP("fast")

@app.tool
def who() -> str:
    return "fast"
""",
    "made.py": """
import anyio

def plain():
    import sdk
    return sdk.mcp

async def asynchronous():
    await anyio.sleep(0)
    return plain()
""",
}


@pytest.fixture
def setup() -> Setup:
    """These tests start their own processes; those with a store take Valkey."""
    return Setup("valkey", sockets=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the command is run: a folder with servers in it."""
    for name, text in SERVERS.items():
        (tmp_path / name).write_text(text)
    return tmp_path


# What it serves


@pytest.mark.parametrize(
    ("target", "answer"),
    [
        ("sdk:mcp", None),
        ("sdk.py", None),
        ("low:server", "low"),
        ("fast", "fast"),
        ("made:plain", None),
        ("made:asynchronous", None),
    ],
)
async def test_every_kind_of_server_is_served(folder: Path, target: str, answer: str | None) -> None:
    async with serving(folder, target) as command, connected(command) as client:
        assert await client.call("who") == (answer or str(command.process.pid))


async def test_it_says_where_it_is_and_what_it_uses(folder: Path, store: str) -> None:
    async with serving(folder, "sdk:mcp", "--path", "/here", store=store) as command:
        assert command.said[0].endswith("serves sdk:mcp")
        assert command.url.startswith("http://127.0.0.1:")
        assert command.url.endswith("/here")
        assert f"store     {store}" in command.said
        assert "replicas  1 process" in command.said
        async with connected(command) as client:
            assert await client.call("who") == str(command.process.pid)


async def test_the_collector_is_tuned_unless_it_shall_not_be(folder: Path) -> None:
    async with serving(folder, "sdk:mcp") as command, connected(command) as client:
        assert await client.call("collector") == "True (10000, 20, 50)"
    async with serving(folder, "sdk:mcp", "--no-gc-tuning") as command, connected(command) as client:
        assert await client.call("collector") == "False (700, 10, 10)"


async def test_no_session_id_is_logged(folder: Path, store: str) -> None:
    async with serving(folder, "sdk:mcp", "--access-log", "--log-level", "debug", store=store) as command:
        async with connected(command) as client:
            await client.call("who")
            session = client.headers["mcp-session-id"]
            await client.http.delete(client.url, headers=client.headers)
        assert "POST /mcp" in command.log.read_text()
    assert session not in command.output


async def test_requests_are_not_logged_by_default(folder: Path) -> None:
    async with serving(folder, "sdk:mcp") as command, connected(command) as client:
        await client.call("who")
    assert "/mcp" not in command.log.read_text()


@pytest.mark.parametrize("target", ["sdk:mcp", "fast:app"])
async def test_a_local_server_refuses_foreign_hosts_and_origins(folder: Path, target: str) -> None:
    """A web page that had its name point here (DNS rebinding) must not get in."""
    async with (
        serving(folder, target, "--allowed-host", "mcp.example.com") as command,
        httpx2.AsyncClient() as http,
    ):

        async def status(**headers: str) -> int:
            client = Client(http, command.url)
            client.headers |= headers
            return (await client.initialize()).status_code

        assert await status() == 200
        assert await status(host="mcp.example.com") == 200
        assert await status(host="evil.example.com") == 421
        assert await status(origin="http://evil.example.com") == 403


# How it ends


async def test_an_idle_stream_does_not_keep_it_from_ending(folder: Path) -> None:
    async with serving(folder, "sdk:mcp") as command, connected(command) as client:
        async with client.listening() as stream:
            command.process.terminate()
            with anyio.fail_after(PATIENCE_SECONDS):
                text = "".join([part async for part in stream.aiter_text()])
        assert "retry:" in text
        with anyio.fail_after(5):  # half of what requests in flight are given
            assert await command.process.wait() == 0


async def test_a_request_in_flight_may_finish(folder: Path) -> None:
    async with serving(folder, "sdk:mcp") as command, connected(command) as client:
        answers: list[str] = []
        flag = folder / "flag"

        async def hold() -> None:
            answers.append(await client.call("hold", flag=str(flag)))

        async with anyio.create_task_group() as tasks, client.listening() as stream:
            tasks.start_soon(hold)
            await until((folder / "flag.held").exists)
            command.process.terminate()
            assert [part async for part in stream.aiter_text()]  # it has begun to stop
            flag.touch()
        assert answers == ["released"]
        assert await command.ended() == 0


async def test_a_request_that_takes_too_long_is_cut_off(folder: Path) -> None:
    async with serving(folder, "sdk:mcp", "--drain-seconds", "1") as command, connected(command) as client:

        async def hold() -> None:
            arguments = {"name": "hold", "arguments": {"flag": str(folder / "never")}}
            response = await client.post("tools/call", arguments)
            assert response.text.count("retry: ") == 2  # come back, wherever the balancer sends you

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(hold)
            await until((folder / "never.held").exists)
            command.process.terminate()
            assert await command.ended() == 0
        assert "did not finish in time are cut off: 1" in command.output
        assert "Traceback" not in command.output


# Several workers


async def workers_that_answer(command: Command, count: int) -> set[str]:
    """Ask over new connections until that many different processes have answered."""
    found: set[str] = set()
    with anyio.fail_after(PATIENCE_SECONDS):
        while len(found) < count:
            async with connected(command) as client:
                found.add(await client.call("who"))
    return found


def is_alive(pid: str) -> bool:
    """Whether a process runs; one that ended and was not waited for by its new parent does not."""
    try:
        stat = Path("/proc", pid, "stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


async def test_workers_share_one_port_and_their_sessions(folder: Path, store: str) -> None:
    async with serving(folder, "sdk:mcp", "--workers", "2", store=store) as command:
        assert "replicas  2 processes" in command.said
        workers = await workers_that_answer(command, 2)
        async with connected(command) as client:
            served: set[str] = set()
            with anyio.fail_after(PATIENCE_SECONDS):
                while served != workers:
                    async with httpx2.AsyncClient(timeout=PATIENCE_SECONDS) as client.http:
                        served.add(await client.call("who"))
        assert str(command.process.pid) not in workers


async def test_a_worker_that_dies_is_replaced(folder: Path, store: str) -> None:
    async with serving(folder, "sdk:mcp", "--workers", "2", store=store) as command:
        workers = await workers_that_answer(command, 2)
        killed = min(workers)
        os.kill(int(killed), signal.SIGKILL)
        with anyio.fail_after(PATIENCE_SECONDS):
            while len(workers - {killed}) < 2:
                workers |= await workers_that_answer(command, 1)
        assert f"(process {killed}) ended with SIGKILL; restarting" in command.log.read_text()
        command.process.terminate()
        assert await command.ended() == 0
        assert not any(map(is_alive, workers))


async def test_ctrl_c_reaches_parent_and_workers_at_once_and_ends_them(folder: Path, store: str) -> None:
    async with serving(folder, "sdk:mcp", "--workers", "2", store=store) as command:
        workers = await workers_that_answer(command, 2)
        os.killpg(command.process.pid, signal.SIGINT)
        assert await command.ended() == 0
        assert not any(map(is_alive, workers))
        assert "Traceback" not in command.output


async def test_workers_do_not_outlive_their_parent(folder: Path, store: str) -> None:
    async with serving(folder, "sdk:mcp", "--workers", "2", store=store) as command:
        workers = await workers_that_answer(command, 2)
        command.process.kill()
        assert await command.ended() == -signal.SIGKILL
        await until(lambda: not any(map(is_alive, workers)))


# What it refuses


async def test_workers_that_cannot_share_their_sessions_are_refused(folder: Path) -> None:
    status, said = await refused(folder, "sdk:mcp", "--workers", "2", "--store", "memory://")
    assert status == 2
    assert "--store is memory://, which lives in one process" in said
    assert "redis://" in said


async def test_a_taken_port_is_said(folder: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        status, said = await refused(folder, "sdk:mcp", "--port", port)
    assert status == 1
    assert f"--port {port}: Address already in use" in said


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_a_store_that_cannot_be_reached_is_said_once(folder: Path, workers: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port = unused.getsockname()[1]
    store = f"redis://user:secret@127.0.0.1:{port}/0?connect_timeout=1"
    status, said = await refused(folder, "sdk:mcp", "--port", "0", "--workers", workers, store=store)
    assert status == 1
    assert said.count("holdfast serve:") == 1
    assert f"HOLDFAST_STORE: cannot connect to redis://127.0.0.1:{port}/0" in said
    assert "secret" not in said
    assert "Traceback" not in said


async def test_a_server_whose_own_start_fails_is_named(folder: Path) -> None:
    text = """
from contextlib import asynccontextmanager
from mcp.server import MCPServer

@asynccontextmanager
async def lifespan(server):
    raise LookupError("no database")
    yield

mcp = MCPServer("broken", lifespan=lifespan)
"""
    (folder / "broken.py").write_text(text)
    status, said = await refused(folder, "broken", "--port", "0")
    assert status == 1
    assert "the server's own start-up failed: LookupError: no database" in said
    assert "Traceback" not in said
    status, said = await refused(folder, "broken", "--port", "0", "--log-level", "debug")
    assert status == 1
    assert "Traceback" in said

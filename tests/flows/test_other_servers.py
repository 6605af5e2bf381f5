"""`attach` under the servers of others: told to end, they end in time, and clients lose only connections."""

import os
import signal
import socket
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import anyio
import anyio.abc
import httpx2
import pytest

from tests.flows.conftest import Setup
from tests.flows.wire import ACCEPT, Stream

PATIENCE_SECONDS: Final = 30.0
DRAIN_SECONDS: Final = 4

APP: Final = f"""
import os
import anyio
from mcp.server import MCPServer
from starlette.responses import PlainTextResponse
from holdfast import attach
from holdfast.ops.health import mount_health

mcp = MCPServer("others")

@mcp.tool()
async def hold(flag: str) -> str:
    open(flag + ".held", "w").close()
    while not os.path.exists(flag):
        await anyio.sleep(0.02)
    return "released"

@mcp.custom_route("/who", methods=["GET"])
async def who(_request):
    return PlainTextResponse(str(os.getpid()))

app = mcp.streamable_http_app()
attach(
    app,
    drain_seconds=float(os.environ.get("DRAIN", "{DRAIN_SECONDS}")),
    drain_pause_seconds=float(os.environ.get("PAUSE", "0")),
)
mount_health(app)
"""

PLAIN: Final = """
from starlette.applications import Starlette
app = Starlette()
"""

HYPERCORN: Final = ("hypercorn", "{app}", "--bind", "127.0.0.1:{port}", "--workers")
"""Its workers are told to end by an event of its own that nobody else can see, not by the signal."""

COMMANDS: Final[dict[str, tuple[str, ...]]] = {
    "uvicorn": ("uvicorn", "{app}", "--port", "{port}"),
    "uvicorn-workers": ("uvicorn", "{app}", "--port", "{port}", "--workers", "2"),
    "hypercorn": (*HYPERCORN, "0", "--graceful-timeout", "10"),
    "hypercorn-uvloop": (*HYPERCORN, "0", "--graceful-timeout", "10", "-k", "uvloop"),
    "granian": ("granian", "{app}", "--port", "{port}", "--interface", "asgi"),
    "granian-workers": ("granian", "{app}", "--port", "{port}", "--interface", "asgi", "--workers", "2"),
}
"""How they are started; in each, the signal reaches the process in which the application runs."""


@pytest.fixture
def setup() -> Setup:
    return Setup("valkey", sockets=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "served.py").write_text(APP)
    (tmp_path / "plain.py").write_text(PLAIN)
    return tmp_path


@dataclass
class Server:
    """A running server of somebody else's."""

    process: anyio.abc.Process
    url: str
    log: Path

    async def ended(self) -> int:
        with anyio.fail_after(PATIENCE_SECONDS):
            return await self.process.wait()


@asynccontextmanager
async def running(
    folder: Path, command: Sequence[str], *, app: str = "served:app", **environment: str
) -> AsyncGenerator[Server]:
    """Run a server on a free port; entered when it answers."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    log = folder / f"{port}.log"
    program = [sys.executable, "-m", *(part.format(app=app, port=port) for part in command)]
    with log.open("wb") as output:
        process = await anyio.open_process(
            program,
            cwd=folder,
            env={**os.environ, **environment},
            stdin=None,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    server = Server(process, f"http://127.0.0.1:{port}/mcp", log)
    try:
        await _answers(server)
        yield server
    finally:
        if process.returncode is None:
            os.killpg(process.pid, signal.SIGKILL)
        with anyio.CancelScope(shield=True):
            await process.aclose()


async def both_workers_answer(server: Server) -> None:
    """Granian loses a signal that reaches a worker before it serves, and then that worker never ends."""
    seen: set[str] = set()
    with anyio.fail_after(PATIENCE_SECONDS):
        while len(seen) < 2:  # each on a connection of its own: the kernel chooses the worker
            async with httpx2.AsyncClient() as http:
                with suppress(httpx2.TransportError):
                    seen.add((await http.get(server.url.replace("/mcp", "/who"))).text)


async def _answers(server: Server) -> None:
    async with httpx2.AsyncClient() as http:
        with anyio.fail_after(PATIENCE_SECONDS):
            while True:
                try:
                    await http.get(server.url)
                except httpx2.TransportError:
                    assert server.process.returncode is None, server.log.read_text()
                    await anyio.sleep(0.05)
                else:
                    return


class Client:
    """One session, by hand."""

    def __init__(self) -> None:
        self.http = httpx2.AsyncClient(timeout=PATIENCE_SECONDS)
        self.headers = {"accept": ACCEPT, "mcp-protocol-version": "2025-11-25"}

    async def initialize(self, server: Server) -> int:
        client = {"name": "hand", "version": "1"}
        params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client}
        message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}
        answer = await self.http.post(server.url, json=message, headers=self.headers)
        if answer.status_code == 200:
            self.headers["mcp-session-id"] = answer.headers["mcp-session-id"]
        return answer.status_code

    @asynccontextmanager
    async def holding(self, server: Server, flag: Path) -> AsyncGenerator[Stream]:
        """A call that runs until there is such a file; entered when it runs, and its stream has begun."""
        params = {"name": "hold", "arguments": {"flag": str(flag)}}
        message = {"jsonrpc": "2.0", "id": flag.name, "method": "tools/call", "params": params}
        async with self.http.stream("POST", server.url, json=message, headers=self.headers) as answer:
            stream = Stream(answer, answer.aiter_raw())
            first = await stream.next()
            assert first is not None
            assert first.id is not None
            with anyio.fail_after(PATIENCE_SECONDS):
                while not await anyio.Path(f"{flag}.held").exists():  # noqa: ASYNC110 - another process
                    await anyio.sleep(0.01)
            yield stream

    @asynccontextmanager
    async def listening(self, server: Server, after: str | None = None) -> AsyncGenerator[Stream]:
        headers = self.headers | ({"last-event-id": after} if after else {})
        async with self.http.stream("GET", server.url, headers=headers) as answer:
            assert answer.status_code == 200
            yield Stream(answer, answer.aiter_raw())

    async def ready(self, server: Server) -> httpx2.Response:
        return await self.http.get(server.url.replace("/mcp", "/health/ready"))

    async def resumed(self, server: Server, stream: Stream) -> dict[str, Any]:
        """What a call is answered with elsewhere."""
        async with self.listening(server, stream.last_id) as resumed:
            return await resumed.result()


@asynccontextmanager
async def opened(server: Server) -> AsyncGenerator[Client]:
    client = Client()
    async with client.http:
        assert await client.initialize(server) == 200
        yield client


async def assert_sent_away(stream: Stream) -> None:
    """It ends without an answer, and with a time to stay away."""
    events = await stream.rest()
    assert [event.data for event in events if event.data] == []
    assert any(event.retry for event in events)


@pytest.mark.guarantee("G15")
@pytest.mark.timeout(120)
@pytest.mark.parametrize("name", COMMANDS)
async def test_told_to_end_it_drains_and_clients_go_on_elsewhere(folder: Path, store: str, name: str) -> None:
    async with (
        running(folder, COMMANDS["uvicorn"], HOLDFAST_STORE=store) as other,
        running(folder, COMMANDS[name], HOLDFAST_STORE=store) as server,
        opened(server) as client,
        client.listening(server) as standalone,
        client.holding(server, folder / "finishes") as finishing,
        client.holding(server, folder / "never") as endless,
    ):
        if name == "granian-workers":
            await both_workers_answer(server)
        assert await standalone.next() is not None
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        await assert_sent_away(standalone)
        await assert_sent_away(finishing)
        (folder / "finishes").touch()
        answer = await client.resumed(other, finishing)
        assert answer["result"]["content"][0]["text"] == "released"
        assert answer["id"] == "finishes"
        await assert_sent_away(endless)
        answer = await client.resumed(other, endless)
        assert answer["error"]["data"] == {"reason": "shutting-down", "retryable": True}
        await server.ended()
        # The bound that the drain is for: without it, the idle stream would keep the process for ever.
        assert time.monotonic() - began < DRAIN_SECONDS + 30
        assert "Traceback" not in server.log.read_text()


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "granian-workers"])
async def test_its_exit_status_is_the_servers_own(folder: Path, name: str) -> None:
    """Granian loses a signal that reaches a worker while it starts; of several, one may still do."""
    statuses: list[int] = []
    for app in ("plain:app", "served:app"):
        async with running(folder, COMMANDS[name], app=app, HOLDFAST_STORE="memory://") as server:
            server.process.send_signal(signal.SIGTERM)
            statuses.append(await server.ended())
    assert statuses[0] == statuses[1]


async def test_hypercorns_worker_drains_if_the_signal_reaches_it_too(folder: Path, store: str) -> None:
    """As systemd sends it, and whoever sends it to the process group."""
    async with (
        running(folder, COMMANDS["uvicorn"], HOLDFAST_STORE=store) as other,
        running(folder, (*HYPERCORN, "1"), HOLDFAST_STORE=store) as server,
        opened(server) as client,
        client.listening(server) as standalone,
        client.holding(server, folder / "finishes") as finishing,
    ):
        os.killpg(server.process.pid, signal.SIGTERM)
        await assert_sent_away(standalone)
        await assert_sent_away(finishing)
        (folder / "finishes").touch()
        answer = await client.resumed(other, finishing)
        assert answer["result"]["content"][0]["text"] == "released"
        await server.ended()


@pytest.mark.parametrize("workers", ["1", "2"])
async def test_hypercorns_workers_cut_requests_off_if_it_does_not_and_clients_are_told(
    folder: Path, store: str, workers: str
) -> None:
    async with (
        running(folder, COMMANDS["uvicorn"], HOLDFAST_STORE=store) as other,
        running(folder, (*HYPERCORN, workers), HOLDFAST_STORE=store) as server,
        opened(server) as client,
        client.holding(server, folder / "never") as endless,
    ):
        server.process.send_signal(signal.SIGTERM)
        told: list[dict[str, Any]] = []
        with suppress(httpx2.TransportError):
            told = [event.message for event in await endless.rest() if event.data]
        (answer,) = told or [await client.resumed(other, endless)]
        assert answer["error"]["data"] == {"reason": "shutting-down", "retryable": True}
        await server.ended()


async def test_during_the_pause_everything_is_served_but_new_sessions(folder: Path, store: str) -> None:
    async with (
        running(folder, COMMANDS["uvicorn"], HOLDFAST_STORE=store, PAUSE="3") as server,
        opened(server) as client,
        client.listening(server) as standalone,
    ):
        assert await standalone.next() is not None
        assert (await client.ready(server)).status_code == 200
        server.process.send_signal(signal.SIGTERM)
        with anyio.fail_after(PATIENCE_SECONDS):
            while (ready := await client.ready(server)).status_code == 200:
                pass
        assert ready.json()["reasons"] == ["this replica is shutting down"]
        newcomer = Client()
        async with newcomer.http:
            assert await newcomer.initialize(server) == 503
        async with client.listening(server) as second:
            assert await second.next() is not None
        await server.ended()


async def test_a_second_signal_ends_it_at_once(folder: Path, store: str) -> None:
    async with (
        running(folder, COMMANDS["uvicorn"], HOLDFAST_STORE=store, DRAIN="600", PAUSE="600") as server,
        opened(server) as client,
        client.holding(server, folder / "never") as endless,
    ):
        server.process.send_signal(signal.SIGTERM)
        with anyio.fail_after(PATIENCE_SECONDS):
            while (await client.ready(server)).status_code == 200:
                pass
        server.process.send_signal(signal.SIGTERM)
        answer = await endless.result()
        assert answer["error"]["data"] == {"reason": "shutting-down", "retryable": True}
        await server.ended()

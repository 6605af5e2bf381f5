"""What one client, one handler or one moment of bad luck must never do to anything else."""

# pyright: reportPrivateUsage=false

import asyncio
import json
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx2
import pytest
from mcp.server import MCPServer
from starlette.applications import Starlette
from starlette.routing import Mount

import holdfast
from holdfast.backends.memory import MemoryBackend, MemoryData
from holdfast.errors import StoreUnavailable, StreamError
from holdfast.sessions.replica import Replica
from holdfast.sessions.types import Position, SessionId
from holdfast.testing.asgi_bridge import Message, lifespan
from holdfast.testing.replicas import FleetReplica, replicas
from tests.flows.apps import Framework, Stage, app_factory
from tests.flows.conftest import Setup, Start, Wired
from tests.flows.wire import CAPABILITIES, PATIENCE_SECONDS, Stream, Wire, call, said, until

ASYNCIO = pytest.mark.parametrize("setup", [Setup("memory")], indirect=True, ids=str)


@pytest.fixture(params=[Setup("memory"), Setup("memory", "trio")], ids=str)
def setup(request: pytest.FixtureRequest) -> Setup:
    """No store plays a part here."""
    chosen: Setup = request.param
    return chosen


class ByHand:
    """One HTTP request of a client that reads when the test wants it to, and leaves without a goodbye.

    Attributes:
        received: what it has read.
        offered: the write that waits for it now; empty if none does.
        ended: the application is done with the request.
    """

    def __init__(self, wire: Wire, message: Any, *, on: int, reads: bool) -> None:
        self.received = b""
        self.offered = b""
        self.ended = False
        self._replica = wire.fleet.replicas[on]
        self._body = [b"" if message is None else json.dumps(message).encode()]
        self._scope: Message = {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET" if message is None else "POST",
            "scheme": "http",
            "path": wire.path,
            "raw_path": wire.path.encode(),
            "root_path": "",
            "query_string": b"",
            "server": ("localhost", 8000),
            "client": ("127.0.0.1", 1),
            "headers": [
                (name.encode(), value.encode())
                for name, value in {"host": "localhost:8000", **wire.headers()}.items()
            ],
        }
        self._gone = anyio.Event()
        self._room = anyio.Event()
        if reads:
            self._room.set()

    async def run(self) -> None:
        try:
            await self._replica(self._scope, self._receive, self._send)
        finally:
            self.ended = True

    def stop_reading(self) -> None:
        self._room = anyio.Event()

    def read(self) -> None:
        """Take everything, from now on."""
        self._room.set()

    async def read_once(self) -> None:
        """Take the write that waits, and let the next one wait."""
        await until(lambda: self.offered)
        room, self._room, self.offered = self._room, anyio.Event(), b""
        room.set()

    def leave(self) -> None:
        self._gone.set()

    async def _receive(self) -> Message:
        if self._body:
            return {"type": "http.request", "body": self._body.pop(), "more_body": False}
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Message) -> None:
        body = message.get("body", b"")
        if not body:
            return
        if not self._room.is_set():
            self.offered = body
            await self._room.wait()
        self.received += body


@asynccontextmanager
async def by_hand(
    wire: Wire, message: Any = None, *, on: int = 0, reads: bool = True
) -> AsyncGenerator[ByHand, None]:
    """A POST of a message, or a GET without one."""
    client = ByHand(wire, message, on=on, reads=reads)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client.run)
        try:
            yield client
        finally:
            tasks.cancel_scope.cancel()


def running(replica: FleetReplica) -> Replica:
    assert replica.attached.replica is not None
    return replica.attached.replica


async def announce(wire: Wire, number: int, *, on: int = 0, expects: str | None = None) -> None:
    """A message on the standalone stream; with `expects` one that wants an answer."""
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": "number", "params": {"number": number}}
    if expects is not None:
        message["id"] = expects
    payload = json.dumps(message).encode()
    session = SessionId(str(wire.session))
    await running(wire.fleet.replicas[on]).relay.send_standalone(session, payload, expects=expects)


def numbers(received: bytes) -> list[int]:
    lines = [line.removeprefix("data: ") for line in received.decode().split("\n")]
    messages = [json.loads(line) for line in lines if line.startswith("{")]
    return [message["params"]["number"] for message in messages if message.get("method") == "number"]


def tool_call(tool: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": tool, "method": "tools/call", "params": {"name": tool, "arguments": {}}}


def initialize(**client: str) -> dict[str, Any]:
    params = {
        "protocolVersion": "2025-11-25",
        "capabilities": CAPABILITIES,
        "clientInfo": {"name": "x", "version": "1", **client},
    }
    return {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}


# Handlers


@ASYNCIO
async def test_a_handler_that_lets_a_foreign_cancellation_through_fails_alone(stage: Stage) -> None:
    def make_app(number: int) -> Starlette:
        server = MCPServer("foreign")

        @server.tool()
        async def patient() -> str:
            stage.mark("running")
            await stage.until("go")
            return "waited"

        @server.tool()
        async def unlucky() -> str:
            task = asyncio.ensure_future(asyncio.sleep(60))
            task.cancel()
            await task
            return "never"

        return server.streamable_http_app()

    async with replicas(make_app, count=1) as fleet, fleet.client() as client:
        wire = Wire(fleet, client)
        await wire.initialize()
        async with wire.open(tool_call("patient")) as stream:
            await stage.until("running")
            failed = await wire.request("tools/call", tool_call("unlucky")["params"])
            assert failed["error"] == {"code": -32603, "message": "Internal error"}  # not: shutting down
            stage.mark("go")
            assert said(await stream.result()) == "waited"
        assert fleet.replicas[0].alive
        assert not running(fleet.replicas[0]).ending
        assert "result" in await wire.request("ping")


@ASYNCIO
async def test_a_read_that_lets_a_foreign_cancellation_through_costs_one_connection(
    wired: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unlucky(*_args: Any, **_kwargs: Any) -> None:
        task = asyncio.ensure_future(asyncio.sleep(60))
        task.cancel()
        await task

    async with wired(count=1) as wire, anyio.create_task_group() as tasks:
        client, replica = ByHand(wire, None, on=0, reads=True), running(wire.fleet.replicas[0])

        async def read() -> None:
            with pytest.raises(StreamError, match="cancelled"):
                await client.run()

        tasks.start_soon(read)
        await until(lambda: client.received)
        with monkeypatch.context() as patch:
            patch.setattr(replica.backend.log, "read", unlucky)
            replica.hub.wake()
            await until(lambda: client.ended)
        async with wire.open(on=0) as stream:  # others are written to as before
            await announce(wire, 1)
            assert await _number(stream) == 1


async def test_an_answer_is_given_even_if_the_store_was_too_slow_to_open_its_stream(
    wired: Wired, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.asgi.request._FINISH_SECONDS", 0.1)
    opening, give_up = anyio.Event(), anyio.Event()

    async def hang(*_args: Any) -> Position:
        opening.set()
        await give_up.wait()
        raise StoreUnavailable("too slow")

    async with wired(count=1) as wire:
        replica, store = running(wire.fleet.replicas[0]), wire.fleet.replicas[0].store
        monkeypatch.setattr(store.inner.log, "open_stream", hang)
        async with by_hand(wire, call("wait", id=77)) as client:
            with anyio.fail_after(PATIENCE_SECONDS):
                await opening.wait()
            stage.mark("go")
            await until(lambda: not replica.running)
            monkeypatch.undo()
            store.fail("log.open_stream")
            store.calls.clear()
            give_up.set()
            await until(lambda: client.ended or "log.append" in store.calls)
            store.heal()
            await until(lambda: client.ended)
        assert client.received.count(b'"id":77') == 1
        assert b"0:waited" in client.received


async def test_a_question_to_a_client_that_left_does_not_keep_its_session_alive(wired: Wired) -> None:
    async with wired(count=2, ttl_seconds=1.5) as wire:
        async with wire.open(call("elicit", "name?"), on=0) as stream:
            await stream.method("elicitation/create")
        here, there = map(running, wire.fleet.replicas)
        assert len(here.running) == 1
        await until(lambda: _empty(there))


async def _empty(replica: Replica) -> bool:
    return await replica.backend.sessions.count() == 0


async def test_an_answer_that_was_stored_while_the_reply_was_lost_is_sent_once(
    wired: Wired, stage: Stage
) -> None:
    async with wired(count=1) as wire:
        replica = wire.fleet.replicas[0]
        async with by_hand(wire, call("wait", id=77)) as client:
            await until(lambda: b"id: " in client.received)
            replica.store.fail("log.append", carried_out=True)
            read = replica.store.calls.count("log.read")
            running(replica).hub.wake()  # as after a reconnect
            await until(lambda: replica.store.calls.count("log.read") > read)
            stage.mark("go")
            await until(lambda: client.ended)
            replica.store.heal()
        assert client.received.count(b'"id":77') == 1


# Slow clients and clients that have gone


@pytest.mark.guarantee("G14")
async def test_a_slow_reader_is_told_of_a_gap_even_if_the_keepalive_comes_due_meanwhile(stage: Stage) -> None:
    data, keepalive_seconds = MemoryData(max_events=16), 0.1
    async with (
        replicas(
            app_factory("sdk", stage),
            count=1,
            store=lambda: MemoryBackend(data),
            keepalive_seconds=keepalive_seconds,
        ) as fleet,
        fleet.client() as http,
    ):
        wire = Wire(fleet, http)
        await wire.initialize()
        async with by_hand(wire) as client:
            await until(lambda: b"id: " in client.received)
            client.stop_reading()
            await until(lambda: client.offered)
            for number in range(100):  # more than are kept, and more than are handed on within the process
                await announce(wire, number)
            while b"events-lost" not in client.offered:
                await client.read_once()
                await until(lambda: client.offered)
            due = time.monotonic() + 2 * keepalive_seconds
            await until(lambda: time.monotonic() > due)
            client.read()
            await until(lambda: 99 in numbers(client.received))
            assert b"events-lost" in client.received
            got = numbers(client.received)
            assert got == list(range(got[0], 100))


async def test_a_get_whose_client_has_gone_does_not_take_the_stream_from_the_one_that_reads(
    stage: Stage,
) -> None:
    now = 0.0
    data = MemoryData(clock=lambda: now)
    app = app_factory("sdk", stage)
    async with replicas(app, count=1, store=lambda: MemoryBackend(data)) as fleet, fleet.client() as http:
        wire = Wire(fleet, http)
        await wire.initialize()
        claims = fleet.replicas[0].store.calls
        async with by_hand(wire) as reader:
            await until(lambda: reader.received)
            async with by_hand(wire) as gone:
                await until(lambda: claims.count("log.claim") == 2)  # it waits for its turn
                gone.leave()
                await anyio.wait_all_tasks_blocked()
                now = 2.0  # now it would be its turn
                await until(lambda: gone.ended)
            await announce(wire, 1)
            await until(lambda: reader.ended or numbers(reader.received))
            assert not reader.ended
            assert numbers(reader.received) == [1]


@pytest.mark.parametrize("count", [63, 64, 65])
async def test_with_a_full_buffer_the_answer_of_a_stream_that_is_never_resumable_arrives(
    wired: Wired, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr("holdfast.asgi.request._FINISH_SECONDS", 0.1)
    async with wired(count=1, resumable="never") as wire:
        handlers = running(wire.fleet.replicas[0]).running
        async with by_hand(wire, call("count", str(count), id=5), reads=False) as client:
            await until(lambda: client.offered)
            await until(lambda: not handlers)  # everything is said, and nothing was read
            client.read()
            await until(lambda: client.ended)
        assert client.received.count(b'"notifications/progress"') == count
        assert client.received.count(b"0:counted") > 0
        assert client.received.index(b"0:counted") > client.received.rindex(b'"notifications/progress"')


async def test_a_question_that_is_repeated_never_moves_the_clients_cursor_back(
    wired: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.backends.memory.event_log.HOLDS_AT_LEAST_SECONDS", 0.0)
    async with wired(count=2) as wire:
        async with wire.open(on=0) as first:
            await announce(wire, 0, expects="question")
            await announce(wire, 1)
            await announce(wire, 2)
            assert [await _number(first) for _ in range(3)] == [0, 1, 2]
            last = first.last_id
            assert last is not None
        async with wire.open(on=1) as second:
            primed, repeated = await second.next(), await second.next()
            assert primed is not None
            assert primed.id == last
            assert repeated is not None
            assert repeated.message["id"] == "question"
            assert repeated.id is None
        async with wire.open(on=0, after=second.last_id) as third:
            await announce(wire, 3, on=1)
            assert await _number(third) == 3


async def _number(stream: Stream) -> int:
    return int((await stream.method("number"))["params"]["number"])


# Requests that are not what they seem, or too large


@pytest.mark.parametrize(
    "versions",
    [
        [b"2025-11-25 "],
        [b"\t2025-11-25"],
        [b"2025-11-25", b"2025-11-25"],
        [b"2025-11-25", b"2026-07-28"],
        [b" 2025-06-18\t", b"2025-11-25"],
    ],
    ids=repr,
)
async def test_a_doubled_or_padded_version_header_never_opens_a_session_of_the_original_manager(
    start: Start, versions: list[bytes]
) -> None:
    async with start(count=1, max_sessions=1) as fleet, fleet.client() as http:
        wire, replica = Wire(fleet, http), fleet.replicas[0]
        headers = [(b"mcp-protocol-version", version) for version in versions]
        original = replica.attached._manager
        assert original is not None
        for status in (200, 503):  # the limit holds, whatever the headers look like
            opened = await wire.send(
                "POST", json.dumps(initialize()).encode(), version=None, raw_headers=headers
            )
            assert opened.status_code == status, opened.text
        assert await running(replica).backend.sessions.count() == 1
        assert not original._server_instances


async def test_a_request_id_longer_than_256_characters_is_refused(wired: Wired) -> None:
    async with wired(count=1) as wire:
        refused = await wire.post(call("echo", id="i" * 257))
        assert refused.status_code == 400
        assert "256" in refused.json()["error"]["message"]
        assert said(await wire.request("tools/call", call("echo", "x")["params"], id="i" * 256)) == "0:x"


async def test_initialize_params_above_64_kb_are_refused_and_nothing_is_stored(start: Start) -> None:
    async with start(count=1) as fleet, fleet.client() as http:
        wire, sessions = Wire(fleet, http), running(fleet.replicas[0]).backend.sessions
        assert (await wire.post(initialize(title="n" * 65_536), version=None)).status_code == 413
        assert await sessions.count() == 0
        assert (await wire.post(initialize(title="n" * 60_000), version=None)).status_code == 200
        assert await sessions.count() == 1


async def test_a_subscription_to_a_uri_above_8192_characters_is_refused_and_not_stored(wired: Wired) -> None:
    async with wired(count=1) as wire:
        calls = wire.fleet.replicas[0].store.calls
        uri = "file:///" + "u" * 8184
        refused = await wire.request("resources/subscribe", {"uri": uri + "u"})
        assert refused["error"]["code"] == -32602
        assert "8192" in refused["error"]["message"]
        assert "subscriptions.add" not in calls
        assert "result" in await wire.request("resources/subscribe", {"uri": uri})
        assert calls.count("subscriptions.add") == 1


# Attaching


async def test_an_application_mounted_without_its_lifespan_answers_503_and_never_unshared_sessions() -> None:
    server = MCPServer("mounted")
    app = server.streamable_http_app()
    attached = holdfast.attach(app, store="memory://")

    @asynccontextmanager
    async def run(_app: Any) -> AsyncGenerator[None]:
        async with server.session_manager.run():  # what the SDK says about mounted applications
            yield

    parent = Starlette(routes=[Mount("/", app=app)], lifespan=run)
    transport = httpx2.ASGITransport(app=parent)
    async with (
        lifespan(parent),
        httpx2.AsyncClient(transport=transport, base_url="http://localhost:8000") as client,
    ):
        headers = {"accept": "application/json, text/event-stream"}
        response = await client.post("/mcp", json=initialize(), headers=headers)
        assert response.status_code == 503
        assert "lifespan" in response.json()["error"]["message"]
        assert attached.replica is None
        assert not server.session_manager._server_instances


async def test_attaching_twice_is_refused(framework: Framework) -> None:
    app = app_factory(framework)(0)
    holdfast.attach(app, store="memory://")
    with pytest.raises(holdfast.ConfigurationError, match="attached already"):
        holdfast.attach(app, store="memory://")
    async with lifespan(app):
        with pytest.raises(holdfast.ConfigurationError, match="attached already"):
            holdfast.attach(app, store="memory://")

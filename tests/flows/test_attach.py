"""`attach` makes the sessions of a finished application shared, and leaves the rest of it as it was."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import fastmcp
import httpx2
import pytest
from fastmcp.server.middleware import PingMiddleware
from mcp.server import MCPServer
from mcp.server.lowlevel.server import Server
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

import holdfast
from holdfast.backends.memory import MemoryBackend, MemoryData
from holdfast.testing.asgi_bridge import lifespan
from holdfast.testing.replicas import replicas
from tests.flows.apps import Framework, Stage, app_factory
from tests.flows.conftest import WIRE, Setup, Start, Wired
from tests.flows.wire import Wire, call

pytestmark = pytest.mark.parametrize("setup", WIRE[:2], indirect=True, ids=str)  # no store plays a part here


async def test_custom_routes_go_on_working(start: Start, framework: Framework) -> None:
    async with start(framework) as fleet:
        for n in (0, 1, 2):
            async with fleet.client(replica=n) as client:
                assert (await client.get("/health")).text == f"replica {n} is well"


class Stamp:
    """A middleware that says that it was there."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def stamped(message: Any) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"x-stamp", b"yes")]}
            await send(message)

        await self.app(scope, receive, stamped)


async def test_middleware_sees_every_request(start: Start) -> None:
    async with start("fastmcp", app={"middleware": [Middleware(Stamp)]}) as fleet, fleet.client() as client:
        wire = Wire(fleet, client)
        await wire.initialize()
        assert (await wire.send("POST", b"{}")).headers["x-stamp"] == "yes"
        async with wire.open() as standalone:
            assert standalone.headers["x-stamp"] == "yes"


async def test_a_path_of_ones_own_is_kept(start: Start, framework: Framework) -> None:
    options = {"streamable_http_path": "/api"} if framework == "sdk" else {"path": "/api"}
    async with start(framework, app=options) as fleet, fleet.client() as client:
        wire = Wire(fleet, client, path="/api")
        await wire.initialize(on=0)
        assert await wire.do("echo", "x", on=1) == "1:x"


async def test_the_servers_lifespan_is_entered_once_and_its_state_reaches_tools_everywhere(
    wired: Wired, framework: Framework, stage: Stage
) -> None:
    async with wired(framework) as wire:
        said = [await wire.do("lifespan", on=n) for n in (0, 1, 2)]
        assert said == [f"{n}:{{'opened': 'resource of {n}'}}" for n in (0, 1, 2)]
        assert sorted(stage.lifespans) == [0, 1, 2]


async def test_requests_of_the_sessionless_era_go_to_the_original_manager(
    start: Start, framework: Framework, stage: Stage
) -> None:
    async with start(framework) as fleet, fleet.client() as client:
        meta = {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": {"name": "x", "version": "1"},
            "io.modelcontextprotocol/clientCapabilities": {},
        }
        message = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "tools/call",
            "params": {"name": "do", "arguments": {"action": "lifespan"}, "_meta": meta},
        }
        headers = {"mcp-protocol-version": "2026-07-28", "mcp-method": "tools/call", "mcp-name": "do"}
        wire = Wire(fleet, client)
        for n in (0, 1, 2):
            response = await wire.post(message, on=n, version="2026-07-28", **headers)
            assert response.status_code == 200, response.text
            assert "mcp-session-id" not in response.headers
            assert f"{n}:{{'opened': 'resource of {n}'}}" in response.text
            assert fleet.replicas[n].store.calls.count("sessions.open") == 0
        assert sorted(stage.lifespans) == [0, 1, 2]


async def test_a_lowlevel_server_is_attached_as_well() -> None:
    def make_app(number: int) -> Starlette:
        server: Server[Any] = Server(f"low {number}")
        return server.streamable_http_app()

    async with replicas(make_app) as fleet, fleet.client() as client:
        wire = Wire(fleet, client)
        await wire.initialize(on=0)
        assert "result" in await wire.request("ping", on=1)


async def test_a_mounted_application_is_found() -> None:
    def make_app(number: int) -> Starlette:
        inner = app_factory("sdk")(number)

        @asynccontextmanager
        async def run(_app: Any) -> AsyncGenerator[None]:
            async with inner.router.lifespan_context(inner):
                yield

        return Starlette(routes=[Mount("/tools", app=inner)], lifespan=run)

    async with replicas(make_app) as fleet, fleet.client() as client:
        wire = Wire(fleet, client, path="/tools/mcp")
        await wire.initialize(on=0)
        assert await wire.do("echo", "x", on=1) == "1:x"


async def test_after_the_end_the_endpoint_is_as_it_was_before(framework: Framework) -> None:
    app = app_factory(framework)(0)
    attached = holdfast.attach(app, store="memory://")
    before = attached._endpoint.session_manager  # pyright: ignore[reportPrivateUsage]
    async with lifespan(app):
        running = attached._endpoint.session_manager  # pyright: ignore[reportPrivateUsage]
        assert attached.replica is not None
        assert running is not before
    assert attached.replica is None
    after = attached._endpoint.session_manager  # pyright: ignore[reportPrivateUsage]
    assert after is not running
    assert before in (after, None)


@pytest.mark.parametrize("build", ["sdk", "fastmcp", "lowlevel"])
async def test_streamable_http_app_builds_the_application(build: str) -> None:
    data = MemoryData()
    servers: dict[str, Any] = {
        "sdk": MCPServer("built"),
        "fastmcp": fastmcp.FastMCP("built"),
        "lowlevel": Server("built"),
    }
    option: dict[str, Any] = {"path": "/x"} if build == "fastmcp" else {"streamable_http_path": "/x"}
    app = holdfast.streamable_http_app(servers[build], store=MemoryBackend(data), ttl_seconds=60, **option)
    async with lifespan(app):
        assert any(getattr(route, "path", None) == "/x" for route in app.routes)


# Refusals


def test_a_stateless_application_is_refused(setup: Setup) -> None:
    with pytest.raises(holdfast.ConfigurationError, match="stateless_http=True"):
        holdfast.attach(app_factory("sdk", stateless_http=True)(0), store="memory://")


async def test_a_stateless_fastmcp_application_is_refused_when_it_starts() -> None:
    """Its manager is made only then."""
    app = app_factory("fastmcp", stateless_http=True)(0)
    holdfast.attach(app, store="memory://")
    with pytest.RaisesGroup(
        pytest.RaisesExc(holdfast.ConfigurationError, match="stateless_http=True"), flatten_subgroups=True
    ):
        async with lifespan(app):
            pass


def test_an_application_without_an_endpoint_is_refused(setup: Setup) -> None:
    with pytest.raises(holdfast.ConfigurationError, match="no Streamable HTTP or HTTP"):
        holdfast.attach(Starlette(), store="memory://")


def test_an_unknown_option_is_refused_by_name(setup: Setup) -> None:
    with pytest.raises(holdfast.ConfigurationError, match=r"'ttl'.*ttl_seconds"):
        holdfast.attach(app_factory("sdk")(0), store="memory://", ttl=5)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("ttl_seconds", 0),
        ("keepalive_seconds", -1),
        ("stream_after_seconds", float("nan")),
        ("max_sessions", 0),
        ("resumable", "sometimes"),
        ("retry_milliseconds", -1),
    ],
)
def test_a_wrong_value_is_refused_with_its_name(setup: Setup, option: str, value: Any) -> None:
    with pytest.raises(holdfast.ConfigurationError, match=option):
        holdfast.attach(app_factory("sdk")(0), store="memory://", **{option: value})


def test_a_wrong_variable_is_refused_when_the_application_is_attached(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SESSION_TTL", "an hour")
    with pytest.raises(holdfast.ConfigurationError, match="SESSION_TTL: got 'an hour', expected seconds"):
        holdfast.attach(app_factory("sdk")(0), store="memory://")


@pytest.mark.parametrize(("given", "lives"), [({}, False), ({"ttl_seconds": 60.0}, True)])
async def test_the_environment_says_how_long_sessions_live_unless_it_was_given(
    wired: Wired, monkeypatch: pytest.MonkeyPatch, given: dict[str, Any], *, lives: bool
) -> None:
    monkeypatch.setenv("SESSION_TTL", "0.5")
    async with wired(**given) as wire:
        await anyio.sleep(1)  # the passing of time is what this test is about
        assert (await wire.post(call("echo", "x"))).status_code == (200 if lives else 404)


def test_something_that_is_no_server_is_refused(setup: Setup) -> None:
    with pytest.raises(holdfast.ConfigurationError, match="got object"):
        holdfast.streamable_http_app(object(), store="memory://")


async def test_a_request_before_the_start_gets_503_and_the_reason() -> None:
    app = app_factory("sdk")(0)
    holdfast.attach(app, store="memory://")
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://localhost:8000") as client:
        response = await client.post(
            "/mcp", content=b"{}", headers={"content-type": "application/json", "accept": "*/*"}
        )
    assert response.status_code == 503
    assert "lifespan" in response.json()["error"]["message"]


async def test_attach_warns_of_what_keeps_something_per_replica(caplog: pytest.LogCaptureFixture) -> None:
    server = fastmcp.FastMCP("pinging", middleware=[PingMiddleware()])
    app = server.http_app()
    holdfast.attach(app, store="memory://")
    async with lifespan(app):
        assert "PingMiddleware" in caplog.text

"""`HttpTransport` and `SseTransport`: the options of the originals, and session managers of all kinds."""

from collections.abc import AsyncGenerator, Callable, Iterable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, cast

import anyio
import httpx2
import pytest
from fastmcp import FastMCP
from fastmcp.server.dependencies import get_http_request
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from typing_extensions import override

import holdfast
from holdfast.backends.memory import MemoryBackend, MemoryData
from holdfast.integrations.plain.manager import LogSessionManager
from holdfast.testing.asgi_bridge import Bridge, lifespan
from holdfast.testing.replicas import Fleet
from tests.flows.sse_wire import SseWire
from tests.flows.wire import Wire, until

INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "wire", "version": "1"},
}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def sdk_server() -> MCPServer:
    server = MCPServer("transports")

    @server.tool()
    async def who(ctx: Context) -> str:
        request: Any = ctx.request_context.request
        return str(getattr(request.state, "custom", None))

    @server.tool()
    async def change(ctx: Context) -> str:
        await ctx.session.send_tool_list_changed()
        return "changed"

    return server


def fastmcp_server() -> FastMCP:
    server = FastMCP("transports")

    @server.tool()
    def who() -> str:
        return str(getattr(get_http_request().state, "custom", None))

    return server


@asynccontextmanager
async def served(transport: Any, *others: Any) -> AsyncGenerator[httpx2.AsyncClient]:
    """A client whose requests choose their transport by `extensions={"replica": n}`."""
    async with anyio.create_task_group() as tasks:

        def start(task: Callable[..., Any]) -> None:
            tasks.start_soon(task)

        transports = (transport, *others)
        async with AsyncExitStack() as stack:
            for each in transports:
                await stack.enter_async_context(lifespan(each))
            bridge = Bridge(lambda request: (transports[request.extensions.get("replica", 0)], start))
            async with httpx2.AsyncClient(base_url="http://localhost:8000", transport=bridge) as client:
                yield client
        tasks.cancel_scope.cancel()


def wire_of(client: httpx2.AsyncClient, path: str = "/mcp") -> Wire:
    return Wire(cast("Fleet", None), client, path=path)


def call(name: str) -> dict[str, Any]:
    return {"name": name, "arguments": {}}


@pytest.mark.parametrize("make", [sdk_server, fastmcp_server])
async def test_a_transport_serves_a_server_in_memory_by_default(make: Callable[[], Any]) -> None:
    async with served(holdfast.HttpTransport(make())) as client:
        wire = wire_of(client)
        await wire.initialize()
        assert "result" in await wire.request("tools/list")


@pytest.mark.parametrize("make", [sdk_server, fastmcp_server])
async def test_custom_context_is_reachable_from_handlers(make: Callable[[], Any]) -> None:
    transport = holdfast.HttpTransport(make(), context=lambda request: request.headers.get("x-tenant"))
    async with served(transport) as client:
        wire = wire_of(client)
        await wire.initialize()
        answer = await wire.request("tools/call", call("who"), x_tenant="acme")
        assert answer["result"]["content"][0]["text"] == "acme"


@pytest.mark.parametrize("make", [sdk_server, fastmcp_server])
async def test_no_path_is_every_path(make: Callable[[], Any]) -> None:
    async with served(holdfast.HttpTransport(make(), path=None)) as client:
        for path in ("/", "/mcp", "/custom/place"):
            await wire_of(client, path).initialize()


async def test_two_processes_share_the_sessions_of_their_managers() -> None:
    data = MemoryData()
    one, two = (
        holdfast.HttpTransport(sdk_server(), session_manager=LogSessionManager(MemoryBackend(data)))
        for _ in range(2)
    )
    async with served(one, two) as client:
        wire = wire_of(client)
        await wire.initialize(on=0)
        assert "result" in await wire.request("tools/list", on=1)
        async with wire.open(on=1) as standalone:
            manager: Any = one.session_manager
            assert await manager.has(wire.session)
            await manager.send(None, {"jsonrpc": "2.0", "method": "notifications/all"})
            await standalone.method("notifications/all")
            await manager.send([wire.session], {"jsonrpc": "2.0", "method": "notifications/one"})
            await standalone.method("notifications/one")


async def test_sse_can_be_switched_off() -> None:
    async with served(holdfast.HttpTransport(sdk_server(), disable_sse=True)) as client:
        wire = wire_of(client)
        await wire.initialize()
        refused = await wire.send("GET")
        assert (refused.status_code, refused.headers["allow"]) == (405, "POST, DELETE")
        assert "result" in await wire.request("tools/list")
        assert await wire.delete() == 200


async def test_session_ids_of_ones_own_are_used_and_checked() -> None:
    made = iter(["a-chosen-id-0123456789", "not {allowed}", "x" * 129, ""])
    transport = holdfast.HttpTransport(sdk_server(), get_session_id=lambda: next(made))
    async with served(transport) as client:
        wire = wire_of(client)
        message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE}
        response = await wire.post(message, version=None, mcp_session_id="mine")
        assert response.headers["mcp-session-id"] == "a-chosen-id-0123456789"
        for _ in range(3):
            assert (await wire.post(message, version=None)).status_code == 500


ORIGINS: tuple[tuple[dict[str, Any], dict[str, Any], int], ...] = (
    ({}, {}, 200),
    ({}, {"origin": "http://localhost:3000"}, 200),
    ({}, {"origin": "https://evil.example"}, 403),
    ({"allowed_origins": []}, {}, 200),
    ({"allowed_origins": []}, {"origin": "https://app.example"}, 403),
    ({"allowed_origins": ["https://app.example"]}, {"origin": "https://app.example"}, 200),
    ({"allowed_origins": ["https://app.example"]}, {"origin": "https://app.example.evil"}, 403),
    ({"allowed_origins": ["https://app.example"]}, {"origin": "null"}, 403),
    ({"allowed_hosts": ["mcp.example"]}, {"host": "mcp.example"}, 200),
    ({"allowed_hosts": ["mcp.example"]}, {}, 421),
    ({"allowed_hosts": ["mcp.example"]}, {"host": "mcp.example", "origin": "https://a.example"}, 403),
)


@pytest.mark.parametrize(("options", "headers", "status"), ORIGINS)
async def test_hosts_and_origins(options: dict[str, Any], headers: dict[str, Any], status: int) -> None:
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE}
    async with served(holdfast.HttpTransport(sdk_server(), **options)) as client:
        response = await wire_of(client).post(message, version=None, **headers)
        assert response.status_code == status
    async with served(holdfast.SseTransport(sdk_server(), **options)) as client:
        wire = SseWire(cast("Fleet", None), client)
        async with wire.connect(**headers) as stream:
            assert stream.status == status


async def test_browsers_may_read_the_session_id() -> None:
    message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE}
    for cors, allowed in (
        (True, "*"),
        ({"allow_origins": ["http://localhost:3000"], "max_age": 60}, "http://localhost:3000"),
    ):
        async with served(holdfast.HttpTransport(sdk_server(), cors=cors)) as client:
            response = await wire_of(client).post(message, version=None, origin="http://localhost:3000")
            assert response.headers["access-control-allow-origin"] == allowed
            exposed = response.headers["access-control-expose-headers"].lower()
            assert exposed == "mcp-session-id, mcp-resume-from"
            asked = {"origin": "http://localhost:3000", "access-control-request-method": "DELETE"}
            assert (await client.options("/mcp", headers=asked)).status_code == 200


class FourMethods(holdfast.SessionManager):
    """A manager of a user's own: a dict, and plain functions."""

    def __init__(self) -> None:
        self.controllers: dict[str, holdfast.StreamController] = {}

    @override
    def create(self, session_id: str, controller: holdfast.StreamController) -> None:
        self.controllers[session_id] = controller

    @override
    def delete(self, session_id: str) -> None:
        if controller := cast("Any", self.controllers.pop(session_id, None)):
            controller.close()

    @override
    def has(self, session_id: str) -> bool:
        return session_id in self.controllers

    @override
    def send(self, session_ids: Iterable[str] | None, data: str | Mapping[str, Any]) -> None:
        for session_id in list(self.controllers) if session_ids is None else session_ids:
            if controller := cast("Any", self.controllers.get(session_id)):
                controller.enqueue(data)


async def test_the_end_of_an_older_connection_takes_nothing_from_the_newer_one() -> None:
    manager = FourMethods()
    async with served(holdfast.HttpTransport(sdk_server(), session_manager=manager)) as client:
        wire = wire_of(client)
        await wire.initialize()
        session = str(wire.session)
        async with AsyncExitStack() as older, AsyncExitStack() as newer:
            await older.enter_async_context(wire.open())
            await until(lambda: manager.has(session))
            first = manager.controllers[session]
            stream = await newer.enter_async_context(wire.open())
            await until(lambda: manager.controllers[session] is not first)
            await older.aclose()
            await anyio.wait_all_tasks_blocked()
            manager.send([session], 'event: message\ndata: {"jsonrpc":"2.0","method":"notifications/x"}\n\n')
            await stream.method("notifications/x")


async def test_a_manager_of_ones_own_carries_standalone_streams() -> None:
    manager = FourMethods()
    async with served(holdfast.HttpTransport(sdk_server(), session_manager=manager)) as client:
        wire = wire_of(client)
        await wire.initialize()
        async with wire.open() as standalone:
            await until(lambda: manager.has(str(wire.session)))
            answer = await wire.request("tools/call", call("change"))
            assert "result" in answer
            event = await standalone.next()
            assert event is not None
            assert event.message["method"] == "notifications/tools/list_changed"
            assert event.id is None  # it cannot be resumed, and does not pretend to
            manager.send(None, 'event: message\ndata: {"jsonrpc":"2.0","method":"notifications/x"}\n\n')
            await standalone.method("notifications/x")
            stranger = wire_of(client)
            stranger.session = "0" * 48
            async with stranger.open() as refused:
                assert refused.status == 404
            assert await stranger.delete() == 404
            assert await wire.delete() == 200
            assert await standalone.next() is None
        assert not manager.controllers


async def test_the_old_transport_takes_our_managers_only() -> None:
    with pytest.raises(holdfast.ConfigurationError, match="session_manager"):
        holdfast.SseTransport(sdk_server(), session_manager=cast("Any", FourMethods()))


async def test_the_old_transport_with_a_manager() -> None:
    data = MemoryData()
    one, two = (
        holdfast.SseTransport(
            sdk_server(),
            session_manager=LogSessionManager(MemoryBackend(data)),
            path="/old",
            endpoint="/say/",
            context=lambda request: request.url.path,
        )
        for _ in range(2)
    )
    async with served(one, two) as client:
        wire = SseWire(cast("Fleet", None), client, stream_path="/old")
        async with wire.session_open(on=0) as stream:
            assert wire.path.startswith("/say/?session_id=")
            message = {"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": call("who")}
            assert await wire.tell(message, on=1) == 202
            assert (await stream.message())["result"]["content"][0]["text"] == "/say/"
            manager: Any = two.session_manager
            await manager.send(None, {"jsonrpc": "2.0", "method": "notifications/all"})
            await stream.method("notifications/all")


@pytest.mark.parametrize("transport", [holdfast.HttpTransport, holdfast.SseTransport])
def test_what_is_no_server_is_refused(transport: Any) -> None:
    with pytest.raises(holdfast.ConfigurationError, match="server: got object"):
        transport(object())

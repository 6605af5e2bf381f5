"""Clients as people use them notice nothing: the SDK's and FastMCP's, each request on another replica."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Any, Final, Protocol, TypeAlias, cast

import anyio
import fastmcp
import httpx2
import mcp
import pytest
from fastmcp.client.elicitation import ElicitResult as FastMCPElicitResult
from fastmcp.client.transports import StreamableHttpTransport
from mcp import ClientSession
from mcp.client.session import ClientRequestContext
from mcp.client.streamable_http import streamable_http_client
from mcp_types import (
    CallToolResult,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequestParams,
    ElicitResult,
    ListRootsResult,
    LoggingMessageNotificationParams,
    ResourceUpdatedNotification,
    Root,
    TextContent,
    ToolListChangedNotification,
)
from pydantic import FileUrl

from holdfast.sessions.protocols import Backend
from holdfast.testing.replicas import Fleet
from tests.flows.apps import Framework, Stage
from tests.flows.conftest import CLIENTS, Start
from tests.flows.wire import until

pytestmark = [
    pytest.mark.filterwarnings("ignore:The (logging|sampling|roots) capability is deprecated"),
    pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning"),
    # The SDK's client leaves its generators to the garbage collector, which only trio complains of.
    pytest.mark.filterwarnings("ignore:Async generator 'httpx2:ResourceWarning"),
]

PATIENCE_SECONDS: Final = 20.0
Heard: TypeAlias = "list[Any]"


class Caller(Protocol):
    """What the tests need of a client, whoever wrote it."""

    heard: Heard
    logged: "list[str]"

    async def do(self, action: str, text: str = "", steps: "list[float] | None" = None) -> str: ...

    async def set_level(self, level: Any) -> None: ...

    async def subscribe(self, uri: str) -> None: ...


def _said(result: Any) -> str:
    content = result.content[0]
    assert isinstance(content, TextContent)
    return content.text


def _logged(data: Any) -> str:
    """FastMCP's servers wrap what they log."""
    return str(cast("dict[str, Any]", data)["msg"] if isinstance(data, dict) else data)


class SdkCaller:
    def __init__(self) -> None:
        self.session: ClientSession
        self.heard: Heard = []
        self.logged: list[str] = []

    async def do(self, action: str, text: str = "", steps: "list[float] | None" = None) -> str:
        async def note(progress: float, total: float | None, message: str | None) -> None:
            if steps is not None:
                steps.append(progress)

        result = await self.session.call_tool(
            "do",
            {"action": action, "text": text},
            progress_callback=None if steps is None else note,
        )
        assert isinstance(result, CallToolResult)
        return _said(result)

    async def set_level(self, level: Any) -> None:
        await self.session.set_logging_level(level)  # pyright: ignore[reportDeprecated]

    async def subscribe(self, uri: str) -> None:
        await self.session.subscribe_resource(uri)  # pyright: ignore[reportDeprecated]

    async def on_message(self, message: Any) -> None:
        self.heard.append(message)

    async def on_log(self, params: LoggingMessageNotificationParams) -> None:
        self.logged.append(_logged(params.data))

    async def on_elicit(self, context: ClientRequestContext, params: ElicitRequestParams) -> ElicitResult:
        return ElicitResult(action="accept", content={"name": f"answer to {params.message}"})

    async def on_sample(
        self, context: ClientRequestContext, params: CreateMessageRequestParams
    ) -> CreateMessageResult:
        return CreateMessageResult(role="assistant", content=TextContent(text="sampled"), model="m")

    async def on_roots(self, context: ClientRequestContext) -> ListRootsResult:
        return ListRootsResult(roots=[Root(uri=FileUrl("file:///root"))])


@asynccontextmanager
async def sdk_caller(fleet: Fleet) -> AsyncGenerator[Caller]:
    caller = SdkCaller()
    async with (
        fleet.client() as http,
        streamable_http_client(f"{fleet.url}/mcp", http_client=http) as (read, write),
        ClientSession(
            read,
            write,
            elicitation_callback=caller.on_elicit,
            sampling_callback=caller.on_sample,
            list_roots_callback=caller.on_roots,
            logging_callback=caller.on_log,
            message_handler=caller.on_message,
        ) as session,
    ):
        caller.session = session
        await session.initialize()
        yield caller


class FastMCPCaller:
    def __init__(self) -> None:
        self.client: fastmcp.Client[Any]
        self.heard: Heard = []
        self.logged: list[str] = []

    async def do(self, action: str, text: str = "", steps: "list[float] | None" = None) -> str:
        async def note(progress: float, total: float | None, message: str | None) -> None:
            if steps is not None:
                steps.append(progress)

        return _said(
            await self.client.call_tool("do", {"action": action, "text": text}, progress_handler=note)
        )

    async def set_level(self, level: Any) -> None:
        await self.client.set_logging_level(level)

    async def subscribe(self, uri: str) -> None:
        await self.client.session.subscribe_resource(uri)  # pyright: ignore[reportDeprecated]

    async def on_message(self, message: Any) -> None:
        self.heard.append(message)

    async def on_log(self, params: Any) -> None:
        self.logged.append(_logged(params.data))

    async def on_elicit(self, message: str, kind: Any, params: Any, context: Any) -> Any:
        return FastMCPElicitResult(action="accept", content={"name": f"answer to {message}"})

    async def on_sample(self, messages: Any, params: Any, context: Any) -> str:
        return "sampled"


@asynccontextmanager
async def fastmcp_caller(fleet: Fleet) -> AsyncGenerator[Caller]:
    caller = FastMCPCaller()

    def make_http(headers: dict[str, str] | None = None, **_options: Any) -> httpx2.AsyncClient:
        return fleet.client(headers=headers)

    transport = StreamableHttpTransport(f"{fleet.url}/mcp", httpx_client_factory=cast("Any", make_http))
    client = fastmcp.Client(
        transport,
        mode="legacy",
        roots=["file:///root"],
        sampling_handler=caller.on_sample,
        elicitation_handler=caller.on_elicit,
        log_handler=caller.on_log,
        message_handler=caller.on_message,
    )
    caller.client = client
    async with client:
        yield caller


Connect: TypeAlias = Callable[[Fleet], AbstractAsyncContextManager[Caller]]


each_client = pytest.mark.parametrize(
    ("setup", "connect"),
    [
        pytest.param(setup, connect, id=f"{setup}-{connect.__name__.removesuffix('_caller')}")
        for setup in CLIENTS
        for connect in (sdk_caller, fastmcp_caller)
        if (setup.loop, connect) != ("trio", fastmcp_caller)  # FastMCP's client runs on asyncio only
    ],
    indirect=True,
)
each_setup = pytest.mark.parametrize("setup", CLIENTS, indirect=True, ids=str)


@pytest.fixture
def connect(request: pytest.FixtureRequest) -> Connect:
    chosen: Connect = request.param
    return chosen


class Connected(Protocol):
    def __call__(self, **options: Any) -> AbstractAsyncContextManager[tuple[Fleet, Caller]]: ...


@pytest.fixture
def connected(start: Start, framework: Framework, connect: Connect) -> Connected:
    @asynccontextmanager
    async def run(**options: Any) -> AsyncGenerator[tuple[Fleet, Caller], None]:
        async with start(framework, **options) as fleet, connect(fleet) as caller:
            yield fleet, caller

    return run


@each_client
async def test_tools_are_called_on_all_replicas_in_turn(connected: Connected) -> None:
    async with connected() as (fleet, caller):
        said = [await caller.do("echo", "x") for _ in range(9)]
        assert {line[0] for line in said} == {"0", "1", "2"}
        assert all(line.endswith(":x") for line in said)
        assert {served.replica for served in fleet.log} == {0, 1, 2}
        assert {served.status for served in fleet.log} <= {200, 202, None}


@each_client
async def test_progress_arrives_in_order(connected: Connected) -> None:
    async with connected() as (_, caller):
        for _ in range(3):
            progress: list[float] = []
            await caller.do("count", "10", progress)
            await until(partial(_has, progress, 10))
            assert progress == list(range(1, 11))


@each_client
async def test_elicitation_sampling_and_roots_are_answered(connected: Connected) -> None:
    async with connected() as (_, caller):
        for _ in range(3):
            assert (await caller.do("elicit", "name?"))[2:] == "accept:answer to name?"
            assert (await caller.do("sample", "hello"))[2:] == "sampled"
            assert "file:///root" in (await caller.do("roots"))[2:]


@each_client
async def test_elicitation_on_the_standalone_stream_is_answered(connected: Connected) -> None:
    async with connected() as (_, caller):
        for _ in range(3):
            assert (await caller.do("elicit_on_standalone", "name?"))[2:] == "accept:answer to name?"


@each_client
async def test_notifications_reach_the_client_from_every_replica(connected: Connected) -> None:
    async with connected() as (_, caller):
        for n in range(3):
            await caller.do("announce")
            await caller.do("touch", f"res://{n}")
        await until(lambda: len([m for m in caller.heard if isinstance(m, ResourceUpdatedNotification)]) == 3)
        await until(lambda: len([m for m in caller.heard if isinstance(m, ToolListChangedNotification)]) == 3)


@each_client
async def test_the_log_level_is_in_force_on_every_replica(connected: Connected) -> None:
    async with connected() as (_, caller):
        await caller.set_level("warning")
        for _ in range(3):
            await caller.do("chatter")
        await until(lambda: len(caller.logged) >= 6)
        assert sorted(line[2:] for line in caller.logged) == ["error"] * 3 + ["warning"] * 3


@each_client
async def test_a_stream_that_was_hung_up_is_resumed_by_the_client(connected: Connected, stage: Stage) -> None:
    async with connected(retry_milliseconds=50) as (fleet, caller):
        progress: list[float] = []
        answers: list[str] = []

        async def run() -> None:
            answers.append(await caller.do("hang_up_and_wait", "", progress))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await stage.until("hung up")
            gets = len([served for served in fleet.log if served.method == "GET"])
            await until(lambda: len([s for s in fleet.log if s.method == "GET"]) > gets or len(progress) > 0)
            stage.mark("go")
        assert answers[0][2:] == "done"
        assert progress == [1, 2]


@pytest.mark.guarantee("G8")
@each_client
async def test_a_client_outlives_a_rolling_restart(connected: Connected) -> None:
    async with connected() as (fleet, caller):
        for old in (0, 1, 2):
            await fleet.add()
            await fleet.stop(old)
            assert (await caller.do("echo", "x")).endswith(":x")


@each_client
async def test_leaving_deletes_the_session(start: Start, framework: Framework, connect: Connect) -> None:
    async with start(framework) as fleet:
        async with connect(fleet) as caller:
            await caller.do("echo", "x")
            replica = fleet.replicas[1].attached.replica
            assert replica is not None
            assert len(await replica.backend.sessions.list()) == 1
        await until(lambda: [served for served in fleet.log if served.method == "DELETE"])
        await until(lambda: _empty(replica.backend))


@each_client
async def test_many_clients_at_once(start: Start, framework: Framework, connect: Connect) -> None:
    async with start(framework) as fleet:

        async def run(number: int) -> None:
            async with connect(fleet) as caller:
                for _ in range(3):
                    assert (await caller.do("echo", str(number)))[2:] == str(number)
                    assert (await caller.do("elicit", str(number)))[2:] == f"accept:answer to {number}"

        with anyio.fail_after(PATIENCE_SECONDS):
            async with anyio.create_task_group() as tasks:
                for number in range(6):
                    tasks.start_soon(run, number)


@each_client
async def test_subscriptions_of_a_real_client(start: Start, connect: Connect) -> None:
    """FastMCP's server has none."""
    async with start("sdk") as fleet, connect(fleet) as caller:
        await caller.subscribe("res://a")
        update = b'{"jsonrpc":"2.0","method":"notifications/resources/updated","params":{"uri":"res://a"}}'
        for each in fleet.replicas:
            assert each.attached.replica is not None
            assert await each.attached.replica.relay.send_to_subscribers("res://a", update) == 1
        await until(lambda: len([m for m in caller.heard if isinstance(m, ResourceUpdatedNotification)]) == 3)


@each_setup
@pytest.mark.parametrize("mode", ["auto", "legacy", "2026-07-28"])
async def test_every_mode_of_the_sdks_client_works(start: Start, framework: Framework, mode: str) -> None:
    """`auto` asks for the sessionless era first, and finds it."""
    async with start(framework) as fleet, fleet.client() as http:
        transport = streamable_http_client(f"{fleet.url}/mcp", http_client=http)
        async with mcp.Client(transport, mode=mode) as client:
            for _ in range(4):
                result = await client.call_tool("do", {"action": "echo", "text": "x"})
                assert _said(result).endswith(":x")
            expected = "2025-11-25" if mode == "legacy" else "2026-07-28"
            assert client.protocol_version == expected
        opened = sum(each.store.calls.count("sessions.open") for each in fleet.replicas)
        assert opened == (1 if mode == "legacy" else 0)


@each_setup
async def test_a_cancelled_call_is_interrupted_wherever_it_runs(start: Start, stage: Stage) -> None:
    """The SDK's client tells the server when a caller gives up."""
    async with start("sdk") as fleet, sdk_caller(fleet) as caller:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(caller.do, "wait")
            await stage.until("running")
            tasks.cancel_scope.cancel()
        await stage.until("interrupted")
        assert (await caller.do("echo", "x")).endswith(":x")


def _has(items: list[float], number: int) -> bool:
    return len(items) == number


async def _empty(backend: Backend) -> bool:
    return not await backend.sessions.list()

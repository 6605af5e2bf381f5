"""The server of the flow tests, once for the SDK and once for FastMCP: one tool that does as it is told."""

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import anyio
import fastmcp
from mcp.server import MCPServer
from mcp.server.auth.provider import TokenVerifier
from mcp.server.auth.settings import AuthSettings
from mcp.server.context import ServerRequestContext
from mcp.server.mcpserver import Context
from mcp.server.session import ServerSession
from mcp.shared.message import ServerMessageMetadata
from mcp_types import (
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    EmptyResult,
    ListRootsRequest,
    ListRootsResult,
    LoggingLevel,
    LoggingMessageNotification,
    LoggingMessageNotificationParams,
    ResourceUpdatedNotification,
    ResourceUpdatedNotificationParams,
    SamplingMessage,
    ServerRequest,
    SetLevelRequestParams,
    SubscribeRequestParams,
    TextContent,
    ToolListChangedNotification,
    UnsubscribeRequestParams,
)
from pydantic import AnyHttpUrl
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

__all__ = ["LEVELS", "Framework", "Stage", "app_factory"]

Framework: TypeAlias = Literal["sdk", "fastmcp"]
LEVELS: Final[tuple[LoggingLevel, ...]] = ("debug", "info", "warning", "error")
PATIENCE_SECONDS: Final = 30.0


class Stage:
    """Where handlers say how far they are, and where tests let them go on."""

    def __init__(self) -> None:
        self._events: dict[str, anyio.Event] = {}
        self.lifespans: list[int] = []

    def mark(self, name: str) -> None:
        self._event(name).set()

    def marked(self, name: str) -> bool:
        return self._event(name).is_set()

    async def until(self, name: str) -> None:
        with anyio.fail_after(PATIENCE_SECONDS):
            await self._event(name).wait()

    def _event(self, name: str) -> anyio.Event:
        return self._events.setdefault(name, anyio.Event())


@dataclass(frozen=True)
class Call:
    """One call of the tool."""

    number: int
    text: str
    stage: Stage
    session: ServerSession
    request_id: str
    state: Any
    levels: dict[str, LoggingLevel]
    close_stream: Callable[[], Awaitable[None]]
    close_standalone: Callable[[], Awaitable[None]] | None = None

    async def echo(self) -> str:
        return f"{self.number}:{self.text}"

    async def count(self) -> str:
        for step in range(1, int(self.text) + 1):
            await self.session.report_progress(step, int(self.text))
        return f"{self.number}:counted"

    async def wait(self) -> str:
        """Say that it runs, and go on when the test says so."""
        self.stage.mark("running")
        try:
            await self.stage.until("go")
        except BaseException:
            self.stage.mark("interrupted")
            raise
        return f"{self.number}:waited"

    async def report_and_wait(self) -> str:
        await self.session.report_progress(1, 3)
        self.stage.mark("running")
        await self.stage.until("go")
        await self.session.report_progress(2, 3)
        await self.stage.until("end")
        await self.session.report_progress(3, 3)
        return f"{self.number}:done"

    async def begin_late(self) -> str:
        self.stage.mark("running")
        await self.stage.until("go")
        await self.session.report_progress(1, 2)
        await self.stage.until("end")
        await self.session.report_progress(2, 2)
        return f"{self.number}:begun late"

    async def wait_and_announce(self) -> str:
        await self.session.report_progress(1, 1)
        await self.stage.until("go")
        return await self.announce()

    async def wait_and_chatter(self) -> str:
        """As many log messages as the client said."""
        await self.session.report_progress(1, 1)
        await self.stage.until("go")
        for number in range(int(self.text)):
            params = LoggingMessageNotificationParams(level="info", data=number)
            await self.session.send_notification(
                LoggingMessageNotification(params=params), related_request_id=self.request_id
            )
        return "chattered"

    async def hang_up_and_wait(self) -> str:
        """Close its own stream, and go on without a client."""
        await self.close_stream()
        await self.session.report_progress(1, 2)
        self.stage.mark("hung up")
        await self.stage.until("go")
        await self.session.report_progress(2, 2)
        return f"{self.number}:done"

    async def hang_up_standalone(self) -> str:
        assert self.close_standalone is not None
        await self.close_standalone()
        return "closed"

    async def elicit(self) -> str:
        result = await self._ask(_elicitation(self.text), ElicitResult)
        return f"{self.number}:{result.action}:{_name(result)}"

    async def elicit_and_give_up(self) -> str:
        try:
            await self.session.send_request(
                _elicitation(self.text),
                ElicitResult,
                request_read_timeout_seconds=0.2,
                metadata=ServerMessageMetadata(related_request_id=self.request_id),
            )
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the answer
            return f"{type(error).__name__}: {error}"
        return "answered"

    async def report_wait_and_elicit(self) -> str:
        await self.session.report_progress(1, 3)
        await self.stage.until("go")
        try:
            await self.elicit()
        except Exception:
            self.stage.mark("refused")
            raise
        return "answered"

    async def elicit_with_progress(self) -> str:
        """Pass on to the caller what the client reports."""

        async def report(progress: float, total: float | None, message: str | None) -> None:
            await self.session.report_progress(progress)

        result = await self.session.send_request(
            _elicitation(self.text),
            ElicitResult,
            metadata=ServerMessageMetadata(related_request_id=self.request_id),
            progress_callback=report,
        )
        return f"{self.number}:{result.action}"

    async def elicit_on_standalone(self) -> str:
        result = await self.session.send_request(_elicitation(self.text), ElicitResult)
        return f"{self.number}:{result.action}:{_name(result)}"

    async def sample(self) -> str:
        message = SamplingMessage(role="user", content=TextContent(text=self.text))
        params = CreateMessageRequestParams(messages=[message], max_tokens=5)
        result = await self._ask(CreateMessageRequest(params=params), CreateMessageResult)
        assert isinstance(result.content, TextContent)
        return f"{self.number}:{result.content.text}"

    async def roots(self) -> str:
        result = await self._ask(ListRootsRequest(), ListRootsResult)
        return f"{self.number}:{','.join(str(root.uri) for root in result.roots)}"

    async def chatter(self) -> str:
        """Log once on each level that the client wants to hear of."""
        wanted = self.levels.get(_session_id(self.session), "debug")
        for level in LEVELS[LEVELS.index(wanted) :]:
            params = LoggingMessageNotificationParams(level=level, data=f"{self.number}:{level}")
            await self.session.send_notification(
                LoggingMessageNotification(params=params), related_request_id=self.request_id
            )
        return "chattered"

    async def announce(self) -> str:
        """A notification that belongs to no request."""
        await self.session.send_notification(ToolListChangedNotification())
        return "announced"

    async def touch(self) -> str:
        params = ResourceUpdatedNotificationParams(uri=self.text)
        await self.session.send_notification(ResourceUpdatedNotification(params=params))
        return "touched"

    async def client(self) -> str:
        params = self.session.client_params
        return f"{params.client_info.name if params else None}:{self.session.protocol_version}"

    async def lifespan(self) -> str:
        return f"{self.number}:{self.state}"

    async def fail(self) -> str:
        raise ValueError(self.text)

    async def _ask(self, request: ServerRequest, result: Any) -> Any:
        """On the stream of this call."""
        return await self.session.send_request(
            request, result, metadata=ServerMessageMetadata(related_request_id=self.request_id)
        )


def _name(result: ElicitResult) -> object:
    return result.content.get("name") if result.content else None


def _elicitation(message: str) -> ElicitRequest:
    schema = {"type": "object", "properties": {"name": {"type": "string"}}}
    return ElicitRequest(params=ElicitRequestFormParams(message=message, requested_schema=schema))


def _session_id(session: ServerSession) -> str:
    return str(session._connection.session_id)  # pyright: ignore[reportPrivateUsage]


@dataclass
class _Server:
    """What the tool, the lifespan and the handlers of one replica share."""

    number: int
    stage: Stage
    levels: dict[str, LoggingLevel] = field(default_factory=dict[str, LoggingLevel])

    @asynccontextmanager
    async def lifespan(self, _server: Any) -> AsyncGenerator[dict[str, str]]:
        self.stage.lifespans.append(self.number)
        yield {"opened": f"resource of {self.number}"}

    async def health(self, _request: Request) -> Response:
        return PlainTextResponse(f"replica {self.number} is well")


def app_factory(
    framework: Framework = "sdk",
    stage: Stage | None = None,
    *,
    verifier: Any = None,
    transport: Literal["http", "sse"] = "http",
    **options: Any,
) -> Callable[[int], Starlette]:
    """A factory of the application for `replicas`; `options` go to the framework's own method."""
    stage = stage or Stage()

    def make(number: int) -> Starlette:
        server = _Server(number, stage)
        return (
            _sdk_app(server, verifier, options, transport)
            if framework == "sdk"
            else _fastmcp_app(server, verifier, {"transport": transport, **options})
        )

    return make


def _sdk_app(
    server: _Server, verifier: TokenVerifier | None, options: dict[str, Any], transport: str
) -> Starlette:
    url = AnyHttpUrl("http://localhost:8000")
    auth = AuthSettings(issuer_url=url, resource_server_url=None) if verifier else None
    mcp = MCPServer("flows", lifespan=server.lifespan, token_verifier=verifier, auth=auth)

    @mcp.tool()
    async def do(action: str, ctx: Context, text: str = "") -> str:
        call = Call(
            server.number,
            text,
            server.stage,
            ctx.session,
            ctx.request_id,
            ctx.request_context.lifespan_context,
            server.levels,
            ctx.close_sse_stream,
            ctx.close_standalone_sse_stream,
        )
        return str(await getattr(call, action)())

    async def set_level(ctx: ServerRequestContext, params: SetLevelRequestParams) -> EmptyResult:
        server.levels[_session_id(ctx.session)] = params.level
        return EmptyResult()

    async def subscribe(_ctx: ServerRequestContext, params: SubscribeRequestParams) -> EmptyResult:
        if str(params.uri).startswith("refused:"):
            raise ValueError("no such resource")
        return EmptyResult()

    async def unsubscribe(_ctx: ServerRequestContext, params: UnsubscribeRequestParams) -> EmptyResult:
        return EmptyResult()

    mcp.custom_route("/health", methods=["GET"])(server.health)
    app = mcp.streamable_http_app(**({} if transport == "sse" else options))
    lowlevel = mcp.session_manager.app
    lowlevel.add_request_handler("logging/setLevel", SetLevelRequestParams, set_level)
    lowlevel.add_request_handler("resources/subscribe", SubscribeRequestParams, subscribe)
    lowlevel.add_request_handler("resources/unsubscribe", UnsubscribeRequestParams, unsubscribe)
    return mcp.sse_app(**options) if transport == "sse" else app


def _fastmcp_app(server: _Server, verifier: Any, options: dict[str, Any]) -> Starlette:
    mcp = fastmcp.FastMCP("flows", lifespan=server.lifespan, auth=verifier)

    @mcp.tool()
    async def do(action: str, ctx: fastmcp.Context, text: str = "") -> str:
        request = ctx.request_context
        assert request is not None
        if action == "chatter":
            for level in LEVELS:
                await ctx.log(f"{server.number}:{level}", level=level)
            return "chattered"
        call = Call(
            server.number,
            text,
            server.stage,
            ctx.session,
            ctx.request_id,
            ctx.lifespan_context,
            server.levels,
            ctx.close_sse_stream,
        )
        return str(await getattr(call, action)())

    mcp.custom_route("/health", methods=["GET"])(server.health)
    return mcp.http_app(**options)

"""`session_health_check`: the tool by which a client, or the model behind it, asks how its server is."""

import logging
from typing import Any, Final, cast

from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp_types import CallToolResult, TextContent, ToolAnnotations
from starlette.requests import Request

from holdfast.errors import ConfigurationError
from holdfast.integrations.mcp_sdk.app import Attached
from holdfast.ops.health.examination import examine
from holdfast.ops.health.report import error_report, render, report
from holdfast.sessions.types import SessionId

__all__ = ["NAME", "register"]

logger = logging.getLogger("holdfast")

NAME: Final = "session_health_check"
_DESCRIPTION: Final = (
    "Check the health of this server's session storage: whether the store answers, where sessions are kept, "
    "how fast it is, and what to do if something is wrong."
)
_READS: Final = ToolAnnotations(read_only_hint=True, open_world_hint=False)


def register(server: Any, *, attached: Attached | None = None) -> None:
    """Give `server` the tool `session_health_check`. Before or after `attach`, whichever comes first.

    It answers within a second whatever the store does, with the check as structured content and as text.

    Args:
        server: an `MCPServer` or a `FastMCP`.
        attached: what `attach` returned. Not needed, unless the application that was attached is not the one
            that handles the request: by itself the tool finds the one that serves it.

    Raises:
        ConfigurationError: `server` is neither of them.
    """
    if isinstance(server, MCPServer):
        _register_with_sdk(server, attached)
    elif type(server).__module__.partition(".")[0] == "fastmcp" or hasattr(server, "http_app"):
        _register_with_fastmcp(server, attached)
    else:
        raise ConfigurationError(
            f"register: server: got {type(server).__name__}, expected an MCPServer or a FastMCP"
        )


def _register_with_sdk(server: Any, attached: Attached | None) -> None:
    async def session_health_check(ctx: Context) -> CallToolResult:
        data = await _check(cast("Any", ctx).request_context.request, attached)
        return CallToolResult(content=[TextContent(text=render(data))], structured_content=data)

    server.add_tool(session_health_check, name=NAME, description=_DESCRIPTION, annotations=_READS)


def _register_with_fastmcp(server: Any, attached: Attached | None) -> None:
    from fastmcp.server.dependencies import get_http_request  # noqa: PLC0415 - an extra
    from fastmcp.tools import ToolResult  # noqa: PLC0415

    async def session_health_check() -> ToolResult:
        data = await _check(get_http_request(), attached)
        return ToolResult(content=[TextContent(text=render(data))], structured_content=data)

    server.tool(
        session_health_check, name=NAME, description=_DESCRIPTION, annotations=_READS, output_schema=None
    )


async def _check(request: Request | None, attached: Attached | None) -> dict[str, Any]:
    found = attached or _serving(request)
    replica = None if found is None else found.replica
    if replica is None:
        return error_report(ConfigurationError("this server is not attached"))
    session = None if request is None else request.headers.get("mcp-session-id")
    try:
        return report(await examine(replica), session=SessionId(session) if session else None)
    except Exception as error:  # the answer is the border: a tool that raises says nothing
        logger.exception("the health check failed")
        return error_report(error)


def _serving(request: Request | None) -> Attached | None:
    """What is attached to the application that handles a request."""
    app = None if request is None else request.scope.get("app")
    return getattr(getattr(app, "state", None), "holdfast", None)

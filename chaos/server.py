"""What the replicas serve: tools whose every message can be told from any other, so that none can hide."""

import warnings
from typing import Any

import anyio
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
from mcp.shared.exceptions import MCPDeprecationWarning
from mcp.shared.message import ServerMessageMetadata
from mcp_types import (
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    LoggingMessageNotification,
    LoggingMessageNotificationParams,
)

from chaos.checksum import checksum

warnings.filterwarnings("ignore", category=MCPDeprecationWarning)  # log messages are what this era has

mcp = MCPServer("chaos")


@mcp.tool()
async def echo(text: str) -> str:
    return text


@mcp.tool()
async def count(ctx: Context, mark: str, events: int, pause_ms: int, hang_up_at: int = 0) -> str:
    """Numbered messages on the stream of this call, odd ones as progress, even ones as log messages."""
    for number in range(1, events + 1):
        await anyio.sleep(pause_ms / 1000)
        if number % 2:
            await ctx.report_progress(number, events, mark)
        else:
            await _log(ctx, mark, number, related_request_id=ctx.request_id)
        if number == hang_up_at:
            await ctx.close_sse_stream()
    return checksum(mark, events)


@mcp.tool()
async def tell(ctx: Context, mark: str, events: int, pause_ms: int) -> str:
    """Numbered messages on the session's standalone stream."""
    for number in range(1, events + 1):
        await anyio.sleep(pause_ms / 1000)
        await _log(ctx, mark, number)
    return checksum(mark, events)


@mcp.tool()
async def ask(ctx: Context, mark: str, pause_ms: int, standalone: bool = False) -> str:
    """A question between two messages; `standalone` chooses the stream on which it is asked."""
    await ctx.report_progress(1, 2, mark)
    await anyio.sleep(pause_ms / 1000)
    schema: dict[str, Any] = {"type": "object", "properties": {"name": {"type": "string"}}}
    question = ElicitRequest(params=ElicitRequestFormParams(message=mark, requested_schema=schema))
    about = None if standalone else ServerMessageMetadata(related_request_id=ctx.request_id)
    answer = await ctx.session.send_request(question, ElicitResult, metadata=about)
    await ctx.report_progress(2, 2, mark)
    return f"{answer.action}:{(answer.content or {}).get('name')}"


async def _log(ctx: Context, mark: str, number: int, related_request_id: str | None = None) -> None:
    params = LoggingMessageNotificationParams(level="info", data={"mark": mark, "number": number})
    await ctx.session.send_notification(
        LoggingMessageNotification(params=params), related_request_id=related_request_id
    )

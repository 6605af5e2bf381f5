"""The SDK's own client among the others. It gives up early on connections; its session must live on."""

import asyncio
import itertools
import random
import time
from typing import Any, Final, cast

from mcp import ClientSession
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import MCPError
from mcp_types import REQUEST_TIMEOUT, TextContent

from chaos.ledger import Diary

CALL_SECONDS: Final = 20.0
_TOLD: Final = ("replica-died", "shutting-down")


async def run_official(
    url: str, diary: Diary, rng: random.Random, think: float, stopped: asyncio.Event
) -> None:
    """Plain calls in one session, until told to stop."""
    async with streamable_http_client(url) as (read, write), ClientSession(read, write) as session:
        await session.initialize()
        for number in itertools.count(1):
            if stopped.is_set():
                return
            await _call(session, diary, f"official {diary.number}.{number}")
            await asyncio.sleep(rng.uniform(0, 2 * think))


async def _call(session: ClientSession, diary: Diary, text: str) -> None:
    started = time.monotonic()
    try:
        result = await session.call_tool("echo", {"text": text}, read_timeout_seconds=CALL_SECONDS)
    except MCPError as error:
        _judge(diary, text, error, started)
        return
    diary.count("calls: official")
    content = result.content[0] if result.content else None
    if result.is_error and diary.tally.store.outage(started):
        diary.count("calls failed by the store")
    elif not isinstance(content, TextContent) or content.text != text:
        diary.blame("wrong", f"{text}: said {result}")


def _judge(diary: Diary, text: str, error: MCPError, started: float) -> None:
    diary.note(f"{text}: {error.error}")
    data = error.error.data
    reason = cast("dict[str, Any]", data).get("reason") if isinstance(data, dict) else None
    if "Session terminated" in error.error.message:
        diary.blame("re-initialize", f"{text}: {error.error}")
    elif reason in _TOLD or error.error.code == REQUEST_TIMEOUT:
        diary.count(f"errors: {reason or 'timeout'} (official)")
        if diary.tally.rolling_since is not None and started >= diary.tally.rolling_since:
            diary.blame("failed", f"{text} in a rolling restart: {error.error}")
    else:
        diary.count("retried connections (official)")

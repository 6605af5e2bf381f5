"""What is stored: sessions as `initialize` opens them, and events of a usual size."""

import asyncio
import json
import secrets
from collections.abc import Sequence
from typing import Final

from holdfast.sessions.protocols import Backend
from holdfast.sessions.types import SessionFacts, SessionId

MESSAGE_BYTES: Final = 335
"""A progress or log notification of a usual length."""

_AT_ONCE: Final = 256
_CLIENT: Final = json.dumps(
    {
        "protocolVersion": "2025-11-25",
        "capabilities": {"elicitation": {}, "roots": {"listChanged": True}, "sampling": {}},
        "clientInfo": {"name": "benchmark", "version": "1.0.0"},
    }
).encode()


def message() -> bytes:
    """A notification of `MESSAGE_BYTES`."""
    params = {"level": "info", "logger": "benchmark", "data": ""}
    empty = json.dumps(
        {"jsonrpc": "2.0", "method": "notifications/message", "params": params}, separators=(",", ":")
    )
    return empty.replace('"data":""', '"data":"' + "x" * (MESSAGE_BYTES - len(empty)) + '"').encode()


def facts(owner: str | None = None) -> SessionFacts:
    """A session that nobody opened yet."""
    return SessionFacts(SessionId(secrets.token_hex(24)), owner, "2025-11-25", _CLIENT, 3600.0)


async def open_sessions(backend: Backend, count: int) -> Sequence[SessionId]:
    """Open so many sessions, as fast as the store takes them."""
    opened: list[SessionId] = []
    for start in range(0, count, _AT_ONCE):
        batch = [facts() for _ in range(min(_AT_ONCE, count - start))]
        await asyncio.gather(*(backend.sessions.open(one, limit=None) for one in batch))
        opened += [one.id for one in batch]
    return opened

"""Writes down what a release stores: `python tests/flows/releases/make_fixture.py LABEL`, once per format.

Run it with the code of another release by putting that first: `PYTHONPATH=/elsewhere/src python …`.
"""

import asyncio
import itertools
import json
import shutil
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any, Final

sys.path.append(str(Path(__file__).parents[3]))

from holdfast.backends import open_store
from holdfast.sessions.event_id import encode_event_id
from holdfast.sessions.protocols import Backend
from holdfast.sessions.types import STANDALONE, AppendKey, Event, SessionFacts, SessionId, StreamId
from tests.servers import RunningServer, start_server

HERE: Final = Path(__file__).parent
_counter = itertools.count(1)
TTL_SECONDS: Final = 10 * 365 * 86_400.0
"""A file remembers when its sessions end: these must outlive the releases that read them."""


async def write(store: str) -> dict[str, Any]:
    """A session with some of everything, and what must be found of it."""
    async with open_store(store) as backend:
        client = b'{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"old"}}'
        session = SessionId("stored" + "0123456789abcdef" * 2)
        await backend.sessions.open(
            SessionFacts(session, None, "2025-11-25", client, TTL_SECONDS), limit=None
        )
        await backend.sessions.configure(session, log_level="warning")
        await backend.subscriptions.add(session, "res://stored", ttl_seconds=TTL_SECONDS)
        events = [await _say(backend, session, STANDALONE, number) for number in range(3)]
        ended, running = StreamId("ended"), StreamId("running")
        ended_start = await backend.log.open_stream(session, ended, 7)
        ended_events = [await _say(backend, session, ended, 3)]
        ended_events.append(await _append(backend, session, ended, {"id": 7, "result": {}}, final=True))
        running_start = await backend.log.open_stream(session, running, "seven")
        for request_id in ("gone.pending", "gone.answered"):
            message = {"id": request_id, "method": "ping"}
            await _append(backend, session, running, message, expects=request_id)
        await backend.inbox.put(session, "gone.answered", b'{"id":"gone.answered","result":{}}')
        return {
            "session": session,
            "client": client.decode(),
            "log_level": "warning",
            "uri": "res://stored",
            "standalone": [_described(event) for event in events],
            "ended": [_described(event) for event in ended_events],
            "ended_start": encode_event_id(ended, ended_start),
            "running_start": encode_event_id(running, running_start),
            "pending": "gone.pending",
            "answered": "gone.answered",
        }


async def _say(backend: Backend, session: SessionId, stream: StreamId, number: int) -> Event:
    params = {"level": "info", "data": f"message {number}"}
    return await _append(backend, session, stream, {"method": "notifications/message", "params": params})


async def _append(
    backend: Backend, session: SessionId, stream: StreamId, message: dict[str, Any], **options: Any
) -> Event:
    key = AppendKey(backend.replica, next(_counter))
    payload = json.dumps({"jsonrpc": "2.0", **message}).encode()
    return await backend.log.append(session, stream, payload, key=key, **options)


def _described(event: Event) -> dict[str, str]:
    return {"id": encode_event_id(event.stream, event.position), "payload": event.payload.decode()}


def dump(server: RunningServer) -> dict[str, Any]:
    """Every key of a Redis: its type and what is in it, bytes as Latin-1."""
    readers: dict[str, tuple[str, ...]] = {
        "string": ("GET", "{key}"),
        "hash": ("HGETALL", "{key}"),
        "list": ("LRANGE", "{key}", "0", "-1"),
        "set": ("SMEMBERS", "{key}"),
        "zset": ("ZRANGE", "{key}", "0", "-1", "WITHSCORES"),
        "stream": ("XRANGE", "{key}", "-", "+"),
    }
    dumped: dict[str, Any] = {}
    keys: Any = server.cli("KEYS", "*")
    for key in sorted(raw.decode("latin-1") for raw in keys):
        kind: Any = server.cli("TYPE", key.encode("latin-1"))
        command = [part.format(key=key).encode("latin-1") for part in readers[kind.decode()]]
        dumped[key] = {"type": kind.decode(), "value": _text(server.cli(*command))}
    return dumped


def _text(reply: Any) -> Any:
    if isinstance(reply, bytes):
        return reply.decode("latin-1")
    if isinstance(reply, list):
        return [_text(each) for each in reply]  # pyright: ignore[reportUnknownVariableType]
    return reply


def main(label: str) -> None:
    folder = HERE / "stored" / label
    folder.mkdir(parents=True)
    with start_server("valkey") as server:
        expected = {"redis": asyncio.run(write(server.url))}
        (folder / "redis.json").write_text(json.dumps(dump(server), indent=1) + "\n")
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary) / "stored.db"
        expected["sqlite"] = asyncio.run(write(f"sqlite://{file}"))
        with closing(sqlite3.connect(file)) as connection:
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        shutil.copy(file, folder / "sqlite.db")
    (folder / "expected.json").write_text(json.dumps(expected, indent=1) + "\n")
    print(f"written: {folder}")


if __name__ == "__main__":
    main(sys.argv[1])

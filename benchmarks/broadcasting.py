"""Clients with open streams on two servers, and broadcasts to all of them, in a process of its own.

`python -m benchmarks.broadcasting URL STREAMS BROADCASTS PORT PORT` prints a JSON list, one object a
broadcast. Sessions are opened in the store; the broadcasts are sent by this process, which serves nobody.
"""

import asyncio
import gc
import json
import re
import sys
import time
from typing import Final, cast

import uvloop
from typing_extensions import override

from benchmarks.material import message, open_sessions
from holdfast.backends import open_store
from holdfast.sessions.broadcasts import Broadcasts
from holdfast.sessions.hub import Hub
from holdfast.sessions.types import SessionId

CONNECTING: Final = 64
ARRIVED: Final = b'"method":"notifications/message"'
COUNTED: Final = ("xadd", "publish", "xrange")
WAIT_SECONDS: Final = 60.0


class Crowd:
    """How many streams have got how much."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.arrived: list[float] = []
        self._all = asyncio.Event()

    def note(self) -> None:
        """One more has it."""
        self.arrived.append(time.perf_counter())
        if len(self.arrived) >= self.size:
            self._all.set()

    async def everybody(self) -> list[float]:
        """When each of them got it."""
        await asyncio.wait_for(self._all.wait(), WAIT_SECONDS)
        arrived, self.arrived = self.arrived, []
        self._all.clear()
        return arrived


class Stream(asyncio.Protocol):
    """A GET that stays open."""

    def __init__(self, session: SessionId, port: int, crowd: Crowd) -> None:
        self._request = (
            f"GET /mcp HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\naccept: text/event-stream\r\n"
            f"mcp-session-id: {session}\r\nmcp-protocol-version: 2025-11-25\r\n\r\n"
        ).encode()
        self._crowd = crowd
        self._buffer = b""
        self.primed = asyncio.get_running_loop().create_future()

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(self._request)

    @override
    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while b"\n\n" in self._buffer:
            event, _, self._buffer = self._buffer.partition(b"\n\n")
            if ARRIVED in event:
                self._crowd.note()
            elif b"data:" in event and not self.primed.done():
                self.primed.set_result(None)


async def commands(url: str) -> dict[str, int]:
    """How often the store did what a broadcast could need."""
    found = re.match(r"redis://([^:]+):(\d+)", url)
    if found is None:
        raise ValueError(url)
    reader, writer = await asyncio.open_connection(found[1], int(found[2]))
    writer.write(b"INFO commandstats\r\n")
    length = int((await reader.readline())[1:])
    stats = (await reader.readexactly(length)).decode()
    writer.close()
    calls = {name: re.search(rf"cmdstat_{name}:calls=(\d+)", stats) for name in COUNTED}
    return {name.upper(): int(found[1]) if found else 0 for name, found in calls.items()}


async def measure(url: str, streams: int, broadcasts: int, ports: list[int]) -> list[dict[str, float]]:
    """Open all streams, and say something to them again and again."""
    loop, crowd = asyncio.get_running_loop(), Crowd(streams)
    limit = asyncio.Semaphore(CONNECTING)
    rows: list[dict[str, float]] = []

    async def connect(session: SessionId, port: int) -> None:
        async with limit:
            _, stream = await loop.create_connection(lambda: Stream(session, port, crowd), "127.0.0.1", port)
            await asyncio.wait_for(stream.primed, WAIT_SECONDS)

    async with open_store(url) as backend:
        sender = Broadcasts(backend.broadcasts, Hub(), backend.replica)
        sessions = await open_sessions(backend, streams)
        await asyncio.gather(
            *(connect(session, ports[number % len(ports)]) for number, session in enumerate(sessions))
        )
        gc.collect()
        gc.freeze()
        for number in range(broadcasts + 1):
            before, began = await commands(url), time.perf_counter()
            await sender.send(message())
            arrived = await crowd.everybody()
            after = await commands(url)
            if number:  # the first one creates the log, and finds everything cold
                took = [(at - began) * 1000 for at in arrived]
                spent = {name: after[name] - before[name] for name in after}
                rows.append({"first ms": round(min(took), 2), "last ms": round(max(took), 2), **spent})
    return rows


async def main() -> None:
    """Measure, and print each broadcast."""
    url, streams, broadcasts, *ports = sys.argv[1:]
    rows = await measure(url, int(streams), int(broadcasts), [int(port) for port in ports])
    print(json.dumps(rows))


if __name__ == "__main__":
    uvloop.run(main())

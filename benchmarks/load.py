"""The load: handshake sessions that call the echo tool over keep-alive connections, in a process of its own.

`python -m benchmarks.load PORT PID PATH CONNECTIONS SECONDS` prints one JSON object. It must not be what is
measured: hence a protocol that does no more than find the end of a response. `servers/bare.py` shows how
much it can do.
"""

import asyncio
import gc
import json
import re
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, cast

import uvloop
from typing_extensions import override

from benchmarks.processes import Serving

SESSIONS: Final = 64
WARM_UP_SECONDS: Final = 0.5
SPARE_SECONDS: Final = 30.0
INITIALIZE: Final = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "load", "version": "1"},
}
CALL: Final = (
    b'{"jsonrpc":"2.0","id":%d,"method":"tools/call","params":{"name":"echo","arguments":{"text":"hello"}}}'
)
FIRST_ID: Final = 10**9  # all ids have the same length, and so all requests
LENGTH: Final = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
SESSION: Final = re.compile(rb"\r\nmcp-session-id: *([^\r]+)", re.IGNORECASE)
END_OF_CHUNKS: Final = b"\r\n0\r\n\r\n"


class Connection(asyncio.Protocol):
    """One HTTP/1.1 connection with one request at a time."""

    def __init__(self) -> None:
        self._buffer = b""
        self._waiting: asyncio.Future[bytes] | None = None
        self._transport: asyncio.Transport | None = None

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one without saying so

    @override
    def data_received(self, data: bytes) -> None:
        self._buffer = buffer = self._buffer + data if self._buffer else data
        head = buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        length = LENGTH.search(buffer, 0, head)
        if len(buffer) < head + 4 + int(length[1]) if length else not buffer.endswith(END_OF_CHUNKS):
            return
        self._buffer = b""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(buffer)

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(exc or ConnectionResetError("the server hung up"))

    def send(self, request: bytes) -> asyncio.Future[bytes]:
        """The whole response to a request, head included."""
        if self._transport is None:
            raise RuntimeError("not connected")
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._waiting


@dataclass
class Load:
    """Calls on many sessions, and how long each took."""

    server: Serving
    path: bytes
    until: float = 0.0
    heads: Sequence[bytes] = ()
    seconds: list[float] = field(default_factory=list[float])

    def request(self, length: int, session: bytes | None = None) -> bytes:
        """The head of a POST."""
        about = (
            b""
            if session is None
            else b"mcp-session-id: %s\r\nmcp-protocol-version: 2025-11-25\r\n" % session
        )
        return (
            b"POST %s HTTP/1.1\r\nhost: 127.0.0.1:%d\r\ncontent-type: application/json\r\n"
            b"accept: application/json, text/event-stream\r\n%scontent-length: %d\r\n\r\n"
        ) % (self.path, self.server.port, about, length)

    async def connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(Connection, "127.0.0.1", self.server.port)
        return connection

    async def open_sessions(self) -> None:
        """Sessions as every client opens them."""
        connection = await self.connect()
        first = json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": INITIALIZE}).encode()
        second = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
        sessions: list[bytes] = []
        for _ in range(SESSIONS):
            response = await connection.send(self.request(len(first)) + first)
            found = SESSION.search(response)
            if found is None:
                raise RuntimeError(f"no session: {response[:300]!r}")
            sessions.append(found[1])
            response = await connection.send(self.request(len(second), found[1]) + second)
            if not response.startswith((b"HTTP/1.1 202", b"HTTP/1.1 200")):
                raise RuntimeError(f"not accepted: {response[:300]!r}")
        length = len(CALL % FIRST_ID)
        self.heads = [self.request(length, session) for session in sessions]

    async def run(self, connections: int, seconds: float) -> float:
        """Call for so long; how long it took."""
        self.seconds.clear()
        opened = [await self.connect() for _ in range(connections)]
        began = time.perf_counter()
        self.until = began + seconds
        await asyncio.gather(*(self.call(number, connection) for number, connection in enumerate(opened)))
        return time.perf_counter() - began

    async def call(self, number: int, connection: Connection) -> None:
        count, now, heads, sessions = 0, time.perf_counter(), self.heads, len(self.heads)
        while now < self.until:
            count += 1
            head = heads[(number * 7 + count) % sessions]
            response = await connection.send(head + CALL % (FIRST_ID + number * 10**6 + count))
            before, now = now, time.perf_counter()
            self.seconds.append(now - before)
            if b" 200 " not in response[:16] or b'"hello"' not in response:
                raise RuntimeError(f"not the answer: {response[:300]!r}")


async def main() -> None:
    """Open the sessions, warm up, and measure."""
    port, pid, path, connections, seconds = sys.argv[1:]
    load = Load(Serving(int(pid), int(port)), path.encode())
    print(json.dumps(await measure(load, int(connections), float(seconds))))


async def measure(load: Load, connections: int, seconds: float) -> dict[str, float]:
    """The figures of one run."""
    async with asyncio.timeout(seconds + SPARE_SECONDS):
        await load.open_sessions()
        await load.run(connections, WARM_UP_SECONDS)
        gc.freeze()
        gc.disable()
        cpu, own = load.server.cpu_seconds(), time.process_time()
        lasted = await load.run(connections, seconds)
        cpu, own = load.server.cpu_seconds() - cpu, time.process_time() - own
    took = sorted(load.seconds)
    return {
        "calls/s": round(len(took) / lasted),
        "p50 ms": round(took[len(took) // 2] * 1000, 3),
        "p99 ms": round(took[len(took) * 99 // 100] * 1000, 3),
        "CPU ms/call": round(cpu / len(took) * 1000, 4),
        "load CPU %": round(own / lasted * 100),
    }


if __name__ == "__main__":
    uvloop.run(main())

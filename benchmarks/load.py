"""The load: handshake sessions that call the echo tool over keep-alive connections, in a process of its own.

`python -m benchmarks.load PORT CONNECTIONS SECONDS` prints one JSON object.
"""

import asyncio
import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

SESSIONS = 64
INITIALIZE = {
    "protocolVersion": "2025-11-25",
    "capabilities": {},
    "clientInfo": {"name": "load", "version": "1"},
}


@dataclass
class Connection:
    """One HTTP/1.1 connection; just enough of a client to cost little."""

    port: int
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def post(
        self, message: Mapping[str, object], session: str | None = None
    ) -> tuple[str | None, bytes]:
        """Send one message; the session id of the response, and its body."""
        body = json.dumps(message).encode()
        head = (
            f"POST /mcp HTTP/1.1\r\nhost: 127.0.0.1:{self.port}\r\ncontent-type: application/json\r\n"
            f"accept: application/json, text/event-stream\r\ncontent-length: {len(body)}\r\n"
        )
        if session is not None:
            head += f"mcp-session-id: {session}\r\nmcp-protocol-version: 2025-11-25\r\n"
        self.writer.write(head.encode() + b"\r\n" + body)
        status, headers = await self._head()
        if status not in {b"200", b"202"}:
            raise RuntimeError(f"status {status.decode()}")
        return headers.get("mcp-session-id"), await self._body(headers)

    async def _head(self) -> tuple[bytes, dict[str, str]]:
        first, *lines = (await self.reader.readuntil(b"\r\n\r\n"))[:-4].split(b"\r\n")
        pairs = (line.decode("latin-1").split(":", 1) for line in lines)
        return first.split(b" ")[1], {name.lower(): value.strip() for name, value in pairs}

    async def _body(self, headers: dict[str, str]) -> bytes:
        if "content-length" in headers:
            return await self.reader.readexactly(int(headers["content-length"]))
        chunks: list[bytes] = []
        while size := int(await self.reader.readline(), 16):
            chunks.append((await self.reader.readexactly(size + 2))[:-2])
        await self.reader.readexactly(2)
        return b"".join(chunks)


@dataclass
class Load:
    """Calls on many sessions, and how long each took."""

    port: int
    until: float = 0.0
    sessions: list[str] = field(default_factory=list[str])
    seconds: list[float] = field(default_factory=list[float])

    async def connect(self) -> Connection:
        return Connection(self.port, *await asyncio.open_connection("127.0.0.1", self.port))

    async def open_sessions(self) -> None:
        connection = await self.connect()
        for _ in range(SESSIONS):
            message = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": INITIALIZE}
            session, _ = await connection.post(message)
            if session is None:
                raise RuntimeError("the server gave no session id")
            await connection.post({"jsonrpc": "2.0", "method": "notifications/initialized"}, session)
            self.sessions.append(session)

    async def run(self, connections: int, seconds: float) -> float:
        """Call for so long; how long it took."""
        self.seconds.clear()
        began = time.perf_counter()
        self.until = began + seconds
        await asyncio.gather(*map(self.call, range(connections)))
        return time.perf_counter() - began

    async def call(self, number: int) -> None:
        connection, count = await self.connect(), 0
        while time.perf_counter() < self.until:
            count += 1
            params = {"name": "echo", "arguments": {"text": "hello"}}
            message = {
                "jsonrpc": "2.0",
                "id": number * 10**7 + count,
                "method": "tools/call",
                "params": params,
            }
            began = time.perf_counter()
            _, body = await connection.post(message, self.sessions[(number * 7 + count) % SESSIONS])
            self.seconds.append(time.perf_counter() - began)
            if b"hello" not in body:
                raise RuntimeError(f"not the answer: {body!r}")


async def main() -> None:
    """Open the sessions, warm up, and measure."""
    port, connections, seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    load = Load(port)
    await load.open_sessions()
    await load.run(connections, 0.5)
    lasted = await load.run(connections, seconds)
    took = sorted(load.seconds)
    figures = {
        "calls_per_second": round(len(took) / lasted),
        "p50_ms": round(took[len(took) // 2] * 1000, 2),
        "p99_ms": round(took[len(took) * 99 // 100] * 1000, 2),
    }
    print(json.dumps(figures))


if __name__ == "__main__":
    asyncio.run(main())

"""Clients that only listen, in a process of their own: `python -m benchmarks.listen PORT COUNT`.

Does one step for each line that it reads, and then prints a number: `sessions`, `streams`, `count` (of the
streams that are still open).
"""

import asyncio
import json
import sys
from typing import Final, cast

import uvloop
from typing_extensions import override

from benchmarks.load import CALL, FIRST_ID, INITIALIZE, SESSION, Connection

AT_ONCE: Final = 50
HEAD: Final = b"host: 127.0.0.1:80\r\naccept: application/json, text/event-stream\r\n"
FIRST_BYTES_SECONDS: Final = 60.0


class Listener(asyncio.Protocol):
    """One stream; what comes is thrown away."""

    def __init__(self, request: bytes) -> None:
        self._request = request
        self.begun = asyncio.get_running_loop().create_future()
        self.open = True

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).write(self._request)

    @override
    def data_received(self, data: bytes) -> None:
        if not self.begun.done():
            self.begun.set_result(data[:12] == b"HTTP/1.1 200")

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.open = False
        if not self.begun.done():
            self.begun.set_result(False)


class Clients:
    """Sessions with a stream each."""

    def __init__(self, port: int, count: int) -> None:
        self._port = port
        self._count = count
        self._sessions: list[bytes] = []
        self._listeners: list[Listener] = []

    async def sessions(self) -> str:
        """Open the sessions, as clients do."""
        await asyncio.gather(*(self._open(self._count // AT_ONCE) for _ in range(AT_ONCE)))
        return str(len(self._sessions))

    async def streams(self) -> str:
        """Open a stream for each session, or as many without one."""
        left = list(self._sessions) or [b""] * self._count

        async def work() -> None:
            while left:
                await self._listen(left.pop())

        await asyncio.gather(*(work() for _ in range(AT_ONCE)))
        return await self.count()

    async def count(self) -> str:
        """How many streams are open."""
        return str(sum(listener.open for listener in self._listeners))

    async def _open(self, count: int) -> None:
        loop = asyncio.get_running_loop()
        transport, connection = await loop.create_connection(Connection, "127.0.0.1", self._port)
        message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE}
        initialize, done = json.dumps(message), '{"jsonrpc":"2.0","method":"notifications/initialized"}'
        for _ in range(count):
            found = SESSION.search(await connection.send(_post(initialize.encode(), b"")))
            if found is None:
                raise RuntimeError("no session was opened")
            await connection.send(_post(done.encode(), found[1]))
            await connection.send(_post(CALL % FIRST_ID, found[1]))
            self._sessions.append(found[1])
        transport.close()

    async def _listen(self, session: bytes) -> None:
        request = b"GET /mcp HTTP/1.1\r\n" + HEAD + _session(session) + b"\r\n"
        loop = asyncio.get_running_loop()
        _, listener = await loop.create_connection(lambda: Listener(request), "127.0.0.1", self._port)
        if not await asyncio.wait_for(listener.begun, FIRST_BYTES_SECONDS):
            raise RuntimeError("a stream was refused")
        self._listeners.append(listener)


def _post(body: bytes, session: bytes) -> bytes:
    fixed = b"POST /mcp HTTP/1.1\r\ncontent-type: application/json\r\ncontent-length: %d\r\n" % len(body)
    return fixed + HEAD + _session(session) + b"\r\n" + body


def _session(session: bytes) -> bytes:
    return b"mcp-session-id: %b\r\nmcp-protocol-version: 2025-11-25\r\n" % session if session else b""


async def main() -> None:
    """Do what is asked."""
    clients = Clients(int(sys.argv[1]), int(sys.argv[2]))
    steps = {"sessions": clients.sessions, "streams": clients.streams, "count": clients.count}
    loop = asyncio.get_running_loop()
    while asked := (await loop.run_in_executor(None, sys.stdin.readline)).strip():
        print(await steps[asked](), flush=True)


if __name__ == "__main__":
    uvloop.run(main())

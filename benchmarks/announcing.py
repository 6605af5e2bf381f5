"""One message at a time from one replica to another, and how long each took, in a process of its own.

`python -m benchmarks.announcing URL COUNT PORT_A PORT_B` prints one JSON object. Two backends of this
process are the two replicas, so one clock measures; over HTTP they are the servers on the two ports.
"""

import asyncio
import gc
import json
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Final

import uvloop

from benchmarks.load import END_OF_CHUNKS, INITIALIZE, LENGTH, SESSION
from benchmarks.material import message, open_sessions
from holdfast.backends import open_store
from holdfast.sessions.hub import Hub
from holdfast.sessions.protocols import Backend
from holdfast.sessions.relay import Relay
from holdfast.sessions.tail import Tail
from holdfast.sessions.types import STANDALONE, SessionId, StreamState

BARE: Final = "bare publish to deliver"
INLINE: Final = "append to event, 335 bytes: with the announcement"
READ: Final = "append to event, 8 kB: read after the announcement"
POSTED: Final = "POST on A to event on B's stream, over HTTP"
ECHOED: Final = "POST to its own answer, over HTTP"
WARM_UP: Final = 50
CHANGED: Final = b"notifications/tools/list_changed"


class Arrivals:
    """When the next message arrived."""

    def __init__(self) -> None:
        self._next: asyncio.Future[float] = asyncio.get_running_loop().create_future()

    def note(self, _: object = None) -> None:
        """One arrives now."""
        if not self._next.done():
            self._next.set_result(time.perf_counter())

    async def after(self, send: Callable[[], Awaitable[object]]) -> float:
        """Send, and return the seconds until the arrival."""
        self._next = asyncio.get_running_loop().create_future()
        began = time.perf_counter()
        await send()
        return await asyncio.wait_for(self._next, 10) - began


async def follow(backend: Backend, session: SessionId, arrivals: Arrivals, ready: asyncio.Event) -> None:
    """Read the standalone stream as the edge does."""
    reader = Hub().open(session, STANDALONE, "t")

    async def nobody_died(_state: StreamState, _epoch: str) -> bool:
        return False

    async with backend.log.watch(session, reader.hear) as top:
        tail = Tail(backend.log, reader, top, end_orphan=nobody_died, replica=backend.replica)
        while True:
            ready.set()
            for _ in await tail.next():
                arrivals.note()


class Http:
    """One keep-alive connection to a server, one request at a time."""

    def __init__(self, port: int) -> None:
        self._port = port

    async def open(self) -> "Http":
        """Connect."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        return self

    def send(self, method: str, session: str | None = None, body: object = None) -> None:
        """Write a request."""
        content = b"" if body is None else json.dumps(body).encode()
        lines = [
            f"{method} /mcp HTTP/1.1",
            f"host: 127.0.0.1:{self._port}",
            "accept: application/json, text/event-stream",
            "content-type: application/json",
            f"content-length: {len(content)}",
            *([f"mcp-session-id: {session}", "mcp-protocol-version: 2025-11-25"] if session else []),
        ]
        self._writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + content)

    async def answer(self) -> bytes:
        """Read a response, and return its head."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        length = LENGTH.search(head)
        if length is not None:
            await self._reader.readexactly(int(length[1]))
        else:
            await self._reader.readuntil(END_OF_CHUNKS)
        if not head.startswith(b"HTTP/1.1 20"):
            raise ValueError(head.decode("latin-1"))
        return head

    async def until(self, text: bytes) -> None:
        """Read up to `text`."""
        await self._reader.readuntil(text)

    def close(self) -> None:
        """Hang up."""
        self._writer.close()


async def handshake(port: int) -> tuple[Http, str]:
    """A connection, and a session that was opened on it."""
    http = await Http(port).open()
    http.send("POST", None, {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": INITIALIZE})
    found = SESSION.search(await http.answer())
    if found is None:
        raise ValueError("the server opened no session")
    session = found[1].decode()
    http.send("POST", session, {"jsonrpc": "2.0", "method": "notifications/initialized"})
    await http.answer()
    return http, session


async def listen(http: Http, arrivals: Arrivals) -> None:
    """Read notifications on the standalone stream."""
    while True:
        await http.until(CHANGED)
        arrivals.note()


async def measure(url: str, count: int, ports: list[int]) -> dict[str, list[float]]:
    """Seconds of each message, by case; the cases take turns."""
    took: dict[str, list[float]] = {name: [] for name in (BARE, INLINE, READ, POSTED, ECHOED)}
    bare, inline, read, posted = (Arrivals() for _ in range(4))
    async with open_store(url) as a, open_store(url) as b, b.bus.subscribe("bench", bare.note):
        small, big = await open_sessions(a, 2)
        relay = Relay(a, Hub())
        http, session = await handshake(ports[0])
        stream = await Http(ports[1]).open()
        stream.send("GET", session)
        await stream.until(b"data:")
        ready = [asyncio.Event(), asyncio.Event()]
        tasks = [
            asyncio.create_task(follow(b, small, inline, ready[0])),
            asyncio.create_task(follow(b, big, read, ready[1])),
            asyncio.create_task(listen(stream, posted)),
        ]
        await asyncio.gather(*(one.wait() for one in ready))
        payload, bulk = message(), message() * 25

        async def post(tool: str) -> None:
            params = {"name": tool}
            http.send("POST", session, {"jsonrpc": "2.0", "id": 7, "method": "tools/call", "params": params})

        for number in range(WARM_UP + count):
            if number == WARM_UP:
                for one in took.values():
                    one.clear()
                gc.collect()
                gc.freeze()
            took[BARE].append(await bare.after(lambda: a.bus.publish("bench", payload)))
            took[INLINE].append(await inline.after(lambda: relay.send_standalone(small, payload)))
            took[READ].append(await read.after(lambda: relay.send_standalone(big, bulk)))
            took[POSTED].append(await posted.after(lambda: post("announce")))
            await http.answer()
            began = time.perf_counter()
            await post("echo")
            await http.answer()
            took[ECHOED].append(time.perf_counter() - began)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        http.close()
        stream.close()
    return took


async def main() -> None:
    """Measure, and print medians and tails."""
    url, count, *ports = sys.argv[1:]
    figures: dict[str, float] = {}
    for what, took in (await measure(url, int(count), [int(port) for port in ports])).items():
        took.sort()
        figures[f"{what} p50 ms"] = round(took[len(took) // 2] * 1000, 4)
        figures[f"{what} p99 ms"] = round(took[len(took) * 99 // 100] * 1000, 4)
    print(json.dumps(figures))


if __name__ == "__main__":
    uvloop.run(main())

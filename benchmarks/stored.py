"""Bytes that one event of 335 bytes takes in Redis: all that is stored, divided by the events."""

import asyncio
import subprocess
from collections.abc import Callable, Iterable
from typing import cast

from benchmarks import peers
from benchmarks.line import ERROR, Bench, Goal, Line, Medians, Row
from benchmarks.material import message, open_sessions
from holdfast.backends import open_store
from holdfast.sessions.protocols import Backend
from holdfast.sessions.types import AppendKey, SessionId, StreamId
from tests.servers import Flavour, RunningServer, start_server

EVENTS = 10_000
A_SESSION = (100, 1_000)
APPEND_SECONDS = 120.0
OURS, PERSIST = "Holdfast", "mcp-persist"
FLAVOURS: tuple[Flavour, ...] = ("redis", "valkey")
# What the server uses for itself and for its connections.
APART = ("clients.normal", "clients.slaves", "lua.caches", "functions.caches")


def measure(bench: Bench) -> Iterable[Row]:
    """Once each: memory does not depend on the machine's mood."""
    del bench
    for flavour in FLAVOURS:
        with start_server(flavour) as server:
            for events in A_SESSION:
                for what, fill in ((OURS, ours), (PERSIST, theirs)):
                    row: Row = {"store": flavour.title(), "events a session": events, "what": what}
                    try:
                        yield {**row, **taken(server, events, fill)}
                    except (peers.PeerMissingError, subprocess.SubprocessError) as error:
                        yield {**row, ERROR: f"{error}"[:300]}


def taken(server: RunningServer, events: int, fill: Callable[[RunningServer, int, int], None]) -> Row:
    """What `fill` leaves behind in an empty server that has done all of this before."""
    fill(server, 2, events)
    server.cli("FLUSHALL", "SYNC")
    before = used(server)
    fill(server, EVENTS // events, events)
    grown = used(server) - before
    keys = cast("list[bytes]", server.cli("KEYS", "*"))  # a server of our own: nobody else waits for it
    usage = server.pipeline([("MEMORY", "USAGE", key, "SAMPLES", 0) for key in keys])
    return {"bytes": grown / EVENTS, "MEMORY USAGE": sum(cast("list[int]", usage)) / EVENTS}


def used(server: RunningServer) -> int:
    """The memory that data takes."""
    stats = cast("list[bytes | int]", server.cli("MEMORY", "STATS"))
    found = dict(zip(stats[::2], stats[1::2], strict=True))
    total, *apart = (cast("int", found.get(name.encode(), 0)) for name in ("total.allocated", *APART))
    return total - sum(apart)


def ours(server: RunningServer, sessions: int, events: int) -> None:
    """Sessions, and on the stream of a request in each so many notifications."""
    stream, payload = StreamId("5Zc8Wd1Q"), message()

    async def append(backend: Backend, session: SessionId) -> None:
        await backend.log.open_stream(session, stream, 7)
        for number in range(events):
            key = AppendKey(backend.replica, number + 1)
            await backend.log.append(session, stream, payload, key=key)

    async def fill() -> None:
        async with open_store(server.url) as backend:
            opened = await open_sessions(backend, sessions)
            await asyncio.gather(*(append(backend, session) for session in opened))

    asyncio.run(fill())


def theirs(server: RunningServer, sessions: int, events: int) -> None:
    """The same notifications in mcp-persist's store, without what it keeps of a session itself."""
    script = peers.HERE / "mcp_persist" / "append.py"
    arguments = [server.url, str(sessions), "0", str(events)]
    subprocess.run(
        [peers.mcp_persist(), script, *arguments], check=True, capture_output=True, timeout=APPEND_SECONDS
    )


def goals(medians: Medians) -> Iterable[Goal]:
    """DESIGN 9."""
    for store in ("Redis", "Valkey"):
        reached = medians.get("bytes", **{"store": store, "events a session": 1_000, "what": OURS})
        yield Goal(f"bytes per event, {store}, 1,000 events", 400, reached, at_least=False)


LINE = Line(
    name="stored",
    keys=("store", "events a session", "what"),
    figures={"bytes": 0, "MEMORY USAGE": 0},
    measure=measure,
    goals=goals,
)

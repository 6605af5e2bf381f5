"""A client that comes back and has missed 1,000 events: how long it takes, and how many round trips."""

import asyncio
import http.client
import json
import re
import tempfile
import time
from collections.abc import Iterable, Mapping
from contextlib import ExitStack, closing
from typing import Final, cast

from benchmarks.call import ours
from benchmarks.line import Bench, Cell, Goal, Line, Medians, Row
from benchmarks.load import INITIALIZE
from benchmarks.material import message
from benchmarks.processes import Serving, serving
from holdfast.backends import open_store
from holdfast.sessions.tail import PAGE_EVENTS
from holdfast.sessions.types import STANDALONE, AppendKey, SessionId
from tests.servers import RunningServer, start_server

MISSED: Final = 1_000
TIMES: Final = 5
PATIENCE_SECONDS: Final = 20.0
HEADERS: Final = {"accept": "application/json, text/event-stream", "content-type": "application/json"}
OVER_HTTP, READS = "GET with Last-Event-ID", "reading the log"


def measure(bench: Bench) -> Iterable[Row]:
    """Each store in turn."""
    with ExitStack() as stack:
        redis = stack.enter_context(start_server("redis"))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-bench-"))
        stores = {"Redis": redis.url, "SQLite": f"sqlite://{folder}/sessions.db"}
        replicas = {
            name: stack.enter_context(serving(ours(name, url).command)) for name, url in stores.items()
        }
        for name in bench.interleave(list(stores)):
            for _ in range(TIMES):
                server = redis if name == "Redis" else None
                yield from resume(name, stores[name], replicas[name], server)


def resume(name: str, url: str, replica: Serving, redis: RunningServer | None) -> Iterable[Row]:
    """A new session, whose client leaves before 1,000 events and then comes back."""
    session = initialize(replica.port)
    last_event_id = first_event_id(replica.port, session)
    reading = asyncio.run(miss(url, session, redis))
    yield {"store": name, "what": READS, **reading}
    before = round_trips(redis)
    began = time.perf_counter()
    received = read(replica.port, session, last_event_id)
    took = time.perf_counter() - began
    figures: dict[str, Cell] = {"ms": took * 1000, "bytes": received}
    if redis is not None:
        figures["round trips"] = round_trips(redis) - before
    yield {"store": name, "what": OVER_HTTP, **figures}


def initialize(port: int) -> str:
    """The id of a new session."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)) as connection:
        first = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": INITIALIZE}
        connection.request("POST", "/mcp", json.dumps(first), HEADERS)
        answer = connection.getresponse()
        answer.read()
        session = answer.headers["mcp-session-id"]
        second = '{"jsonrpc":"2.0","method":"notifications/initialized"}'
        connection.request("POST", "/mcp", second, {**HEADERS, "mcp-session-id": session})
        connection.getresponse().read()
        return session


def get(connection: http.client.HTTPConnection, session: str, **headers: str) -> http.client.HTTPResponse:
    """The standalone stream."""
    about = {"mcp-session-id": session, "mcp-protocol-version": "2025-11-25", **headers}
    connection.request("GET", "/mcp", headers={"accept": "text/event-stream", **about})
    answer = connection.getresponse()
    if answer.status != http.client.OK:
        raise RuntimeError(f"GET: {answer.status} {answer.read(300)!r}")
    return answer


def first_event_id(port: int, session: str) -> str:
    """Where a stream starts: what it sends before anything has happened."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)) as connection:
        answer = get(connection, session)
        while not (found := re.match(rb"id: (\S+)", answer.readline())):
            pass
        return found[1].decode()


def read(port: int, session: str, last_event_id: str) -> int:
    """Read everything that was missed; how many bytes that is."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)) as connection:
        answer = get(connection, session, **{"last-event-id": last_event_id})
        received = bytearray()
        while received.count(b'"data":"x') < MISSED:
            received += answer.read1()
        return len(received)


async def miss(url: str, session: str, redis: RunningServer | None) -> Mapping[str, Cell]:
    """Append from another replica, and read it all from the log there, as a resumed stream does."""
    payload = message()
    async with open_store(url, max_events=MISSED + 100) as backend:
        (there,) = await backend.log.renew([SessionId(session)])
        if there is None:
            raise RuntimeError("the session is gone")
        for number in range(MISSED):
            key = AppendKey(backend.replica, number + 1)
            await backend.log.append(SessionId(session), STANDALONE, payload, key=key)
        before = round_trips(redis)
        began, cursor, complete, received, reads = time.perf_counter(), there.top, False, 0, 0
        while not complete:
            page = await backend.log.read(SessionId(session), STANDALONE, after=cursor, limit=PAGE_EVENTS)
            cursor, complete, reads = page.cursor, page.complete, reads + 1
            received += sum(len(event.payload) for event in page.events)
        took = time.perf_counter() - began
    trips = {"round trips": round_trips(redis) - before} if redis is not None else {}
    return {"ms": took * 1000, "bytes": received, **trips}


def round_trips(redis: RunningServer | None) -> int:
    """How many scripts the server has run: all that our side sends for a session are scripts."""
    if redis is None:
        return 0
    found = re.search(rb"cmdstat_evalsha:calls=(\d+)", cast("bytes", redis.cli("INFO", "commandstats")))
    return int(found[1]) if found else 0


def goals(medians: Medians) -> Iterable[Goal]:
    """DESIGN 9."""
    for what in (READS, OVER_HTTP):
        trips = medians.get("round trips", store="Redis", what=what)
        yield Goal(f"round trips to Redis, {what}", 2, trips, at_least=False)


LINE = Line(
    name="resume",
    keys=("store", "what"),
    figures={"ms": 1, "round trips": 0, "bytes": 0},
    measure=measure,
    goals=goals,
)

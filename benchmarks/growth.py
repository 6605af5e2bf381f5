"""What one operation costs with more and more sessions in the store, and with keys of others in Redis."""

import gc
import json
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Final, cast

import uvloop

from benchmarks.line import ERROR, Bench, Goal, Line, Medians, Row
from benchmarks.material import message, open_sessions
from holdfast.backends import open_store
from holdfast.sessions.protocols import Backend
from holdfast.sessions.types import STANDALONE, AppendKey, Position, SessionId
from tests.servers import RunningServer, start_server

STORES: Final = ("memory", "SQLite", "Redis")
SIZES: Final = (100, 10_000, 100_000)
QUICK_SIZES: Final = (100, 1_000, 10_000)
FOREIGN: Final = 1_000_000
BATCH: Final = 50
BOUND_SECONDS: Final = 240.0
IN_USE: Final = 100
OPERATIONS: Final = ("find µs", "append µs", "read µs")
FLAT: Final = 2.0
COLD: Final = "find any µs"


@dataclass
class Filled:
    """A store with so many sessions and keys of others, and how long each operation took there."""

    sessions: int
    foreign: int
    backend: Backend
    ids: Sequence[SessionId] = ()
    in_use: Sequence[SessionId] = ()
    took: dict[str, list[float]] = field(default_factory=dict[str, list[float]])
    appended: int = 0

    async def measure(self) -> None:
        """A few of each operation, one after the other, on sessions in use; and finding just any session."""
        backend, payload, some = self.backend, message(), random.sample(self.in_use, BATCH)
        for session in random.sample(self.ids, BATCH):
            await self._time(COLD, backend.sessions.find(session, owner=None, with_facts=False))
        for session in some:
            await self._time("find µs", backend.sessions.find(session, owner=None, with_facts=False))
        for session in some:
            self.appended += 1
            key = AppendKey(backend.replica, self.appended)
            await self._time("append µs", backend.log.append(session, STANDALONE, payload, key=key))
        for session in some:
            (there,) = await backend.log.renew([session])
            if there is None:
                raise RuntimeError("a session is gone")
            after = Position(there.top.epoch, there.top.offset - 1)
            await self._time("read µs", backend.log.read(session, STANDALONE, after=after, limit=500))

    async def _time(self, name: str, work: Awaitable[object]) -> None:
        began = time.perf_counter()
        await work
        self.took.setdefault(name, []).append(time.perf_counter() - began)


def redis(stack: AsyncExitStack, *, like: RunningServer | None = None) -> RunningServer:
    """A server that runs until the end, empty or with all that another one has."""
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-bench-")))
    if like is not None:
        like.cli("SAVE")
        shutil.copy(like.directory / "dump.rdb", folder)
    extra = ["--enable-debug-command", "yes"]
    return stack.enter_context(start_server("redis", extra=extra, directory=folder))


@asynccontextmanager
async def filled(store: str, sizes: Sequence[int], foreign: int) -> AsyncGenerator[Sequence[Filled]]:
    """All stores of one kind, each as full as it shall be."""
    async with AsyncExitStack() as stack:
        stores: list[Filled] = []

        async def add(url: str, sessions: int, keys: int = 0, ids: Sequence[SessionId] = ()) -> None:
            backend = await stack.enter_async_context(open_store(url))
            ids = ids or await open_sessions(backend, sessions)
            stores.append(Filled(sessions, keys, backend, ids, random.sample(ids, IN_USE)))
            print(f"{store}: {sessions:,} sessions, {keys:,} keys of others", file=sys.stderr, flush=True)

        if store == "Redis":
            servers = [redis(stack) for _ in sizes]
            for server, sessions in zip(servers, sizes, strict=True):
                await add(server.url, sessions)
            last = redis(stack, like=servers[-1])
            last.cli("DEBUG", "POPULATE", foreign, "somebody-else", 32)
            await add(last.url, sizes[-1], foreign, stores[-1].ids)
        else:
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-bench-"))
            for sessions in sizes:
                await add(f"sqlite://{folder}/{sessions}.db" if store == "SQLite" else "memory://", sessions)
        yield stores


async def compare(store: str, rounds: int, sizes: Sequence[int]) -> Sequence[Row]:
    """The stores of one kind in turns, so that all see the same machine."""
    async with filled(store, sizes, FOREIGN if sizes is SIZES else FOREIGN // 10) as stores:
        gc.collect()
        gc.freeze()
        for turn in range(rounds + 1):
            for one in stores:
                await one.measure()
                if turn == 0:  # warm now
                    one.took = {}
        return [
            {
                "store": store,
                "sessions": one.sessions,
                "foreign keys": one.foreign,
                **{name: median(took) * 1e6 for name, took in one.took.items()},
            }
            for one in stores
        ]


def measure(bench: Bench) -> Iterable[Row]:
    """Each kind of store in a process of its own, which ends with all that is in it."""
    for store in STORES:
        command = [sys.executable, "-m", "benchmarks.growth", store, "quick" if bench.quick else "full"]
        done = subprocess.run(command, stdout=subprocess.PIPE, timeout=BOUND_SECONDS, check=False, text=True)
        if done.returncode != 0:
            yield {"store": store, "sessions": 0, "foreign keys": 0, ERROR: f"ended with {done.returncode}"}
            continue
        yield from cast("Sequence[Row]", json.loads(done.stdout))


def goals(medians: Medians) -> Iterable[Goal]:
    """DESIGN 9: flat from 100 to 100,000 sessions, but for what a processor's caches do not hold any more."""
    smallest = min((int(row["sessions"]) for row in medians.rows), default=0)
    for store in STORES:
        rows = [row for row in medians.rows if row["store"] == store]
        for name in OPERATIONS:
            small = [float(row[name]) for row in rows if row["sessions"] == smallest]
            others = [float(row[name]) for row in rows if row["sessions"] != smallest]
            grown = max(others) / small[0] if small and others else None
            what = f"{name.removesuffix(' µs')}, {store}: the most, as a multiple of that with {smallest}"
            yield Goal(f"{what} sessions", FLAT, grown, at_least=False)


LINE = Line(
    name="growth",
    keys=("store", "sessions", "foreign keys"),
    figures=dict.fromkeys((*OPERATIONS, COLD), 0),
    measure=measure,
    goals=goals,
)


if __name__ == "__main__":
    full = sys.argv[2] == "full"
    rows = uvloop.run(compare(sys.argv[1], 20 if full else 5, SIZES if full else QUICK_SIZES))
    print(json.dumps(rows))

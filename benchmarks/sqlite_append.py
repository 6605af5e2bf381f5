"""Appends to SQLite: 64 writers against a bare loop of inserts, and to random ones of very many sessions.

Both commit what 64 writers brought in one transaction, with the same settings and without a wait for the disk
(`synchronous=normal`). The bare loop has no writers, no sessions, no order, no wake-ups, and one thread.
`bare, awaited` has 64 tasks that each wait until a thread has committed their row.
"""

import asyncio
import json
import random
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from secrets import token_hex
from typing import Final

from benchmarks.line import Bench, Goal, Line, Medians, Row
from holdfast.backends.sqlite import SqliteBackend
from holdfast.sessions.types import STANDALONE, AppendKey, SessionFacts, SessionId

WRITERS: Final = 64
PAYLOAD: Final = b"x" * 335
SIZES: Final = (100, 10_000, 100_000)
BARE, AWAITED, OURS = "bare loop", "bare, awaited", "Holdfast"

_INSERT: Final = "INSERT INTO log (session, counter, payload) VALUES (?, ?, ?)"
Table: Final = "CREATE TABLE log (id INTEGER PRIMARY KEY, session INTEGER, counter INTEGER, payload BLOB)"


def bare_file(path: Path) -> sqlite3.Connection:
    """A file with the settings of ours and one table."""
    file = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    for statement in ("PRAGMA journal_mode = WAL", "PRAGMA synchronous = normal", Table):
        file.execute(statement)
    return file


def commit(file: sqlite3.Connection, rows: Sequence[tuple[int, int, bytes]]) -> None:
    """All rows in one transaction."""
    file.execute("BEGIN IMMEDIATE")
    file.executemany(_INSERT, rows)
    file.execute("COMMIT")


def bare_loop(path: Path, number: int) -> float:
    """Rows a second."""
    with closing(bare_file(path)) as file:
        began = time.perf_counter()
        for counter in range(number // WRITERS):
            commit(file, [(writer, counter, PAYLOAD) for writer in range(WRITERS)])
        return number / (time.perf_counter() - began)


class Committer:
    """A thread that commits all rows that wait, and tells those who brought them."""

    def __init__(self, file: sqlite3.Connection) -> None:
        self._file = file
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[tuple[int, int, bytes], asyncio.Future[None]]] = deque()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._thread.start()

    def insert(self, row: tuple[int, int, bytes]) -> asyncio.Future[None]:
        """Done when the row is committed."""
        future = self._loop.create_future()
        self._waiting.append((row, future))
        self._wake.set()
        return future

    def _work(self) -> None:
        while True:
            self._wake.wait()
            self._wake.clear()
            batch = [self._waiting.popleft() for _ in range(len(self._waiting))]
            if batch:
                commit(self._file, [row for row, _ in batch])
                self._loop.call_soon_threadsafe(self._tell, [future for _, future in batch])

    @staticmethod
    def _tell(futures: Sequence[asyncio.Future[None]]) -> None:
        for future in futures:
            future.set_result(None)


async def awaited(path: Path, number: int) -> float:
    """Rows a second."""
    committer = Committer(bare_file(path))

    async def write(writer: int) -> None:
        for counter in range(number // WRITERS):
            await committer.insert((writer, counter, PAYLOAD))

    return await timed(write, number)


async def ours(path: Path, number: int) -> float:
    """Appends a second: each writer has a session of its own."""
    async with SqliteBackend(path) as backend:
        sessions = await opened(backend, WRITERS)

        async def write(writer: int) -> None:
            session, name = sessions[writer], f"writer{writer}"
            for counter in range(number // WRITERS):
                await backend.log.append(session, STANDALONE, PAYLOAD, key=AppendKey(name, counter + 1))

        return await timed(write, number)


async def to_random(path: Path, number: int, size: int) -> float:
    """Appends a second, each to any one of `size` sessions."""
    chance = random.Random(size)
    async with SqliteBackend(path) as backend:
        sessions = await opened(backend, size)

        async def write(writer: int) -> None:
            for counter in range(number // WRITERS):
                session, key = chance.choice(sessions), AppendKey(f"writer{writer}", counter + 1)
                await backend.log.append(session, STANDALONE, PAYLOAD, key=key)

        return await timed(write, number)


async def opened(backend: SqliteBackend, number: int) -> list[SessionId]:
    """So many sessions, each with one event."""
    sessions = [SessionId(token_hex(16)) for _ in range(number)]

    async def some(first: int) -> None:
        for session in sessions[first::WRITERS]:
            await backend.sessions.open(SessionFacts(session, None, "2025-11-25", b"{}", 3600.0), limit=None)
            await backend.log.append(session, STANDALONE, PAYLOAD)

    await asyncio.gather(*map(some, range(WRITERS)))
    return sessions


async def timed(write: Callable[[int], Coroutine[object, object, None]], number: int) -> float:
    """Runs all writers; how many a second were written."""
    began = time.perf_counter()
    await asyncio.gather(*(write(writer) for writer in range(WRITERS)))
    return number / (time.perf_counter() - began)


def in_a_process(*arguments: object) -> float:
    """One measurement in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.sqlite_append", *map(str, arguments)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)
    figure: float = json.loads(done.stdout)
    return figure


def writers(bench: Bench) -> Iterable[Row]:
    """64 writers, one session each, with idempotency keys."""
    number = 16_000 if bench.quick else 64_000
    for name in bench.interleave((BARE, AWAITED, OURS)):
        rate = in_a_process(name, number)
        yield {"appends": name, "a second": rate, "us each": 1e6 / rate}


def growth(bench: Bench) -> Iterable[Row]:
    """Random sessions."""
    number = 16_000 if bench.quick else 64_000
    for size in bench.interleave(SIZES[: 2 if bench.quick else 3]):
        rate = in_a_process("random", number, size)
        yield {"sessions": size, "a second": rate, "us each": 1e6 / rate}


def writers_goals(medians: Medians) -> Iterable[Goal]:
    """What issue 4 asks."""
    for peer in (BARE, AWAITED):
        reached = medians.ratio("a second", {"appends": OURS}, {"appends": peer})
        yield Goal(f"SQLite: append with 64 writers / {peer}", 0.4, reached)


def growth_goals(medians: Medians) -> Iterable[Goal]:
    """Flat."""
    reached = medians.ratio("us each", {"sessions": SIZES[-1]}, {"sessions": SIZES[0]})
    yield Goal("SQLite: an append at 100,000 sessions / at 100", 2.0, reached, at_least=False)


FIGURES: Final[Mapping[str, int]] = {"a second": 0, "us each": 1}
APPEND = Line("sqlite-append", ("appends",), FIGURES, writers, goals=writers_goals)
GROWTH = Line("sqlite-growth", ("sessions",), FIGURES, growth, goals=growth_goals)


def main(name: str, number: int, size: int = 0) -> None:
    """Measure one case and print it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.db"
        match name:
            case "bare loop":
                print(json.dumps(bare_loop(path, number)))
            case "bare, awaited":
                print(json.dumps(asyncio.run(awaited(path, number))))
            case "random":
                print(json.dumps(asyncio.run(to_random(path, number, size))))
            case _:
                print(json.dumps(asyncio.run(ours(path, number))))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))

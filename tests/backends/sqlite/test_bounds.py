"""The file stays small: what has run out is removed, the write-ahead log is bounded, space is given back."""

from __future__ import annotations

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import anyio

from holdfast.backends.sqlite import SqliteBackend, SqliteOptions
from holdfast.sessions.types import STANDALONE
from holdfast.testing.conformance.harness import new_facts, new_session, new_stream
from tests.backends.sqlite.conftest import Sql, until

TABLES = ("sessions", "heads", "log", "streams", "asked", "tombstones", "subscriptions", "replicas")
ROWS = "SELECT " + " + ".join(f"(SELECT count(*) FROM {table})" for table in TABLES)  # noqa: S608 - of ours


def size(path: Path) -> int:
    return path.stat().st_size


class Clock:
    def __init__(self) -> None:
        self.skipped = 0.0

    def __call__(self) -> float:
        return time.time() + self.skipped


async def test_everything_ends_with_its_session(path: Path, sql: Sql) -> None:
    clock = Clock()
    async with SqliteBackend(
        path, clock=clock, options=SqliteOptions(max_events=20, tidy_seconds=0.1)
    ) as backend:
        for number in range(30):
            session = await new_session(backend, ttl_seconds=60)
            stream = await new_stream(backend, session)
            for _ in range(25):
                await backend.log.append(session, stream, b"x", expects="q")
            await backend.inbox.expect(session, "r")
            await backend.subscriptions.add(session, "uri", ttl_seconds=60)
            if number % 2:
                await backend.sessions.close(session)
        await backend.replicas.beat(6)
        clock.skipped = 100
        await until(lambda: sql(ROWS) == [(0,)])
        assert await backend.sessions.count() == 0
        assert sql("SELECT sessions FROM file") == [(0,)]


async def test_the_write_ahead_log_is_bounded_under_load(path: Path) -> None:
    bound = 400_000
    async with SqliteBackend(path, options=SqliteOptions(checkpoint_bytes=bound)) as backend:
        session = await new_session(backend)

        async def write() -> None:
            for _ in range(60):
                await backend.log.append(session, STANDALONE, b"x" * 1000)

        log = path.with_name(f"{path.name}-wal")
        longest = 0
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(write)
            for _ in range(200):
                longest = max(longest, size(log))
                await anyio.lowlevel.checkpoint()
        assert longest < 4 * bound


async def test_a_snapshot_that_is_held_makes_the_log_grow_no_longer_than_that(
    path: Path,
) -> None:
    """Another program, such as a backup: nothing that was written after it looked can be copied meanwhile."""
    bound = 200_000
    wal = path.with_name(f"{path.name}-wal")
    async with SqliteBackend(path, options=SqliteOptions(checkpoint_bytes=bound, max_events=50)) as backend:
        session = await new_session(backend)
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN")
            other.execute("SELECT * FROM sessions").fetchall()
            for _ in range(300):
                await backend.log.append(session, STANDALONE, b"x" * 3000)
            assert size(wal) > 3 * bound
        with anyio.fail_after(20):
            while size(wal) > 2 * bound:
                await backend.log.append(session, STANDALONE, b"x" * 3000)
        assert size(path) < 1_000_000


async def test_a_writer_that_never_rests_keeps_file_and_log_bounded(path: Path) -> None:
    """Full logs, sessions that come and go, and no idle moment: as much as is kept, and a few checkpoints."""
    options = SqliteOptions(checkpoint_bytes=200_000, max_events=40, tidy_seconds=0.05)
    wal = path.with_name(f"{path.name}-wal")
    async with SqliteBackend(path, options=options) as backend:
        largest = 0
        for _ in range(40):
            sessions = [await new_session(backend) for _ in range(4)]
            async with anyio.create_task_group() as tasks:
                for session in sessions * 60:
                    tasks.start_soon(backend.log.append, session, STANDALONE, b"x" * 1000)
            for session in sessions:
                await backend.sessions.close(session)
            largest = max(largest, size(path) + size(wal))
        # 4 sessions of 40 events are 160 kB; 9,600 events went through.
        assert largest < 3_000_000


async def test_looking_sessions_up_holds_no_snapshot(path: Path, sql: Sql) -> None:
    """One that stayed open would keep the write-ahead log from being used again."""
    async with SqliteBackend(path, options=SqliteOptions(tidy_seconds=60)) as backend:
        session = await new_session(backend)
        for _ in range(3):  # the first one in the reader's thread, the others in the event loop
            assert await backend.sessions.find(session, owner=None, with_facts=True)
        await backend.log.append(session, STANDALONE, b"x")
        busy, pages, copied = sql("PRAGMA wal_checkpoint(RESTART)")[0]
        assert (busy, pages) == (0, copied)


async def test_a_full_log_costs_no_more_room(path: Path) -> None:
    async with SqliteBackend(path, options=SqliteOptions(max_events=100)) as backend:
        session = await new_session(backend)
        sizes: list[int] = []
        for _ in range(10):
            async with anyio.create_task_group() as tasks:
                for _ in range(300):
                    tasks.start_soon(backend.log.append, session, STANDALONE, b"x" * 500)
            sizes.append(size(path))
        assert sizes[-1] <= max(sizes[:3]) + 400_000


async def test_space_is_given_back(path: Path, sql: Sql) -> None:
    async with SqliteBackend(path, options=SqliteOptions(tidy_seconds=0.1)) as backend:
        sessions = [await new_session(backend) for _ in range(4)]
        for session in sessions:
            async with anyio.create_task_group() as tasks:
                for _ in range(900):
                    tasks.start_soon(backend.log.append, session, STANDALONE, b"x" * 3000)
        (before,) = sql("PRAGMA page_count")[0]
        for session in sessions:
            await backend.sessions.close(session)
        await until(lambda: sql("PRAGMA page_count")[0][0] <= before // 2)
        assert sql("PRAGMA integrity_check") == [("ok",)]


async def test_the_limit_of_sessions_counts_what_is_there(path: Path) -> None:
    clock = Clock()
    async with SqliteBackend(path, clock=clock) as backend:
        for _ in range(50):
            await backend.sessions.open(new_facts(ttl_seconds=10), limit=50)
        clock.skipped = 20
        for _ in range(50):
            await backend.sessions.open(new_facts(ttl_seconds=10), limit=50)
        assert await backend.sessions.count() == 50

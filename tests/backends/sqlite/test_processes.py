"""Several processes on one file: one dense order, wake-ups, and no work while nothing happens."""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Literal

import anyio
import pytest

from holdfast.backends.sqlite import SqliteBackend, SqliteOptions
from holdfast.sessions.types import STANDALONE
from holdfast.testing.conformance import Heard
from holdfast.testing.conformance.harness import new_session, start_of, top_of
from tests.backends.sqlite.conftest import Sql, until
from tests.backends.sqlite.processes import Process

HINTS = pytest.mark.parametrize("hints", ["auto", "poll"])


async def test_appends_of_three_processes_make_one_dense_order(path: Path) -> None:
    async with SqliteBackend(path) as backend:
        session = await new_session(backend)
        with Process(path) as one, Process(path) as other:
            for number in range(200):
                one.send("append", session, f"one {number}")
                other.send("append", session, f"other {number}")
            own = [await backend.log.append(session, STANDALONE, b"own %d" % n) for n in range(100)]
            results = [process.receive()[1] for process in (one, other) for _ in range(200)]
        triples = [(offset, previous) for _, offset, previous in results]
        triples += [(event.position.offset, event.previous) for event in own]
        assert sorted(triples) == [(n + 1, n) for n in range(500)]
        page = await backend.log.read(session, STANDALONE, after=await start_of(backend, session), limit=999)
        texts = [event.payload.decode() for event in page.events]
        for writer, count in (("one", 200), ("other", 200), ("own", 100)):
            assert [text for text in texts if text.startswith(writer)] == [
                f"{writer} {number}" for number in range(count)
            ]


@HINTS
async def test_another_process_wakes_readers_and_waiters_and_subscribers(
    path: Path, hints: Literal["auto", "poll"]
) -> None:
    async with SqliteBackend(path, options=SqliteOptions(hints=hints)) as backend:
        session = await new_session(backend)
        await backend.inbox.expect(session, "q")
        woken, arrived, received = Heard(), Heard(), Heard()
        with Process(path, hints=hints) as other:
            async with (
                backend.log.watch(session, woken),
                backend.inbox.listen(arrived),
                backend.bus.subscribe("topic", received),
            ):
                other.do("append", session, "x")
                await woken.once()
                assert other.do("put", session, "q", "yes")
                await arrived.told(session, "q")
                assert await backend.inbox.take(session, "q") == b"yes"
                other.do("publish", "topic", "hello")
                await received.told(b"hello")


async def test_a_hint_that_was_lost_is_made_up_for(path: Path, sql: Sql) -> None:
    async with SqliteBackend(path, options=SqliteOptions(heal_seconds=0.05)) as backend:
        session = await new_session(backend)
        await backend.inbox.expect(session, "q")
        woken, arrived, received = Heard(), Heard(), Heard()
        async with (
            backend.log.watch(session, woken),
            backend.inbox.listen(arrived),
            backend.bus.subscribe("topic", received),
        ):
            with Process(path) as other:
                sql("UPDATE listeners SET address = address || '-nowhere' WHERE replica = ?", backend.replica)
                other.do("append", session, "x")
                other.do("put", session, "q", "yes")
                other.do("publish", "topic", "hello")
            await woken.once()
            await arrived.told(session, "q")
            await received.told(b"hello")


async def test_a_process_that_does_nothing_hardly_wakes_up(path: Path) -> None:
    """Counted, not timed: one look in `heal_seconds`, and none for what others do elsewhere."""
    options = SqliteOptions(heal_seconds=0.2)
    async with SqliteBackend(path, options=options) as backend:
        await new_session(backend)
        before, began = backend.wakeups, anyio.current_time()
        await anyio.sleep(1.0)
        looks = (anyio.current_time() - began) / options.heal_seconds
        assert backend.wakeups - before <= looks + 3


async def test_events_of_sessions_that_nobody_watches_wake_nobody(path: Path) -> None:
    async with SqliteBackend(path) as backend:
        watched, other = await new_session(backend), await new_session(backend)
        woken = Heard()
        with Process(path) as process:
            async with backend.log.watch(watched, woken):
                for number in range(20):
                    process.do("append", other, f"{number}")
                process.do("append", watched, "x")
                await woken.once()
        assert len(woken.calls) == 1


async def test_who_was_killed_is_no_longer_sent_hints(path: Path, sql: Sql) -> None:
    async with SqliteBackend(path) as backend:
        session = await new_session(backend)
        process = Process(path)
        assert len(sql("SELECT * FROM listeners")) == 2
        process.kill()
        process.end()
        await backend.log.append(session, STANDALONE, b"x")
        await until(lambda: len(sql("SELECT * FROM listeners")) == 1)


async def test_a_path_that_is_too_long_for_a_socket_does_as_well(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    async with SqliteBackend(folder / "store.db") as one, SqliteBackend(folder / "store.db") as other:
        session = await new_session(one)
        woken = Heard()
        async with other.log.watch(session, woken):
            await one.log.append(session, STANDALONE, b"x")
            await woken.once()


async def test_the_file_is_for_its_owner_only(path: Path) -> None:
    async with SqliteBackend(path):
        assert len(modes(path.parent)) >= 4
        assert not any(mode & 0o077 for mode in modes(path.parent).values())


def modes(folder: Path) -> dict[str, int]:
    return {file.name: file.stat().st_mode for file in folder.iterdir()}


async def test_many_opening_at_once_make_one_file(path: Path) -> None:
    async with AsyncExitStack() as stack:
        backends = [SqliteBackend(path) for _ in range(8)]

        async with anyio.create_task_group() as tasks:
            for backend in backends:
                tasks.start_soon(backend.__aenter__)
        for backend in backends:
            stack.push_async_exit(backend)
        session = await new_session(backends[0])
        for backend in backends:
            await backend.log.append(session, STANDALONE, b"x")
        assert (await top_of(backends[3], session)).offset == 8

"""A power cut takes the end, and readers are told; so does a backup that is restored."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from holdfast.backends.sqlite import SqliteBackend, SqliteOptions
from holdfast.errors import PositionLost
from holdfast.sessions.types import STANDALONE
from holdfast.testing.conformance.harness import new_session, new_stream, read_all, top_of


async def test_a_power_cut_takes_the_end_and_readers_are_told(path: Path, tmp_path: Path) -> None:
    """The disk is simulated: the write-ahead log is cut, as if its last pages had not been written."""
    async with SqliteBackend(path) as backend:
        session = await new_session(backend)
        stream = await new_stream(backend, session)
        events = [await backend.log.append(session, STANDALONE, b"%d" % n) for n in range(50)]
        await backend.log.append(session, stream, b"done", final=True)
        lost = await top_of(backend, session)
        for suffix in ("", "-wal"):
            shutil.copy(f"{path}{suffix}", f"{tmp_path / 'after.db'}{suffix}")
    log = tmp_path / "after.db-wal"
    for share in (0.9, 0.5):
        with log.open("r+b") as file:
            file.truncate(int(log.stat().st_size * share))
    async with SqliteBackend(tmp_path / "after.db") as backend:
        top = await top_of(backend, session)
        assert 0 < top.offset < lost.offset
        assert top.epoch != lost.epoch
        kept = await read_all(backend, session, STANDALONE)
        assert [event.payload for event in kept] == [event.payload for event in events[: top.offset]]
        # Who has not seen what was lost goes on; who has seen it is told.
        old = events[top.offset - 2].position
        assert [e.payload for e in await read_all(backend, session, STANDALONE, after=old)] == [
            kept[-1].payload
        ]
        for _ in range(60):
            await backend.log.append(session, STANDALONE, b"new")
        with pytest.raises(PositionLost) as told:
            await backend.log.read(session, STANDALONE, after=lost, limit=1)
        assert told.value.resume_offset == top.offset


async def test_a_copy_of_the_file_is_another_life(path: Path, tmp_path: Path) -> None:
    """A backup that is restored is older than what readers have seen."""
    async with SqliteBackend(path) as backend:
        session = await new_session(backend)
        await backend.log.append(session, STANDALONE, b"kept")
    shutil.copy(path, tmp_path / "backup.db")
    async with SqliteBackend(path) as backend:
        lost = await backend.log.append(session, STANDALONE, b"lost")
    shutil.copy(tmp_path / "backup.db", path)  # in place: even the inode is the same
    async with SqliteBackend(path) as backend:
        await backend.log.append(session, STANDALONE, b"new")
        with pytest.raises(PositionLost):
            await backend.log.read(session, STANDALONE, after=lost.position, limit=1)


async def test_a_life_goes_on_while_anybody_has_the_file_open(path: Path) -> None:
    async with SqliteBackend(path) as one:
        session = await new_session(one)
        top = await top_of(one, session)
        async with SqliteBackend(path) as other:
            assert await top_of(other, session) == top
        assert await top_of(one, session) == top
    async with SqliteBackend(path) as later:
        assert (await top_of(later, session)).epoch != top.epoch


async def test_every_restart_is_survived_by_a_reader_who_reads(path: Path) -> None:
    async with SqliteBackend(path) as backend:
        session = await new_session(backend)
        cursor = await top_of(backend, session)
    for number in range(12):  # more than fences are remembered
        async with SqliteBackend(path, options=SqliteOptions(synchronous="full")) as backend:
            await backend.log.append(session, STANDALONE, b"%d" % number)
            page = await backend.log.read(session, STANDALONE, after=cursor, limit=9)
            assert [event.payload for event in page.events] == [b"%d" % number]
            cursor = page.cursor

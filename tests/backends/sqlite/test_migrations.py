"""A file of every version that was ever released is carried forward, with what is in it."""

from __future__ import annotations

import gzip
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from holdfast.backends.sqlite import SqliteBackend, SqliteOptions, schema
from holdfast.errors import PositionLost, SessionExists
from holdfast.sessions.types import (
    GENESIS,
    STANDALONE,
    AppendKey,
    Position,
    ReplicaId,
    SessionId,
    Settings,
    StreamId,
)
from holdfast.testing.conformance.harness import read_all, top_of

FIXTURES = Path(__file__).parents[2] / "fixtures" / "sqlite"
VERSIONS = range(1, schema.VERSION + 1)
SESSION = SessionId("kept")
LAST_WITHOUT_BROADCASTS = 2


@pytest.fixture(params=VERSIONS)
def old(request: pytest.FixtureRequest, path: Path) -> Path:
    """A file of an old version, as it was on somebody's disk."""
    path.write_bytes(gzip.decompress((FIXTURES / f"{request.param:04}.db.gz").read_bytes()))
    return path


def shape(path: Path) -> list[Any]:
    with closing(sqlite3.connect(path)) as connection:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (vacuum,) = connection.execute("PRAGMA auto_vacuum").fetchone()
        tables = connection.execute(
            "SELECT type, name, sql FROM sqlite_master ORDER BY type, name"
        ).fetchall()
    return [version, vacuum, *tables]


async def test_an_old_file_gets_the_shape_of_a_new_one(old: Path, tmp_path: Path) -> None:
    for path in (old, tmp_path / "new.db"):
        async with SqliteBackend(path):
            pass
    assert shape(old) == shape(tmp_path / "new.db")


async def test_what_is_in_an_old_file_is_still_there(old: Path) -> None:
    async with SqliteBackend(old, options=SqliteOptions(max_events=16)) as backend:
        found = await backend.sessions.find(SESSION, owner="alice", with_facts=True)
        assert found is not None
        assert found.facts is not None
        assert found.facts.client == b'{"a":"\xc3\xa9"}'
        assert found.settings == Settings(1, "debug")
        with pytest.raises(SessionExists):
            await backend.sessions.open(found.facts, limit=None)
        assert await backend.sessions.count() == 1
        assert list(await backend.subscriptions.uris(SESSION)) == ["file:///x"]

        top = await top_of(backend, SESSION)
        assert top.offset == 23
        with pytest.raises(PositionLost) as lost:
            await backend.log.read(SESSION, STANDALONE, after=Position(top.epoch, 0), limit=1)
        rest = Position(top.epoch, lost.value.resume_offset)
        payloads = [event.payload for event in await read_all(backend, SESSION, STANDALONE, after=rest)]
        assert payloads[-3:] == [b"19", b"?", b"?"]
        done = await read_all(backend, SESSION, StreamId("done"), after=Position(top.epoch, 0))
        assert [(event.payload, event.final) for event in done] == [(b"response", True)]

        again = await backend.log.append(SESSION, STANDALONE, b"19", key=AppendKey("w", 20))
        assert again.position.offset == 21
        assert await backend.inbox.take(SESSION, "answered") == b"yes"
        assert await backend.inbox.put(SESSION, "open", b"yes")
        assert (await backend.log.claim(SESSION, "other", after=None)).displaced == ("writer", "reader")
        assert not await backend.replicas.alive(ReplicaId("writer"))  # it retired when it closed


async def test_what_was_said_to_all_is_still_there(old: Path, request: pytest.FixtureRequest) -> None:
    version = request.node.callspec.params["old"]
    async with SqliteBackend(old) as backend:
        log = backend.broadcasts
        found = await backend.sessions.find(SESSION, owner="alice", with_facts=True)
        assert found is not None
        assert found.facts is not None
        assert found.facts.broadcast == GENESIS
        top = await log.top()
        if version <= LAST_WITHOUT_BROADCASTS:
            assert top == GENESIS
            assert (await log.append(b"first")).position.offset == 1
            return
        assert top.offset == 20
        with pytest.raises(PositionLost) as lost:
            await log.read(after=GENESIS, limit=1)
        page = await log.read(after=Position(top.epoch, lost.value.resume_offset), limit=100)
        assert [event.payload for event in page.events] == [b"all %d" % number for number in range(4, 20)]
        again = await log.append(b"all 19", key=AppendKey("w", 20))
        assert again.position.offset == 20


async def test_an_old_file_cannot_be_told_from_a_new_one_by_what_it_does(old: Path) -> None:
    async with SqliteBackend(old, options=SqliteOptions(max_events=16)) as backend:
        for number in range(100):
            await backend.log.append(SESSION, STANDALONE, b"%d" % number)
        assert (await top_of(backend, SESSION)).offset == 123
        assert await backend.sessions.close(SESSION)
        assert await backend.sessions.count() == 0


def test_there_is_a_file_of_every_version() -> None:
    assert [path.name for path in sorted(FIXTURES.iterdir())] == [
        f"{version:04}.db.gz" for version in VERSIONS
    ]

"""kill -9 takes nothing that was acknowledged; a power cut takes the end, and readers are told."""

from __future__ import annotations

import os
import random
import shutil
from pathlib import Path
from secrets import token_hex
from typing import Any, TypeAlias

import pytest

from holdfast.backends.sqlite import SqliteBackend, SqliteOptions
from holdfast.errors import PositionLost
from holdfast.sessions.types import STANDALONE, AppendKey, Position, SessionId
from holdfast.testing.conformance.harness import new_session, new_stream, read_all, top_of
from tests.backends.sqlite.conftest import Sql
from tests.backends.sqlite.processes import Process

Sent: TypeAlias = dict[int, tuple[SessionId, str, str, int]]
"""By number of the call: session, text, writer, counter."""

ROUNDS = int(os.environ.get("HOLDFAST_KILL_ROUNDS", "12"))
"""1,000 in a soak."""

SEED = int(os.environ.get("HOLDFAST_KILL_SEED", "4"))


@pytest.mark.timeout(60 + 5 * ROUNDS)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("synchronous", ["normal", "full"])
async def test_nothing_acknowledged_is_lost_and_nothing_is_invented(
    path: Path, sql: Sql, synchronous: str
) -> None:
    """The model: what was sent, in the order of sending, and what was acknowledged of it."""
    chance = random.Random(SEED)
    sessions: list[SessionId] = []
    sent: Sent = {}
    acknowledged: dict[int, Any] = {}
    async with SqliteBackend(path) as survivor:
        for number in range(ROUNDS):
            sessions = [await new_session(survivor) for _ in range(3)]
            sent, acknowledged = one_life(path, sessions, chance, synchronous)
            for session in sessions:
                await check(survivor, session, sent, acknowledged)
            if number % 3 == 0:
                assert sql("PRAGMA integrity_check") == [("ok",)]
    # Nobody has it open any more: the next one begins a new life, and honours positions of the old one.
    async with SqliteBackend(path) as later:
        assert sql("PRAGMA integrity_check") == [("ok",)]
        for session in sessions:
            await check(later, session, sent, acknowledged, after_restart=True)


def one_life(
    path: Path, sessions: list[SessionId], chance: random.Random, synchronous: str
) -> tuple[Sent, dict[int, Any]]:
    """A process that appends as fast as it can, and is killed in the middle of it."""
    process = Process(path, synchronous=synchronous, checkpoint_bytes=40_000, max_events=10_000)
    sent: Sent = {}
    answers: dict[int, Any] = {}
    counters = dict.fromkeys(sessions, 0)
    for _ in range(chance.randrange(1, 400)):
        session = chance.choice(sessions)
        counters[session] += 1
        text = f"{token_hex(8)} {'x' * chance.choice((1, 10, 3000))}"
        call = process.send("append", session, text, process.replica, counters[session])
        sent[call] = (session, text, process.replica, counters[session])
        if chance.random() < 0.02:  # so that some rounds go on for a while
            call, result = process.receive()
            answers[call] = result
    process.kill()
    answers |= dict(process.rest())
    process.end()
    return sent, answers


async def check(
    backend: SqliteBackend,
    session: SessionId,
    sent: Sent,
    acknowledged: dict[int, Any],
    *,
    after_restart: bool = False,
) -> None:
    mine = [
        (call, text, writer, counter) for call, (to, text, writer, counter) in sent.items() if to == session
    ]
    events = await read_all(backend, session, STANDALONE)
    assert [event.position.offset for event in events] == list(range(1, len(events) + 1))
    assert [event.payload.decode() for event in events] == [text for _, text, _, _ in mine[: len(events)]]
    for call, text, writer, counter in mine:
        if call in acknowledged:
            _, offset, previous = acknowledged[call]
            assert (offset, previous) == (counter, counter - 1)
            assert offset <= len(events)
        if not after_restart:  # whoever does not know says it again: it is stored once
            key = AppendKey(writer, counter)
            if counter < len(events):
                continue
            again = await backend.log.append(session, STANDALONE, text.encode(), key=key)
            assert again.position.offset == counter
    epochs = {acknowledged[call][0] for call, *_ in mine if call in acknowledged}
    for epoch in epochs:
        rest = await read_all(backend, session, STANDALONE, after=Position(epoch, 1))
        assert len(rest) == len(await read_all(backend, session, STANDALONE)) - 1


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

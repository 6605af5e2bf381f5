"""kill -9 at any moment takes nothing that was acknowledged, and nothing comes that was never said."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from holdfast.backends.sqlite import SqliteBackend, SqliteOptions
from holdfast.sessions.types import STANDALONE, AppendKey, Event, Position, SessionId
from holdfast.testing.conformance.harness import new_session, read_all
from tests.backends.sqlite import victim
from tests.backends.sqlite.conftest import Sql

KILLS = int(os.environ.get("HOLDFAST_KILLS", "100"))
"""In each mode. `make soak` does 1,000."""

SEED = int(os.environ.get("HOLDFAST_KILL_SEED", "4"))

COUNTS = (
    "SELECT count(*) FROM heads WHERE events + (SELECT count(*) FROM log WHERE session = no AND id > last) "
    "<> (SELECT count(*) FROM log WHERE session = no)"
)


@dataclass
class Victim:
    """One process and what it was told: lines of session, counter, epoch, offset, previous."""

    writer: str
    pid: int
    pipe: int
    sessions: Sequence[SessionId]
    acknowledged: list[Any] = field(default_factory=list[Any])
    _rest: bytes = b""

    def listen(self, number: int) -> None:
        """Wait for so many more acknowledgements, or its end."""
        enough = len(self.acknowledged) + number
        while len(self.acknowledged) < enough:
            data = os.read(self.pipe, 65536)
            if not data:
                return
            *lines, self._rest = (self._rest + data).split(b"\n")
            self.acknowledged += map(json.loads, lines)

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        self.listen(sys.maxsize)
        os.close(self.pipe)


class Nursery:
    """Makes processes, without importing everything again for each."""

    def __init__(self, process: subprocess.Popen[str], folder: Path) -> None:
        self._process = process
        self._folder = folder
        self._number = 0

    def make(
        self, path: Path, sessions: Sequence[SessionId], options: dict[str, object], fold: int
    ) -> Victim:
        self._number += 1
        writer = f"w{self._number}"
        pipe = self._folder / writer
        os.mkfifo(pipe)
        order = [str(path), str(pipe), writer, sessions, options, fold]
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        pid = int(self._process.stdout.readline())
        return Victim(writer, pid, os.open(pipe, os.O_RDONLY), sessions)


@contextmanager
def nursery(folder: Path) -> Generator[Nursery]:
    with subprocess.Popen(
        [sys.executable, victim.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Nursery(process, folder)
        assert process.stdin is not None
        process.stdin.close()


@pytest.mark.timeout(60 + 3 * KILLS)
@pytest.mark.parametrize("anyio_backend", ["asyncio"])
@pytest.mark.parametrize("synchronous", ["normal", "full"])
async def test_nothing_acknowledged_is_lost_and_nothing_is_invented(
    path: Path, tmp_path: Path, sql: Sql, synchronous: str
) -> None:
    """Two at once, each with a session of its own, and one that they share; then a third looks into it."""
    chance = random.Random(SEED)
    options: dict[str, object] = {
        "synchronous": synchronous,
        "checkpoint_bytes": 40_000,
        "max_events": 100_000,
    }
    sessions: list[SessionId] = []
    killed: list[Victim] = []
    with nursery(tmp_path) as made:
        async with SqliteBackend(path, options=SqliteOptions(max_events=100_000)) as survivor:
            for number in range(0, KILLS, 2):
                sessions = [await new_session(survivor) for _ in range(3)]
                fold = chance.choice((20, 200, 4096))
                killed = [made.make(path, [own, sessions[2]], options, fold) for own in sessions[:2]]
                for one in chance.sample(killed, 2):
                    one.listen(chance.choice((0, 1, 20, 100)))
                    time.sleep(chance.random() * 0.01)  # noqa: ASYNC251 - nothing else is to be done meanwhile
                    one.kill()
                for session in sessions:
                    await say_again(survivor, session, killed, await check(survivor, session, killed))
                if number % 20 == 0:
                    assert sql("PRAGMA integrity_check") == [("ok",)]
                    assert sql(COUNTS) == [(0,)]
        # Nobody has it open any more: the next one begins a new life, and honours positions of the old one.
        async with SqliteBackend(path) as later:
            for session in sessions:
                await check(later, session, killed)


async def check(backend: SqliteBackend, session: SessionId, killed: Sequence[Victim]) -> list[Event]:
    """The model: each writer's events are the first so many that it said, at least those acknowledged."""
    events = await read_all(backend, session, STANDALONE)
    assert [event.position.offset for event in events] == list(range(1, len(events) + 1))
    assert [event.previous for event in events] == list(range(len(events)))
    stored = {event.position.offset: event.payload.decode() for event in events}
    number = Counter(payload.split(" ")[0] for payload in stored.values())
    for one in killed:
        said = [victim.text(one.writer, session, counter + 1) for counter in range(number.pop(one.writer, 0))]
        assert [payload for payload in stored.values() if payload.startswith(f"{one.writer} ")] == said
        for where, counter, epoch, offset, previous in one.acknowledged:
            if where == session:
                assert stored[offset] == victim.text(one.writer, session, counter)
                assert previous == offset - 1
                if offset == len(events) // 2:
                    after = Position(epoch, offset)
                    rest = await read_all(backend, session, STANDALONE, after=after)
                    assert len(rest) == len(events) - offset
    assert not number  # nobody else has said anything
    return events


async def say_again(
    backend: SqliteBackend, session: SessionId, killed: Sequence[Victim], events: Sequence[Event]
) -> None:
    """Who does not know whether his last word was heard says it again: it is stored once."""
    for one in killed:
        own = [event for event in events if event.payload.startswith(f"{one.writer} ".encode())]
        if own:
            key = AppendKey(one.writer, len(own))
            again = await backend.log.append(session, STANDALONE, own[-1].payload, key=key)
            assert again.position.offset == own[-1].position.offset

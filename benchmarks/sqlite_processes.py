"""Two processes on one SQLite file: how soon one hears of the other's append, and how they share the disk."""

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from secrets import token_hex
from typing import Any, Final, Literal, TypeAlias

from benchmarks.line import Bench, Goal, Line, Medians, Row
from holdfast.backends.sqlite import SqliteBackend, SqliteOptions
from holdfast.sessions.types import STANDALONE, AppendKey, Event, Position, SessionFacts, SessionId

How: TypeAlias = Literal["auto", "poll"]

DATAGRAM, POLLING = "datagram socket", "change counter"
HINTS: Final[Mapping[str, How]] = {DATAGRAM: "auto", POLLING: "poll"}
ALONE, SHARED = "one process", "two processes"
SESSIONS: Final = 16
WRITERS: Final = 16
EVENTS: Final = 1000
"""What a log holds: they are full from the start."""

PAYLOAD: Final = b"x" * 335


def percentile(figures: Sequence[float], share: float) -> float:
    """In milliseconds."""
    return 1000 * sorted(figures)[int(share * (len(figures) - 1))]


async def opened(backend: SqliteBackend, number: int) -> list[SessionId]:
    """So many sessions."""
    sessions = [SessionId(token_hex(16)) for _ in range(number)]
    for session in sessions:
        await backend.sessions.open(SessionFacts(session, None, "2025-11-25", b"{}", 3600.0), limit=None)
    return sessions


async def hear(path: Path, number: int, how: How) -> dict[str, float]:
    """Listens to events that another process appends, one after the other, with the time in them."""
    async with SqliteBackend(path, options=SqliteOptions(hints=how)) as backend:
        (session,) = await opened(backend, 1)
        woken = asyncio.Event()

        def wake_up(_: Event | None) -> None:
            woken.set()

        async with backend.log.watch(session, wake_up) as cursor:
            began = time.process_time(), time.perf_counter()
            await asyncio.sleep(2)
            idle = (time.process_time() - began[0]) / (time.perf_counter() - began[1])
            talking = await asyncio.create_subprocess_exec(
                *command("talk", path, number, session, how), stdout=subprocess.DEVNULL
            )
            delays = await heard(backend, session, cursor, woken, number)
            await talking.wait()
        delays = delays[number // 10 :]  # the first ones find nothing in memory
        return {
            "p50 ms": percentile(delays, 0.5),
            "p99 ms": percentile(delays, 0.99),
            "idle CPU %": 100 * idle,
        }


async def heard(
    backend: SqliteBackend, session: SessionId, cursor: Position, woken: asyncio.Event, number: int
) -> list[float]:
    """Seconds from the call of `append` there to the event here."""
    delays: list[float] = []
    while len(delays) < number:
        await woken.wait()
        woken.clear()
        page = await backend.log.read(session, STANDALONE, after=cursor, limit=100)
        cursor = page.cursor
        now = time.monotonic()
        delays += [now - float(event.payload) for event in page.events]
    return delays


async def talk(path: Path, number: int, session: SessionId, how: How) -> None:
    """Appends, with pauses."""
    async with SqliteBackend(path, options=SqliteOptions(hints=how)) as backend:
        for _ in range(number):
            await asyncio.sleep(0.005)
            await backend.log.append(session, STANDALONE, repr(time.monotonic()).encode())


async def share(path: Path, number: int, processes: int) -> dict[str, float]:
    """Appends to full logs, to which other processes append as well."""
    options = SqliteOptions(max_events=EVENTS)
    async with SqliteBackend(path, options=options) as backend:
        sessions = await opened(backend, SESSIONS)
        await press(backend, sessions, SESSIONS * EVENTS * 5 // 4)
        others = [
            await asyncio.create_subprocess_exec(
                *command("press", path, number, *sessions), stdout=subprocess.PIPE
            )
            for _ in range(processes - 1)
        ]
        delays = await press(backend, sessions, number)
        for other in others:
            output, _ = await other.communicate()
            delays += json.loads(output)
        return {
            "appends a second": len(delays) * WRITERS / (sum(delays) / processes),
            "p50 ms": percentile(delays, 0.5),
            "p99 ms": percentile(delays, 0.99),
        }


async def press(backend: SqliteBackend, sessions: Sequence[SessionId], number: int) -> list[float]:
    """Seconds that each of `number` appends took."""
    delays: list[float] = []
    incarnation = token_hex(4)

    async def write(writer: int) -> None:
        for counter in range(number // WRITERS):
            session = sessions[(writer + counter) % len(sessions)]
            key = AppendKey(f"{incarnation}{writer}", counter + 1)
            began = time.perf_counter()
            await backend.log.append(session, STANDALONE, PAYLOAD, key=key)
            delays.append(time.perf_counter() - began)

    await asyncio.gather(*map(write, range(WRITERS)))
    return delays


async def press_alone(path: Path, number: int, sessions: Sequence[SessionId]) -> list[float]:
    """The other process."""
    async with SqliteBackend(path, options=SqliteOptions(max_events=EVENTS)) as backend:
        return await press(backend, sessions, number)


def command(*arguments: object) -> list[str]:
    """This module as a process."""
    return [sys.executable, "-m", "benchmarks.sqlite_processes", *map(str, arguments)]


def run(*arguments: object) -> dict[str, Any]:
    """One measurement in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        words = command(arguments[0], Path(folder) / "store.db", *arguments[1:])
        done = subprocess.run(words, check=True, stdout=subprocess.PIPE, text=True, timeout=300)
    figures: dict[str, Any] = json.loads(done.stdout)
    return figures


def wake(bench: Bench) -> Iterable[Row]:
    """From an append in one process to the event in the other."""
    for name in bench.interleave(list(HINTS)):
        yield {"hints": name, **run("hear", 300 if bench.quick else 1000, HINTS[name])}


def full_logs(bench: Bench) -> Iterable[Row]:
    """16 writers in each process, all on the same 64 sessions, whose logs are full."""
    for processes, name in bench.interleave(((1, ALONE), (2, SHARED))):
        yield {"full logs": name, **run("share", 4_000 if bench.quick else 16_000, processes)}


def wake_goals(medians: Medians) -> Iterable[Goal]:
    """What issue 4 asks."""
    for figure, wanted in (("p99 ms", 10.0), ("idle CPU %", 1.0)):
        reached = medians.get(figure, hints=DATAGRAM)
        yield Goal(f"SQLite: append here to event there, {figure}", wanted, reached, at_least=False)


WAKE = Line("sqlite-wake", ("hints",), {"p50 ms": 2, "p99 ms": 2, "idle CPU %": 2}, wake, goals=wake_goals)
SHARE = Line("sqlite-share", ("full logs",), {"appends a second": 0, "p50 ms": 2, "p99 ms": 2}, full_logs)


async def main(name: str, path: Path, number: int, *rest: str) -> object:
    """What one process does."""
    match name:
        case "hear":
            return await hear(path, number, "poll" if rest[0] == "poll" else "auto")
        case "talk":
            await talk(path, number, SessionId(rest[0]), "poll" if rest[1] == "poll" else "auto")
            return None
        case "share":
            return await share(path, number, int(rest[0]))
        case _:
            return await press_alone(path, number, [SessionId(session) for session in rest])


if __name__ == "__main__":
    answer = asyncio.run(main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:]))
    print(json.dumps(answer))

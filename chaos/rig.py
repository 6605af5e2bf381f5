"""One run: processes, clients and what is done to them, from a seed to a table."""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncGenerator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Final

from chaos.client import Client
from chaos.fleet import REPOSITORY, Fleet, ServerName
from chaos.ledger import Diary, Tally
from chaos.monkey import Monkey, Plan
from chaos.official import run_official
from chaos.report import complaints, fresh_folder, table, write_blows, write_histories, write_json
from chaos.stores import StoreName
from chaos.wire import HOST
from chaos.work import Worker
from holdfast.testing.round_robin import RoundRobinProxy

BUILD: Final = REPOSITORY / "build" / "chaos"
FINISH_SECONDS: Final = 240.0
ENOUGH_SECONDS: Final = 3600.0


@dataclass(frozen=True, slots=True)
class Options:
    """A run.

    Attributes:
        events: each client reads at least so many.
        servers: what the replicas run under, by turns.
        store: what they share.
        think_seconds: the mean pause between two calls in a lane of a client; None: it suits their number.
    """

    seed: int
    plan: Plan
    clients: int = 10
    events: int = 100
    replicas: int = 3
    official: int = 2
    think_seconds: float | None = None
    servers: tuple[ServerName, ...] = ("serve",)
    store: StoreName = "one"

    @property
    def think(self) -> float:
        return self.clients / 10 if self.think_seconds is None else self.think_seconds


@dataclass(slots=True)
class Run:
    """A run under way, and what it came to."""

    options: Options
    folder: Path
    tally: Tally = field(default_factory=Tally)
    diaries: list[Diary] = field(default_factory=list[Diary])
    began: float = field(default_factory=time.monotonic)
    lag_seconds: float = 0.0

    @property
    def seed(self) -> str:
        return str(self.options.seed)

    def report(self) -> str:
        write_json(self.folder, asdict(self.options), self.tally, time.monotonic() - self.began)
        written = write_histories(self.folder, self.diaries, self.tally)
        text = table(self.tally, self.diaries, time.monotonic() - self.began, self.lag_seconds)
        if not self.tally.violations:
            return text
        return "\n".join([text, complaints(self.tally), *(f"  see {path}" for path in written)])

    def diary(self) -> Diary:
        diary = Diary(len(self.diaries), self.tally, self.began)
        self.diaries.append(diary)
        return diary


async def run(options: Options, folder: Path | None = None) -> Run:
    """Do all of it. Nothing of it is left afterwards but logs."""
    state = Run(options, fresh_folder(folder or BUILD / str(options.seed)))
    fleet = Fleet(
        options.replicas,
        state.folder,
        state.seed,
        state.tally,
        state.began,
        servers=options.servers,
        store=options.store,
    )
    proxy = RoundRobinProxy([(HOST, replica.port) for replica in fleet.replicas])
    async with fleet.running(), _measured(state), proxy:
        await _under_load(state, fleet, proxy)
    write_blows(state.folder, fleet.blows, state.tally.store.faults, state.began)
    return state


async def _under_load(state: Run, fleet: Fleet, proxy: RoundRobinProxy) -> None:
    options, stopped = state.options, asyncio.Event()
    workers = [_worker(state, fleet, proxy.port, stopped) for _ in range(options.clients)]
    for worker in workers:
        await worker.client.initialize()
    fleet.store.sessions = [worker.client.session for worker in workers if worker.client.session]
    url = f"{proxy.url}/mcp"
    officials = [_official(state, url, stopped) for _ in range(options.official)]
    tasks = [asyncio.create_task(_watched(worker)) for worker in workers]
    monkey = Monkey(fleet, state.tally, state.seed, options.plan)
    try:
        await _unleash(monkey, state)
        stopped.set()
        await _finished(state, tasks)
    finally:
        stopped.set()
        for task in [*tasks, *officials]:
            task.cancel()
        await asyncio.gather(*tasks, *officials, return_exceptions=True)


async def _unleash(monkey: Monkey, state: Run) -> None:
    try:
        await monkey.run()
    except TimeoutError:
        state.tally.blame("process", -1, "the replicas did not come back")


def _worker(state: Run, fleet: Fleet, port: int, stopped: asyncio.Event) -> Worker:
    diary = state.diary()
    client = Client(port, diary, random.Random(f"{state.seed}/client-{diary.number}"))
    return Worker(client, fleet, state.options.events, state.options.think, stopped)


def _official(state: Run, url: str, stopped: asyncio.Event) -> asyncio.Task[None]:
    diary = state.diary()
    diary.acknowledged = -1  # it does not show what it reads
    rng = random.Random(f"{state.seed}/official-{diary.number}")
    return asyncio.create_task(run_official(url, diary, rng, state.options.think, stopped))


async def _watched(worker: Worker) -> None:
    """A worker that fails by itself is a fault of the rig, and must not look like a good run."""
    try:
        await worker.run()
    except Exception as error:  # noqa: BLE001 - whatever it is, it is told
        worker.diary.blame("wrong", f"the rig itself failed: {error!r}")


async def _finished(state: Run, tasks: list[asyncio.Task[None]]) -> None:
    """All clients have read what they should, and have seen that nothing is missing."""
    deadline = time.monotonic() + ENOUGH_SECONDS
    while time.monotonic() < deadline:
        before = state.tally.counts["events"]
        _, pending = await asyncio.wait(tasks, timeout=FINISH_SECONDS)
        if not pending:
            return
        if state.tally.counts["events"] == before:
            break
    state.tally.blame("unanswered", -1, "not all clients came to an end")


@contextlib.asynccontextmanager
async def _measured(state: Run) -> AsyncGenerator[None]:
    """How late the rig's own event loop is: what it measures cannot be better than that."""

    async def measure() -> None:
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.05)
            state.lag_seconds = max(state.lag_seconds, time.monotonic() - began - 0.05)

    task = asyncio.create_task(measure())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

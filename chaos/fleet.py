"""The replicas: processes that are started again on their port whatever ends them."""

import asyncio
import contextlib
import os
import random
import signal
import socket
import sys
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, TypeAlias

from chaos.client import Connection
from chaos.ledger import Tally
from chaos.stores import Store, StoreName, running_store
from chaos.wire import HOST

REPOSITORY: Final = Path(__file__).resolve().parents[1]
SERVER: Final = "chaos.server:mcp"
ATTACHED: Final = "chaos.attached:app"
START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 30.0
DRAIN_SECONDS: Final = 10
KEEPALIVE_SECONDS: Final = 1.5
RESTART_SECONDS: Final = (0.05, 1.5)
GRACE_SECONDS: Final = 5.0
LONG_PAUSE_SECONDS: Final = 3.5
"""A replica that stood still for so long may be taken for dead: 6 s after its last beat, one every 2 s."""

Harm: TypeAlias = Literal["kill", "stop", "term", "cut off"]
ServerName: TypeAlias = Literal["serve", "uvicorn", "hypercorn", "granian"]
SERVERS: Final[tuple[ServerName, ...]] = ("serve", "uvicorn", "hypercorn", "granian")

_COMMANDS: Final[dict[ServerName, tuple[str, ...]]] = {
    "serve": (
        *("holdfast.ops.cli", "serve", SERVER, "--store", "{store}", "--port", "{port}"),
        *("--drain-seconds", str(DRAIN_SECONDS), "--keepalive", str(KEEPALIVE_SECONDS)),
    ),
    "uvicorn": ("uvicorn", ATTACHED, "--port", "{port}"),
    "hypercorn": (
        *("hypercorn", ATTACHED, "--bind", HOST + ":{port}", "--workers", "0"),
        *("--graceful-timeout", str(2 * DRAIN_SECONDS)),
    ),
    "granian": ("granian", ATTACHED, "--port", "{port}", "--interface", "asgi"),
}


@dataclass(slots=True)
class Blow:
    """Something that was done to a replica. `until`: when it was over, for a pause."""

    backend: str
    harm: Harm
    at: float
    until: float | None = None

    @property
    def end(self) -> float:
        """When it was over: pauses and drains take time."""
        if self.harm == "kill":
            return self.at
        if self.harm == "term":
            return self.at + DRAIN_SECONDS + GRACE_SECONDS
        return time.monotonic() if self.until is None else self.until

    @property
    def deadly(self) -> bool:
        """Whether others may take the replica for dead."""
        return self.harm not in {"stop", "cut off"} or self.end - self.at >= LONG_PAUSE_SECONDS


class Replica:
    """One port, and the process that serves it now."""

    def __init__(self, fleet: "Fleet", number: int) -> None:
        self.number = number
        self.port = free_port()
        self.server: ServerName = fleet.servers[number % len(fleet.servers)]
        self.serving = asyncio.Event()
        self.lives = 0
        self.paused: Blow | None = None
        self._fleet = fleet
        self._process: asyncio.subprocess.Process | None = None
        self._expected_end = False

    @property
    def backend(self) -> str:
        return f"{HOST}:{self.port}"

    async def supervise(self) -> None:
        """Keep a process on the port until cancelled."""
        try:
            while True:
                await self._live()
                await asyncio.sleep(self._fleet.random.uniform(*RESTART_SECONDS))
        finally:
            await self._end()

    def kill(self) -> None:
        self._strike("kill", signal.SIGKILL)
        self._wake_record()

    def terminate(self) -> None:
        self._strike("term", signal.SIGTERM)

    def pause(self) -> None:
        self.paused = self._strike("stop", signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused process go on, if it still is that one."""
        if self.paused is not None and self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGCONT)
        self._wake_record()

    async def wait_for_its_end(self) -> bool:
        """False: it does not end though it was asked to."""
        process = self._process
        if process is None:
            return True
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), DRAIN_SECONDS + STOP_SECONDS)
        return process.returncode is not None

    def _strike(self, harm: Harm, number: signal.Signals) -> Blow:
        blow = Blow(self.backend, harm, time.monotonic())
        self._fleet.blows.append(blow)
        if harm != "stop":
            self._expected_end = True
            self.serving.clear()
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                # Granian's work is done by a child: what ends a machine or stops it reaches both.
                send = self._process.send_signal if harm == "term" else self._signal_all
                send(number)
        return blow

    def _signal_all(self, number: int) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, number)

    def _wake_record(self) -> None:
        if self.paused is not None:
            self.paused.until = time.monotonic()
            self.paused = None

    async def _live(self) -> None:
        self._expected_end = False
        started = time.monotonic()
        self._process = await self._spawn()
        self.lives += 1
        if served := await self._until_it_listens(self._process):
            self.serving.set()
        status = await self._process.wait()
        self.serving.clear()
        if not served and self._fleet.tally.store.outage(started):
            self._fleet.tally.counts["starts that failed without the store"] += 1
        elif not self._expected_end:
            self._fleet.tally.blame("process", -1, f"replica {self.number} ended by itself, with {status}")

    async def _spawn(self) -> asyncio.subprocess.Process:
        store = self._fleet.store.url(self.number)
        settings = {
            "HOLDFAST_STORE": store,
            "CHAOS_DRAIN_SECONDS": str(DRAIN_SECONDS),
            "CHAOS_KEEPALIVE_SECONDS": str(KEEPALIVE_SECONDS),
        }
        command = [part.format(store=store, port=self.port) for part in _COMMANDS[self.server]]
        with (self._fleet.folder / f"replica-{self.number}.log").open("ab") as log:
            log.write(f"--- life {self.lives + 1} at {time.monotonic() - self._fleet.began:.3f}\n".encode())
            log.flush()
            return await asyncio.create_subprocess_exec(
                *[sys.executable, "-m", *command],
                cwd=REPOSITORY,
                env={**os.environ, **settings},
                stdin=asyncio.subprocess.DEVNULL,
                stdout=log,
                stderr=asyncio.subprocess.STDOUT,
                start_new_session=True,
            )

    async def _until_it_listens(self, process: asyncio.subprocess.Process) -> bool:
        deadline = time.monotonic() + START_SECONDS
        while process.returncode is None and not self._expected_end:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(HOST, self.port)
                writer.close()
                return True
            if time.monotonic() > deadline:
                self._fleet.tally.blame("process", -1, f"replica {self.number} does not serve")
                return False
            await asyncio.sleep(0.1)
        return False

    async def _end(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()


class Fleet:
    """The store and its replicas, with all that was done to them."""

    store: Store

    def __init__(
        self,
        count: int,
        folder: Path,
        seed: str,
        tally: Tally,
        began: float,
        *,
        servers: Sequence[ServerName] = ("serve",),
        store: StoreName = "one",
    ) -> None:
        self.folder = folder
        self.tally = tally
        self.began = began
        self.servers = servers
        self._store_name: StoreName = store
        self.random = random.Random(f"{seed}/fleet")
        self.blows: list[Blow] = []
        self.replicas = [Replica(self, number) for number in range(count)]

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """Everything is up when this is entered, and nothing is left when it ends."""
        async with running_store(self._store_name, len(self.replicas), self.folder) as self.store:
            self.store.cut_off = self._cut_off
            tasks = [asyncio.create_task(replica.supervise()) for replica in self.replicas]
            try:
                async with asyncio.timeout(START_SECONDS):
                    for replica in self.replicas:
                        await replica.serving.wait()
                yield
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    @property
    def serving(self) -> list[Replica]:
        """Those that answer now."""
        return [each for each in self.replicas if each.serving.is_set() and each.paused is None]

    def _cut_off(self, number: int) -> Callable[[], None]:
        """The store cannot be reached by this one any more. What is returned says that it can again."""
        blow = Blow(self.replicas[number].backend, "cut off", time.monotonic())
        self.blows.append(blow)

        def back() -> None:
            blow.until = time.monotonic()

        return back

    def harmed(self, backend: str, since: float, until: float) -> list[Blow]:
        """What was done to a replica in a stretch of time, and may have made others take it for dead."""
        return [
            blow
            for blow in self.blows
            if blow.backend == backend and blow.at <= until and blow.end >= since and blow.deadly
        ]

    def pauses(self, connection: Connection) -> list[tuple[float, float]]:
        """When a client was on a connection to a replica that stood still."""
        if connection.silent and not connection.backend:
            return [(connection.began, connection.ended)]
        pauses = [blow for blow in self.blows if blow.harm == "stop" and blow.backend == connection.backend]
        return [(max(each.at, connection.began), min(each.end, connection.ended)) for each in pauses]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port

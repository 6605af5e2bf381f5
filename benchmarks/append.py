"""Appending events with 64 writers: Holdfast, mcp-persist, and what the same script does without Python."""

import asyncio
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from benchmarks import peers
from benchmarks.line import ERROR, Bench, Cell, Goal, Line, Medians, Ratio, Row
from benchmarks.material import message, open_sessions
from benchmarks.monitor import Monitor
from benchmarks.processes import Serving
from holdfast.backends import open_store
from holdfast.sessions.types import STANDALONE
from tests.servers import RunningServer, start_server

WRITERS = 64
SPARE_SECONDS = 60.0
OWN, SHARED = "Holdfast, a session per writer", "Holdfast, all in one session"
PERSIST, BATCHED = "mcp-persist, a session per writer", "mcp-persist batched, before it is stored"
NATIVE = "redis-benchmark -P 50, all in one session, the same script"


@dataclass(frozen=True, slots=True)
class Case:
    """One way to append to one server."""

    server: RunningServer
    what: str

    @property
    def row(self) -> Row:
        return {"store": self.server.flavour.title(), "what": self.what}


def measure(bench: Bench) -> Iterable[Row]:
    """Each case in turn, on an empty server."""
    with ExitStack() as stack:
        redis, valkey = (stack.enter_context(start_server(flavour)) for flavour in ("redis", "valkey"))
        cases = [Case(redis, what) for what in (OWN, PERSIST, SHARED, NATIVE, BATCHED)] + [Case(valkey, OWN)]
        for case in bench.interleave(cases):
            case.server.cli("FLUSHALL")
            case.server.cli("CONFIG", "RESETSTAT")
            store = Serving(case.server.pid, case.server.port)
            before = store.cpu_seconds()
            figures = run(case, bench.seconds)
            spent = {"store CPU µs/event": (store.cpu_seconds() - before) / scripts_run(case.server) * 1e6}
            yield {**case.row, **figures, **(spent if ERROR not in figures and case.what != BATCHED else {})}


def scripts_run(server: RunningServer) -> int:
    """How many scripts ran since the statistics were reset."""
    found = re.search(rb"cmdstat_evalsha:calls=(\d+)", cast("bytes", server.cli("INFO", "commandstats")))
    return int(found[1]) if found else 1


def run(case: Case, seconds: float) -> Mapping[str, Cell]:
    """One measurement."""
    url = case.server.url
    arguments = [url, str(WRITERS), str(seconds)]
    if case.what == NATIVE:
        return native(case.server, round(20_000 * seconds))
    if case.what in {OWN, SHARED}:
        how = "own" if case.what == OWN else "shared"
        return printed([sys.executable, "-m", "benchmarks.appending", *arguments, how], seconds)
    try:
        python = peers.mcp_persist()
    except peers.PeerMissingError as error:
        return {ERROR: f"not installed: {error}"}
    how = "batched" if case.what == BATCHED else "plain"
    return printed([python, peers.HERE / "mcp_persist" / "append.py", *arguments, how], seconds)


def printed(command: Sequence[str | Path], seconds: float) -> Mapping[str, Cell]:
    """The figures that a program prints, or why it does not."""
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=seconds + SPARE_SECONDS, check=False
    )
    if done.returncode != 0:
        return {ERROR: (done.stderr.strip() or "no output").splitlines()[-1][:300]}
    figures: Mapping[str, Cell] = json.loads(done.stdout)
    return figures


def native(server: RunningServer, count: int) -> Mapping[str, Cell]:
    """What the server does when the very command that Holdfast sends comes from a client in C."""
    program = shutil.which("redis-benchmark")
    if program is None:
        return {ERROR: "there is no redis-benchmark (Debian: redis-tools)"}
    command = asyncio.run(one_append(server))
    arguments = ["-p", str(server.port), "-n", str(count), "-P", "50", "--csv"]
    done = subprocess.run(
        [program, *arguments, *command], capture_output=True, timeout=SPARE_SECONDS, check=False
    )
    last = done.stdout.decode(errors="replace").strip().splitlines()[-1:]
    if done.returncode != 0 or not last:
        return {ERROR: done.stderr.decode(errors="replace").strip()[-300:] or "no output"}
    rate, _, _, p50, _, p99, _ = (float(cell.strip('"')) for cell in last[0].split(",")[-7:])
    return {"events/s": round(rate), "p50 ms": p50, "p99 ms": p99}


async def one_append(server: RunningServer) -> Sequence[bytes]:
    """Append one event, and return the command as the server saw it."""
    async with open_store(server.url) as backend:
        (session,) = await open_sessions(backend, 1)
        with Monitor(server.port) as monitor:
            await backend.log.append(session, STANDALONE, message())
            return monitor.next(b"EVALSHA")


def goals(medians: Medians) -> Iterable[Goal]:
    """Issue 3, and DESIGN 9."""
    own, peer = {"store": "Redis", "what": OWN}, {"store": "Redis", "what": PERSIST}
    yield Goal("events/s, as a multiple of mcp-persist's", 3, medians.ratio("events/s", own, peer))
    shared, native = {"store": "Redis", "what": SHARED}, {"store": "Redis", "what": NATIVE}
    part = medians.ratio("events/s", shared, native)
    yield Goal("events/s, as a part of redis-benchmark's with the same script (aim)", 0.5, part)


LINE = Line(
    name="append",
    keys=("store", "what"),
    figures={"events/s": 0, "p50 ms": 2, "p99 ms": 2, "CPU µs/event": 0, "store CPU µs/event": 0},
    measure=measure,
    ratio=Ratio("ratio", "events/s", "what", PERSIST),
    goals=goals,
)

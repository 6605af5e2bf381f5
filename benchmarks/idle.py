"""What it costs to be connected and silent: memory and CPU of a session, and of its standalone stream.

Memory is what the server's process grew by (anonymous resident memory), divided by the number of sessions or
streams. Each session has called a tool once, so that nothing is missing that a session in use needs.
"""

import contextlib
import resource
import subprocess
import sys
import time
from collections.abc import Generator, Iterable, Sequence

from benchmarks.call import SDK, Server, ours, started, theirs
from benchmarks.line import ERROR, Bench, Goal, Line, Medians, Row
from benchmarks.processes import DidNotStartError
from tests.servers import start_server

STREAMS, QUICK_STREAMS = 10_000, 1_000
SPARE_FILES = 300
IDLE_SECONDS, QUICK_IDLE_SECONDS = 45.0, 16.0  # at least one keepalive on each stream
SETTLE_SECONDS = 2.0
BARE = "(uvicorn alone)"


@contextlib.contextmanager
def servers() -> Generator[Sequence[Server]]:
    """All that are compared."""
    with contextlib.ExitStack() as stack:
        valkey = stack.enter_context(start_server("valkey")).url
        yield [
            theirs(BARE, "bare_stream"),
            theirs(SDK, "sdk"),
            ours("memory", "memory://"),
            ours("Valkey", valkey),
        ]


def streams_possible(wanted: int) -> int:
    """How many streams fit into the files that a process may have open; raises that limit if it can."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = wanted + SPARE_FILES if hard == resource.RLIM_INFINITY else min(hard, wanted + SPARE_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    return min(wanted, most - SPARE_FILES)


class Clients:
    """The process that `benchmarks.listen` is."""

    def __init__(self, port: int, count: int) -> None:
        command = [sys.executable, "-m", "benchmarks.listen", str(port), str(count)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def do(self, step: str) -> int:
        """Do one step; the number that it ends with."""
        process = self._process
        assert process.stdin is not None  # noqa: S101 - it was asked for above
        assert process.stdout is not None  # noqa: S101
        assert process.stderr is not None  # noqa: S101
        process.stdin.write(f"{step}\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{step}: {process.stderr.read().strip().splitlines()[-1]}")
        return int(answer)

    def close(self) -> None:
        """End the process, and with it all connections."""
        self._process.kill()
        self._process.communicate()


def measure_one(server: Server, count: int, seconds: float) -> Row:
    """Open sessions, then streams, and wait."""
    with started(server) as process:
        clients = Clients(process.port, count)
        try:
            began = process.rss_bytes()
            opened = 0 if server.name == BARE else clients.do("sessions")
            time.sleep(SETTLE_SECONDS)
            with_sessions = process.rss_bytes()
            clients.do("streams")
            time.sleep(SETTLE_SECONDS)
            with_streams = process.rss_bytes()
            cpu = process.cpu_seconds()
            time.sleep(seconds)
            cpu = process.cpu_seconds() - cpu
            open_at_end = clients.do("count")
        finally:
            clients.close()
    return {
        "server": server.name,
        "streams": open_at_end,
        "kB per session": (with_sessions - began) / opened / 1000 if opened else 0.0,
        "kB per stream": (with_streams - with_sessions) / count / 1000,
        "CPU s per stream and hour": cpu / count / seconds * 3600,
    }


def measure(bench: Bench) -> Iterable[Row]:
    """Each server once: so many streams leave little to chance."""
    count = streams_possible(QUICK_STREAMS if bench.quick else STREAMS)
    seconds = QUICK_IDLE_SECONDS if bench.quick else IDLE_SECONDS
    with servers() as all_servers:
        for server in all_servers:
            try:
                yield measure_one(server, count, seconds)
            except (DidNotStartError, RuntimeError) as error:
                yield {"server": server.name, ERROR: str(error)}


def goals(medians: Medians) -> Iterable[Goal]:
    """Design 9: at most 30 kB, uvicorn's own share included; half of that is aimed at."""
    for name in ("Holdfast, memory", "Holdfast, Valkey"):
        reached = medians.get("kB per stream", server=name)
        yield Goal(f"kB per silent stream, {name}", 30.0, reached, at_least=False)


LINE = Line(
    name="idle",
    keys=("server",),
    figures={"streams": 0, "kB per session": 1, "kB per stream": 1, "CPU s per stream and hour": 2},
    measure=measure,
    goals=goals,
)

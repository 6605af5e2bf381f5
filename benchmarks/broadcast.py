"""One message to all sessions with an open stream, on two servers: time to the first and to the last."""

import json
import subprocess
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from typing import cast

from benchmarks.line import ERROR, Bench, Cell, Goal, Line, Medians, Row
from benchmarks.processes import serving
from tests.servers import RunningServer, start_server

STREAMS = (100, 1_000, 10_000)
FOREIGN_KEYS = (0, 1_000_000)
BROADCASTS = 5
SPARE_SECONDS = 300.0
SERVER = (sys.executable, "-m", "benchmarks.servers.announcing")
FILL = "for i = 1, ARGV[1] do redis.call('SET', 'foreign:' .. i, 'x', 'EX', 3600) end"


def measure(bench: Bench) -> Iterable[Row]:
    """Each number of streams on its own pair of processes."""
    for foreign in FOREIGN_KEYS:
        for streams in STREAMS[:2] if bench.quick else STREAMS:
            with ExitStack() as stack:
                store = stack.enter_context(start_server("redis"))
                for _ in range(10):
                    store.cli("EVAL", FILL, 0, foreign // 10)
                ports = [str(stack.enter_context(serving([*SERVER, "{port}", store.url])).port) for _ in "AB"]
                row: Row = {"open streams": streams, "other keys": foreign}
                for figures in run(store, streams, bench.rounds * BROADCASTS, ports):
                    yield {**row, **figures}


def run(store: RunningServer, streams: int, broadcasts: int, ports: list[str]) -> Iterable[Row]:
    """The figures of each broadcast."""
    load = (sys.executable, "-m", "benchmarks.broadcasting")
    command = [*load, store.url, str(streams), str(broadcasts), *ports]
    done = subprocess.run(command, capture_output=True, text=True, timeout=SPARE_SECONDS, check=False)
    if done.returncode != 0:
        return [{ERROR: (done.stderr.strip() or "no output").splitlines()[-1][:300]}]
    return cast("list[dict[str, Cell]]", json.loads(done.stdout))


def goals(medians: Medians) -> Iterable[Goal]:
    """DESIGN 9: one append and one announcement, whatever the number of sessions and of other keys."""
    for name, most in (("XADD", 1), ("XRANGE", 0)):
        reached = medians.get(name, **{"open streams": STREAMS[-1], "other keys": FOREIGN_KEYS[-1]})
        says = f"{name} for a broadcast to 10,000 streams beside 1,000,000 other keys"
        yield Goal(says, most, reached, at_least=False)


LINE = Line(
    name="broadcast",
    keys=("open streams", "other keys"),
    figures={"first ms": 1, "last ms": 1, "XADD": 0, "PUBLISH": 0, "XRANGE": 0},
    measure=measure,
    goals=goals,
)

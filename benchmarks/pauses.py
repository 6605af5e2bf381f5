"""What freezing the garbage collector and raising its thresholds does to slow answers."""

import tempfile
from collections.abc import Iterable
from contextlib import ExitStack

from benchmarks.call import SDK, load, ours, theirs
from benchmarks.line import Bench, Goal, Line, Medians, Row
from benchmarks.processes import serving
from tests.servers import start_server

CONNECTIONS = 16
AS_IT_IS, TUNED = "as Python sets it", "frozen, thresholds raised"


def measure(bench: Bench) -> Iterable[Row]:
    """Each server with and without, in turns."""
    with ExitStack() as stack:
        valkey = stack.enter_context(start_server("valkey")).url
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-bench-"))
        stores = {"memory": "memory://", "SQLite": f"sqlite://{folder}/sessions.db", "Valkey": valkey}
        cases = [
            (f"Holdfast, {name}", collector, ours(name, url, *options))
            for name, url in stores.items()
            for collector, options in ((TUNED, ()), (AS_IT_IS, ("--no-gc-tuning",)))
        ]
        cases += [(SDK, AS_IT_IS, theirs(SDK, "sdk")), (SDK, TUNED, theirs(SDK, "sdk", "tuned"))]
        for name, collector, server in bench.interleave(cases):
            with serving(server.command) as process:
                figures = load(process, server.path, CONNECTIONS, bench.seconds)
                yield {"server": name, "garbage collector": collector, **figures}


def goals(medians: Medians) -> Iterable[Goal]:
    """Nobody asked for this in figures; that it helps at all is why it is the default."""
    for name in ("memory", "Valkey"):
        tuned, as_it_is = (
            {"server": f"Holdfast, {name}", "garbage collector": how} for how in (TUNED, AS_IT_IS)
        )
        part = medians.ratio("p99 ms", tuned, as_it_is)
        yield Goal(f"p99, {name}, tuned, as a part of that without", 1, part, at_least=False)


LINE = Line(
    name="pauses",
    keys=("server", "garbage collector"),
    figures={"calls/s": 0, "p50 ms": 2, "p99 ms": 2, "CPU ms/call": 3},
    measure=measure,
    goals=goals,
)

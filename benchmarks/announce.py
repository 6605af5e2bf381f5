"""From one replica to a client on another: a POST and an append beside a bare publish-to-deliver."""

import sys
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from pathlib import Path

from benchmarks.announcing import BARE, ECHOED, INLINE, POSTED, READ
from benchmarks.append import printed
from benchmarks.line import ERROR, Bench, Goal, Line, Medians, Ratio, Row
from benchmarks.processes import serving
from tests.servers import Flavour, start_server

SERVER = (sys.executable, "-m", "benchmarks.servers.announcing")
FLAVOURS: Mapping[str, Flavour | None] = {"Redis": "redis", "Valkey": "valkey", "SQLite": None}


def opened(stack: ExitStack, flavour: Flavour | None) -> str:
    """The URL of an empty store that lives as long as `stack`; None: a file of SQLite."""
    if flavour is not None:
        return stack.enter_context(start_server(flavour)).url
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="holdfast-bench-"))
    return f"sqlite://{Path(folder) / 'store.db'}"


def measure(bench: Bench) -> Iterable[Row]:
    """All cases take turns within each round, one message at a time."""
    count = round(400 * bench.seconds)
    for store, flavour in FLAVOURS.items():
        with ExitStack() as stack:
            url = opened(stack, flavour)
            ports = [str(stack.enter_context(serving([*SERVER, "{port}", url])).port) for _ in "AB"]
            command = [sys.executable, "-m", "benchmarks.announcing", url, str(count), *ports]
            for _ in range(bench.rounds):
                figures = printed(command, seconds=count * 0.1)
                for what in (BARE, INLINE, READ, POSTED, ECHOED):
                    named = {name: figures.get(f"{what} {name}", 0) for name in ("p50 ms", "p99 ms")}
                    yield {
                        "store": store,
                        "what": what,
                        **(figures if ERROR in figures else named),
                    }


def goals(medians: Medians) -> Iterable[Goal]:
    """DESIGN 9; of SQLite issue 4 asks for milliseconds of one digit."""
    bare: Mapping[str, str] = {"store": "Redis", "what": BARE}
    for what in (POSTED, INLINE):
        ratio = medians.ratio("p50 ms", {"store": "Redis", "what": what}, bare)
        yield Goal(f"p50 of {what}, as a multiple of {BARE}", 3, ratio, at_least=False)
    posted, echoed, inline = (medians.get("p50 ms", store="Redis", what=w) for w in (POSTED, ECHOED, INLINE))
    if posted is not None and echoed is not None and inline is not None:
        # What HTTP and the SDK's kernel take is in the call that sends its client nothing but the answer.
        part = posted / (echoed + inline)
        yield Goal(
            "the same, as a part of a POST to its own answer and an append to event", 1, part, at_least=False
        )
    for figure in ("p50 ms", "p99 ms"):
        reached = medians.get(figure, store="SQLite", what=POSTED)
        yield Goal(f"SQLite: {figure} of {POSTED}", 10.0, reached, at_least=False)


LINE = Line(
    name="announce",
    keys=("store", "what"),
    figures={"p50 ms": 3, "p99 ms": 3},
    measure=measure,
    ratio=Ratio("ratio", "p50 ms", "what", BARE),
    goals=goals,
)

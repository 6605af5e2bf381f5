"""From one replica to a client on another: a POST and an append beside a bare publish-to-deliver."""

import sys
from collections.abc import Iterable, Mapping
from contextlib import ExitStack

from benchmarks.announcing import BARE, ECHOED, INLINE, POSTED, READ
from benchmarks.append import printed
from benchmarks.line import ERROR, Bench, Goal, Line, Medians, Ratio, Row
from benchmarks.processes import serving
from tests.servers import Flavour, start_server

SERVER = (sys.executable, "-m", "benchmarks.servers.announcing")
FLAVOURS: tuple[Flavour, ...] = ("redis", "valkey")


def measure(bench: Bench) -> Iterable[Row]:
    """All cases take turns within each round, one message at a time."""
    count = round(400 * bench.seconds)
    for flavour in FLAVOURS:
        with ExitStack() as stack:
            server = stack.enter_context(start_server(flavour))
            ports = [str(stack.enter_context(serving([*SERVER, "{port}", server.url])).port) for _ in "AB"]
            command = [sys.executable, "-m", "benchmarks.announcing", server.url, str(count), *ports]
            for _ in range(bench.rounds):
                figures = printed(command, seconds=count * 0.1)
                for what in (BARE, INLINE, READ, POSTED, ECHOED):
                    named = {name: figures.get(f"{what} {name}", 0) for name in ("p50 ms", "p99 ms")}
                    yield {
                        "store": flavour.title(),
                        "what": what,
                        **(figures if ERROR in figures else named),
                    }


def goals(medians: Medians) -> Iterable[Goal]:
    """DESIGN 9."""
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


LINE = Line(
    name="announce",
    keys=("store", "what"),
    figures={"p50 ms": 3, "p99 ms": 3},
    measure=measure,
    ratio=Ratio("ratio", "p50 ms", "what", BARE),
    goals=goals,
)

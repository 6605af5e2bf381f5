"""The benchmarks measure something: one short load on our own server, and one on no work at all."""

import pytest

from benchmarks.call import Server, load, ours, started, theirs
from benchmarks.line import ERROR
from benchmarks.processes import DidNotStartError


@pytest.mark.parametrize(
    "server", [ours("memory", "memory://"), theirs("nothing", "bare")], ids=["ours", "bare"]
)
def test_calls_are_counted(server: Server) -> None:
    with started(server) as process:
        figures = load(process, server.path, 4, 0.2)
    assert ERROR not in figures, figures
    assert float(figures["calls/s"]) > 0
    assert float(figures["p50 ms"]) <= float(figures["p99 ms"])


def test_a_server_that_ends_at_once_is_reported_with_what_it_said() -> None:
    nobody = theirs("nobody", "no_such_module")
    with pytest.raises(DidNotStartError, match="no_such_module"), started(nobody):
        pass

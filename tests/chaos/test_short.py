"""Short runs of the chaos rig: `python -m chaos --help` has the long ones."""

import asyncio
from pathlib import Path

import pytest

from chaos.fleet import SERVERS
from chaos.monkey import Plan
from chaos.rig import Options, Run, run

SEED = 20_261_121


@pytest.mark.timeout(240)  # about 70 s on an idle machine; what is waited for has bounds of its own
def test_clients_lose_nothing_while_replicas_are_killed_paused_and_replaced(tmp_path: Path) -> None:
    """Promises 4, 6, 7, 8 and 15, and one answer to every request, with real processes and real kills.

    The replicas run under `holdfast serve`, uvicorn, hypercorn and granian, by turns.
    """
    plan = Plan(kills=10, stop=True, rolling=1)
    options = Options(
        seed=SEED, plan=plan, clients=10, events=100, replicas=4, think_seconds=0.5, servers=SERVERS
    )
    state = asyncio.run(run(options, tmp_path / "chaos"))
    report = _report(state)
    assert state.tally.of("failed") == 0, report  # in the rolling restart: connections are all that it costs
    assert not state.tally.violations, report
    counts = state.tally.counts
    assert counts["kills"] >= 10
    assert counts["stops"] > 0
    assert counts["terminated"] == 4
    assert counts["resumed"] > 10
    assert counts["events"] >= 10 * 100
    assert counts["questions answered"] > 0
    assert counts["audits"] > 10
    assert counts["rolling: calls"] > 10


def _report(state: Run) -> str:
    report = state.report()
    print(f"seed {SEED}", report, sep="\n")
    return report

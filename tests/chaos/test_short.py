"""Short runs of the chaos rig: `python -m chaos --help` has the long ones."""

import asyncio
from collections import Counter
from pathlib import Path

import pytest

from chaos.fleet import SERVERS
from chaos.monkey import Plan
from chaos.permits import PERMITS
from chaos.rig import Options, Run, run

SEED = 20_261_121
REPLICATED = ("failover", "frozen master", "script flush", "client kill")


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


@pytest.mark.timeout(240)  # about 60 s on an idle machine
def test_clients_lose_nothing_whatever_happens_between_replicas_and_store(tmp_path: Path) -> None:
    """Promises 4, 10 and 12: every fault of the network and of one server, each once. No gap is permitted."""
    options = Options(
        seed=SEED, plan=Plan(kills=2, stop=True, rolling=0, faults=1), clients=8, events=60, think_seconds=0.5
    )
    state = asyncio.run(run(options, tmp_path / "chaos"))
    report = _report(state)
    assert not state.tally.violations, report
    replicated_only = {"failover", "frozen master", "moved slot"}
    assert _injected(state) == Counter(kind for kind in PERMITS if kind not in replicated_only)
    assert state.tally.store.gaps().total() == 0, report


@pytest.mark.timeout(240)  # about 60 s on an idle machine
def test_clients_lose_nothing_silently_when_masters_fail_and_slots_move(tmp_path: Path) -> None:
    """Promises 4, 5, 10 and 12, behind sentinels and on a cluster: what a failover loses is told, once."""
    sentinels, cluster = asyncio.run(_replicated(tmp_path))
    reports = "\n".join([_report(sentinels), _report(cluster)])
    assert not sentinels.tally.violations, reports
    assert not cluster.tally.violations, reports
    assert _injected(sentinels) == Counter(REPLICATED)
    assert _injected(cluster) == Counter([*REPLICATED, "moved slot"])


async def _replicated(folder: Path) -> tuple[Run, Run]:
    """Both at the same time: most of it is waiting for a master to be missed."""
    plan = Plan(kills=0, rolling=0, faults=1)
    behind = Options(
        seed=SEED, plan=plan, clients=4, events=40, replicas=2, official=1, think_seconds=1, store="sentinels"
    )
    among = Options(
        seed=SEED, plan=plan, clients=4, events=40, replicas=2, official=1, think_seconds=1, store="cluster"
    )
    return await asyncio.gather(run(behind, folder / "sentinels"), run(among, folder / "cluster"))


def _injected(state: Run) -> Counter[str]:
    return Counter(fault.kind for fault in state.tally.store.faults)


def _report(state: Run) -> str:
    report = state.report()
    print(f"seed {SEED}", report, sep="\n")
    return report

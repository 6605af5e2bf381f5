"""`python -m conformance.run`: the official suite against two replicas behind a per-request round robin.

`examples/everything.py` has to pass every check of both protocol versions, on one SQLite file and on a Valkey
server. `examples/fastmcp_app.py` may fail only those scenarios that FastMCP, alone in one process, fails in
the same run. Logs are left in build/conformance.
"""

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path

from conformance import servers, suite
from conformance.suite import REPOSITORY, Result
from holdfast.testing.round_robin import RoundRobinProxy

LEGACY, MODERN = "2025-11-25", "2026-07-28"
VERSIONS = (LEGACY, MODERN)
EVERYTHING, FASTMCP = "everything", "fastmcp"
TARGETS = {EVERYTHING: "examples.everything:mcp", FASTMCP: "examples.fastmcp_app:mcp"}
ALWAYS, AUTO = "always", "auto"
WANTED = {(LEGACY, ALWAYS): 84, (LEGACY, AUTO): 83, (MODERN, ALWAYS): 152, (MODERN, AUTO): 152}
"""By protocol and `--resumable`. With `auto`, the default, what is answered at once is answered with JSON:
one check then has no streams to look at, and the suite counts it as neither passed nor failed."""
REPLICAS = 2
SHOWN_FAILURES = 3
BUILD = REPOSITORY / "build" / "conformance"


@dataclass(frozen=True, slots=True)
class Requirement:
    """Something that has to be so, and whether it is."""

    text: str
    met: bool


@dataclass(slots=True)
class Report:
    """What was run and what came of it."""

    rows: list[tuple[str, ...]] = field(default_factory=list[tuple[str, ...]])
    requirements: list[Requirement] = field(default_factory=list[Requirement])

    def add(self, example: str, version: str, store: str, served: str, result: Result) -> None:
        failed = ", ".join(sorted(result.failed_scenarios)[:SHOWN_FAILURES]) or "-"
        if len(result.failed_scenarios) > SHOWN_FAILURES:
            failed += f" and {len(result.failed_scenarios) - SHOWN_FAILURES} more"
        self.rows.append((example, version, store, served, str(result.passed), str(result.failed), failed))

    def require(self, text: str, *, met: bool) -> None:
        self.requirements.append(Requirement(text, met))
        print(f"  {'ok  ' if met else 'FAIL'} {text}", flush=True)

    def table(self) -> Iterator[str]:
        head = ("example", "protocol", "store", "served by", "passed", "failed", "failed scenarios")
        widths = [max(len(row[column]) for row in (head, *self.rows)) for column in range(len(head))]
        for row in (head, *self.rows):
            yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


async def check_stock(report: Report, version: str) -> None:
    """The example in one process of the SDK's own, to see whether a failure is ours or the example's."""
    folder = _folder(EVERYTHING, "stock", version)
    async with servers.stock(TARGETS[EVERYTHING], folder) as port:
        result = await suite.run(_url(port), version, folder)
    report.add(EVERYTHING, version, "-", "stock, 1 process", result)
    _require_all(report, version, result)


async def check_everything(report: Report, version: str, stores: Sequence[str]) -> None:
    """Every check passes on replicas behind round robin, and on one without the proxy.

    The proxy takes off the blanks around header values, and would hide a server that leaves them on.
    """
    for store, resumable in product(stores, (ALWAYS, AUTO)):
        result = await _run_holdfast(report, EVERYTHING, version, store, resumable)
        _require_all(report, version, result, resumable)
    folder, kind = _folder(EVERYTHING, "direct", version), stores[0]
    alone = servers.replicas(TARGETS[EVERYTHING], folder, 1, "--resumable", ALWAYS, kind=kind)
    async with alone as [(_, port)]:
        result = await suite.run(_url(port), version, folder)
    report.add(EVERYTHING, version, kind, "holdfast, 1 process, no proxy", result)
    _require_all(report, version, result)


async def check_fastmcp(report: Report, version: str, stores: Sequence[str]) -> None:
    """Nothing fails on replicas behind round robin that does not fail in one process of FastMCP."""
    folder = _folder(FASTMCP, "stock", version)
    async with servers.stock(TARGETS[FASTMCP], folder) as port:
        baseline = await suite.run(_url(port), version, folder)
    report.add(FASTMCP, version, "-", "stock, 1 process", baseline)
    for store in stores:
        result = await _run_holdfast(report, FASTMCP, version, store)
        broken = sorted(result.failed_scenarios - baseline.failed_scenarios)
        report.require(
            f"no scenario fails that stock does not fail: {', '.join(broken) or 'none'}", met=not broken
        )
        report.require("the same scenarios ran on both", met=result.scenarios == baseline.scenarios)


async def _run_holdfast(
    report: Report, example: str, version: str, store: str, resumable: str = AUTO
) -> Result:
    folder = _folder(example, f"{store}-{resumable}", version)
    options = ("--resumable", resumable)
    fleet = servers.behind_round_robin(TARGETS[example], folder, REPLICAS, *options, kind=store)
    async with fleet as proxy:
        result = await suite.run(_url(proxy.port), version, folder)
        served = f"holdfast, {REPLICAS} processes, round robin, {resumable}"
        report.add(example, version, store, served, result)
        _require_alternation(report, proxy, folder)
    return result


def _require_all(report: Report, version: str, result: Result, resumable: str = ALWAYS) -> None:
    wanted = WANTED[version, resumable]
    said = f"the suite says {result.passed} passed, {result.failed} failed; wanted {wanted} and 0"
    report.require(said, met=(result.passed, result.failed) == (wanted, 0))
    report.require(f"the suite's exit status is {result.exit_status}", met=result.exit_status == 0)


def _require_alternation(report: Report, proxy: RoundRobinProxy, folder: Path) -> None:
    (folder / "proxy.log").write_text("\n".join(map(str, proxy.log)) + "\n")
    print("  " + proxy.summary().replace("\n", "\n  "), flush=True)
    scattered = len({each.backend for each in proxy.log}) == REPLICAS and not proxy.repeats()
    report.require("no two consecutive requests went to the same replica", met=scattered)


def _folder(example: str, served: str, version: str) -> Path:
    folder = BUILD / f"{example}-{served}-{version}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print(f"{example}, {version}, {served}", flush=True)
    return folder


def _url(port: int) -> str:
    return f"http://localhost:{port}/mcp"  # by this name: one scenario is about the Host of a local server


async def run_all(report: Report, options: argparse.Namespace) -> None:
    """Run what the options leave."""
    await suite.install()
    only: list[str] = options.only
    versions = [version for version in VERSIONS if version in only or not set(VERSIONS) & set(only)]
    examples = [example for example in TARGETS if example in only or not set(TARGETS) & set(only)]
    stores = [store for store in servers.STORES if options.store in (None, store)]
    checks = {EVERYTHING: check_everything, FASTMCP: check_fastmcp}
    for example, version in product([EVERYTHING] if options.stock else examples, versions):
        if options.stock:
            await check_stock(report, version)
        else:
            await checks[example](report, version, stores)


async def _until_signalled(report: Report, options: argparse.Namespace) -> None:
    """Let SIGTERM end the run the way Ctrl-C does: by unwinding, so that every process is stopped."""
    task = asyncio.ensure_future(run_all(report, options))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await task
        return
    report.require("the run was not interrupted", met=False)


def main() -> int:
    """Run, print the table, and say in numbers how it went."""
    parser = argparse.ArgumentParser(prog="python -m conformance.run", description=str(__doc__))
    parser.add_argument("--stock", action="store_true", help="everything.py in one process, without Holdfast")
    parser.add_argument("--only", action="append", default=[], choices=[*VERSIONS, *TARGETS])
    parser.add_argument("--store", choices=servers.STORES, help="default: all, one after the other")
    options = parser.parse_args()
    report, started = Report(), time.monotonic()
    try:
        asyncio.run(_until_signalled(report, options))
    except (servers.ServerError, suite.SuiteError) as error:
        report.require(f"the run gets to its end: {error}", met=False)
    print(
        "",
        *report.table(),
        "",
        f"{time.monotonic() - started:.0f} s; logs in {os.path.relpath(BUILD)}",
        sep="\n",
    )
    failed = sum(not each.met for each in report.requirements)
    print(f"{len(report.requirements) - failed} passed, {failed} failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())

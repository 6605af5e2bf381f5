"""The table at the end, and the histories of those who have something to complain of."""

import json
import shutil
from collections import Counter
from pathlib import Path
from typing import Any, Final

from chaos.fleet import Blow
from chaos.ledger import Diary, Kind, Tally
from chaos.permits import Fault

SHOWN_VIOLATIONS: Final = 20
_FIRST: Final = (
    "kills",
    "stops",
    "terminated",
    "events",
    "resumed",
    "connections cut",
    "hung up on purpose",
    "silent connections given up",
    "retried connections",
)
_KINDS: Final[tuple[Kind, ...]] = (
    "lost",
    "doubled",
    "order",
    "re-initialize",
    "unanswered",
    "late",
    "living",
    "failed",
    "gap",
    "wrong",
    "process",
)


def table(tally: Tally, diaries: list[Diary], seconds: float, lag_seconds: float) -> str:
    """Everything that was counted."""
    rows = [("seconds", f"{seconds:.0f}")]
    rows += [(name, f"{tally.counts[name]:,}") for name in _FIRST]
    rest = sorted(name for name in tally.counts if name not in _FIRST)
    rows += [(name, f"{tally.counts[name]:,}") for name in rest]
    gaps = tally.store.gaps()
    for kind, times in sorted(Counter(fault.kind for fault in tally.store.faults).items()):
        rows.append((f"fault of the store: {kind}", f"{times:,}, gaps told {gaps[kind]:,}"))
    acknowledged = sorted(diary.acknowledged for diary in diaries if diary.acknowledged >= 0)
    rows.append(("events read per client, fewest and most", f"{acknowledged[0]:,} {acknowledged[-1]:,}"))
    rows.append(("errors of dead replicas waited for", f"{len(tally.error_waits):,}"))
    rows.append(("longest wait for one, s", _longest(tally.error_waits)))
    rows.append(("the same with further kills and pauses, s", _longest(tally.raw_error_waits)))
    rows.append(("the rig's own longest lag, s", f"{lag_seconds:.2f}"))
    if tally.rolling_since is not None:
        rows.append(("rolling: failed calls", str(tally.of("failed"))))
    rows += [(f"VIOLATIONS {kind}", str(tally.of(kind))) for kind in _KINDS]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"  {name:<{width}}  {value:>10}" for name, value in rows)


def write_histories(folder: Path, diaries: list[Diary], tally: Tally) -> list[Path]:
    """The history of each client that a promise was broken to."""
    blamed = {violation.client for violation in tally.violations}
    written: list[Path] = []
    for diary in diaries:
        if diary.number in blamed:
            path = folder / f"client-{diary.number}.log"
            path.write_text(diary.text())
            written.append(path)
    return written


def write_blows(folder: Path, blows: list[Blow], faults: list[Fault], began: float) -> None:
    """What was done to whom and when, in the time of the histories."""
    lines = [f"{b.at - began:9.3f} {b.harm} {b.backend} until {b.end - began:.3f}\n" for b in blows]
    lines += [f"{f.at - began:9.3f} {f.kind} of the store until {f.end - began:.3f}\n" for f in faults]
    (folder / "blows.log").write_text("".join(sorted(lines)))


def write_json(folder: Path, options: dict[str, Any], tally: Tally, seconds: float) -> None:
    """The same for programs, in `report.json`."""
    faults = Counter(fault.kind for fault in tally.store.faults)
    gaps = tally.store.gaps()
    report = {
        "options": options,
        "seconds": round(seconds, 1),
        "counts": dict(tally.counts),
        "faults": {kind: {"injected": times, "gaps_told": gaps[kind]} for kind, times in faults.items()},
        "violations": {kind: tally.of(kind) for kind in _KINDS},
        "longest_wait_for_an_error_seconds": max(tally.error_waits, default=0.0),
    }
    (folder / "report.json").write_text(json.dumps(report, indent=1) + "\n")


def complaints(tally: Tally) -> str:
    """The first violations, in words."""
    shown = tally.violations[:SHOWN_VIOLATIONS]
    lines = [f"  {each.kind}: client {each.client}: {each.detail[:600]}" for each in shown]
    more = len(tally.violations) - len(shown)
    return "\n".join([*lines, *([f"  and {more} more"] if more else [])])


def fresh_folder(folder: Path) -> Path:
    """An empty folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _longest(waits: list[float]) -> str:
    return f"{max(waits):.1f}" if waits else "-"

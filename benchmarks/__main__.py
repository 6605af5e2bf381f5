"""`python -m benchmarks`: measure, print medians, keep everything in results/, renew docs/benchmarks.md.

`--quick` only looks whether all is well: it prints, and leaves the document alone. A goal that is not
reached is printed and not an error: figures of a busy machine say nothing.
"""

import argparse
import sys
import time
import traceback
from collections.abc import Mapping, Sequence

from benchmarks import record, tables
from benchmarks.line import ERROR, Bench, Goal, Line, Medians, Row
from benchmarks.lines import LINES

FULL = Bench(quick=False, rounds=3, seconds=1.5)
QUICK = Bench(quick=True, rounds=1, seconds=0.5)


def chosen(names: str | None) -> Sequence[Line]:
    """The lines that `--only` names, all without it."""
    if names is None:
        return LINES
    known = {line.name: line for line in LINES}
    if unknown := [name for name in names.split(",") if name not in known]:
        raise SystemExit(f"--only: no line {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names.split(",")]


def measure(line: Line, bench: Bench) -> tuple[Sequence[Row], bool]:
    """All rows of a line, reported as they come, and whether it came to its end."""
    rows: list[Row] = []
    try:
        for row in line.measure(bench):
            rows.append(row)
            figures = row.get(ERROR) or ", ".join(
                f"{row[name]:,} {name}" for name in line.figures if name in row
            )
            print(
                f"  {time.strftime('%H:%M:%S')} {tables.name(line, row)}: {figures}",
                file=sys.stderr,
                flush=True,
            )
    except Exception:  # noqa: BLE001 - what the others measured must not be lost; the exit status tells of it
        traceback.print_exc()
        return rows, False
    return rows, True


def document(
    run: Mapping[str, object], medians: Mapping[str, Medians], found: Mapping[str, list[Goal]]
) -> None:
    """Renew the tables of what was measured; those of other lines stay."""
    began = str(run["began"])
    sections = {
        line.name: f"{tables.table(line, medians[line.name])}\n\nMeasured {began}, commit {run['commit']}."
        for line in LINES
        if line.name in medians
    }
    if len(medians) == len(LINES):
        sections["goals"] = tables.goals(found)
    tables.write(sections)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, keep."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", metavar="NAME,...", help=", ".join(line.name for line in LINES))
    parser.add_argument("--quick", action="store_true", help="about three minutes instead of twenty")
    given = parser.parse_args(arguments)
    run, rows, began = record.facts(), dict[str, Sequence[Row]](), time.monotonic()
    broken: list[str] = []
    for line in chosen(given.only):
        print(f"{time.strftime('%H:%M:%S')} {line.name}", file=sys.stderr, flush=True)
        rows[line.name], whole = measure(line, QUICK if given.quick else FULL)
        broken += [] if whole else [line.name]
    medians = {line.name: Medians(line.keys, rows[line.name]) for line in LINES if line.name in rows}
    found = {line.name: list(line.goals(medians[line.name])) for line in LINES if line.name in rows}
    for line in LINES:
        if line.name in rows:
            print(f"\n{line.name}\n\n{tables.table(line, medians[line.name])}")
    print(f"\n{tables.goals(found)}\n\nkept in {record.keep(run, rows, quick=given.quick)}")
    print(f"{(time.monotonic() - began) / 60:.1f} minutes", file=sys.stderr)
    if not given.quick:
        document(run, medians, found)
    if broken:
        raise SystemExit(f"broke off: {', '.join(broken)}")


if __name__ == "__main__":
    main()

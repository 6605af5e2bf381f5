"""Says at the end of the run which test noticed which mutant."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows: list[tuple[str, list[str]]] = []
    for outcome in ("passed", "failed"):
        for report in terminalreporter.getreports(outcome):
            properties: dict[str, object] = dict(getattr(report, "user_properties", ()))
            if "mutant" in properties:
                rows.append((str(properties["mutant"]), str(properties["killed_by"]).split()))
    if not rows:
        return
    terminalreporter.section(f"{len(rows)} mutants and the tests that kill them")
    for mutant, killers in sorted(rows):
        first = killers[0] if killers else "SURVIVED"
        more = f" (+{len(killers) - 1})" if len(killers) > 1 else ""
        terminalreporter.write_line(f"{mutant:34} {first}{more}")

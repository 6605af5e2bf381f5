"""The SQLite backend agrees with the model, whatever is done in whatever order on two replicas."""

from __future__ import annotations

from itertools import count
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from holdfast.backends.sqlite import tail
from tests.conformance import sqlite_store
from tests.conformance.sqlite_store import SqliteStore
from tests.properties.machine import EventLogMachine


class SmallSqliteStore(SqliteStore):
    max_events = 8


@pytest.mark.timeout(600)
@pytest.mark.parametrize("folded_at", [5, tail.FOLDED_AT])
def test_the_sqlite_backend_agrees_with_the_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folded_at: int
) -> None:
    monkeypatch.setattr(tail, "FOLDED_AT", folded_at)
    monkeypatch.setattr(sqlite_store, "REAL_SECONDS", 0.0)  # nobody waits for hints here
    numbers = count()

    class OnSqlite(EventLogMachine):
        def __init__(self) -> None:
            super().__init__(lambda: SmallSqliteStore(tmp_path / f"{next(numbers)}.db"))

    run_state_machine_as_test(OnSqlite, settings=settings(max_examples=settings().max_examples // 4))

"""The same for the rules of the SQLite backend, on real files and in real time."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest

from tests.conformance.sqlite_store import SqliteStore
from tests.mutants.sqlite import MUTANTS, Mutant

pytestmark = pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)


def killers(mutant: Mutant, folder: Path) -> list[str]:
    """The tests that fail."""
    return [
        name for name in mutant.tests if _fails(mutant.suite, name, SqliteStore(folder / f"{name[:60]}.db"))
    ]


def test_a_mutant_is_noticed(
    mutant: Mutant,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    record_property: Callable[[str, object], None],
) -> None:
    assert killers(mutant, tmp_path) == []  # as it is, all is well
    mutant.breaks(monkeypatch)
    (tmp_path / "broken").mkdir()
    found = killers(mutant, tmp_path / "broken")
    record_property("mutant", f"sqlite: {mutant.name}")
    record_property("killed_by", " ".join(found))
    assert found, f"{mutant.name} survived {mutant.suite.__name__}: {mutant.breaks.__doc__}"


def _fails(suite: type, name: str, store: SqliteStore) -> bool:
    try:
        anyio.run(getattr(suite(), name), store)
    except (Exception, pytest.fail.Exception, BaseExceptionGroup):  # noqa: BLE001 - it fails, however
        return True
    return False


def test_it_names_tests_that_exist(mutant: Mutant) -> None:
    assert mutant.tests
    assert set(mutant.tests) <= {name for name, _ in inspect.getmembers(mutant.suite)}
    assert mutant.breaks.__doc__

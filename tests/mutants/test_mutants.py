"""A test suite that cannot fail proves nothing: each mutant breaks one promise, and a test must say so."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from holdfast.testing.conformance import ALL_SUITES
from tests.conformance.memory_store import MemoryStore
from tests.mutants import (
    broadcast_log,
    event_log,
    event_log_claims,
    event_log_lives,
    event_log_trimming,
    inbox,
    others,
    session_store,
    transfer,
)
from tests.mutants.catalogue import MUTANTS, Mutant
from tests.mutants.run import failing_tests

FILES = (
    broadcast_log,
    event_log,
    event_log_claims,
    event_log_lives,
    event_log_trimming,
    inbox,
    others,
    session_store,
    transfer,
)


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_noticed(mutant: Mutant, record_property: Callable[[str, object], None]) -> None:
    killers = failing_tests(mutant.suite, mutant.store)
    record_property("mutant", mutant.name)
    record_property("killed_by", " ".join(killers))
    assert killers, f"{mutant.name} survived {mutant.suite.__name__}: {mutant.part.__doc__}"


@pytest.mark.parametrize("suite", ALL_SUITES, ids=lambda suite: suite.__name__)
def test_the_backend_that_mutants_are_made_of_is_whole(suite: type) -> None:
    assert failing_tests(suite, MemoryStore) == []


def test_every_suite_has_mutants_and_every_mutant_says_what_is_wrong() -> None:
    assert {mutant.suite for mutant in MUTANTS} == set(ALL_SUITES)
    assert all(mutant.part.__doc__ for mutant in MUTANTS)
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS)
    assert {mutant.part.__module__ for mutant in MUTANTS} == {file.__name__ for file in FILES}

"""Whatever is done in whatever order on two replicas: each reader gets all of it, or is told.

Another backend is one test more: `run_state_machine_as_test(machine_on(lambda: ItsStore(url)))`.
"""

from __future__ import annotations

import pytest
from hypothesis import Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.conformance.memory_store import MemoryStore
from tests.mutants import event_log, event_log_claims, event_log_lives, event_log_trimming, inbox
from tests.mutants.catalogue import MutantStore
from tests.properties.machine import machine_on

BROKEN = (
    event_log.KeysIgnored,
    event_log.CursorJumpsToTheTop,
    event_log_lives.FencesIgnoreWhatWasLost,
    event_log_claims.DisplacesNobody,
    event_log_trimming.TrimsInSilence,
    event_log_trimming.TellsEverybody,
    inbox.AcceptedTwice,
)


class SmallMemoryStore(MemoryStore):
    max_events = 8


class SmallMutantStore(MutantStore):
    max_events = 8


@pytest.mark.guarantee("G1")
@pytest.mark.timeout(600)
def test_the_memory_backend_agrees_with_the_model() -> None:
    run_state_machine_as_test(machine_on(SmallMemoryStore))


@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", BROKEN)
def test_a_broken_backend_does_not(part: type) -> None:
    # Hypothesis also tries constants from whatever is imported, so no number of examples is sure to do. It
    # stops at the first failure, which mostly comes at once.
    first_failure_is_enough = settings(
        max_examples=20 * settings().max_examples, phases=[Phase.generate], report_multiple_bugs=False
    )
    machine = machine_on(lambda: SmallMutantStore(part))
    with pytest.raises(AssertionError):
        run_state_machine_as_test(machine, settings=first_failure_is_enough)

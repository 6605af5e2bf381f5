"""The main flows on a cluster and behind sentinels: the same tests as in the modules that they come from."""

import pytest

from tests.flows.apps import Framework
from tests.flows.conftest import Setup
from tests.flows.test_any_replica import *  # noqa: F403 - they are these tests
from tests.flows.test_resume import (
    test_a_finished_request_is_replayed_and_its_stream_ends,
    test_a_running_request_is_resumed_on_another_replica,
    test_a_stream_goes_from_replica_to_replica_without_gap_or_duplicate,
)

__all__ = [
    "test_a_finished_request_is_replayed_and_its_stream_ends",
    "test_a_running_request_is_resumed_on_another_replica",
    "test_a_stream_goes_from_replica_to_replica_without_gap_or_duplicate",
]


@pytest.fixture(params=(Setup("cluster"), Setup("sentinels")), ids=str)
def setup(request: pytest.FixtureRequest) -> Setup:
    """How these tests run."""
    chosen: Setup = request.param
    return chosen


@pytest.fixture
def framework() -> Framework:
    """One is enough here: the store does not know who serves."""
    return "sdk"

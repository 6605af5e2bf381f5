"""What every backend promises, as tests: one suite for each protocol of `holdfast.sessions.protocols`.

A backend author installs `holdfast[testing]`, and writes one fixture and one line per suite (see
`tests/conformance/test_memory.py`):

```python
import pytest
from holdfast.testing.conformance import EventLogSuite, StoreUnderTest

class MyStore(StoreUnderTest):
    def replica(self) -> Backend:            # a new replica on the same store; the suite enters and leaves it
        return MyBackend(url, prefix=self.prefix, max_events=self.max_events, max_bytes=self.max_bytes)

@pytest.fixture
def store() -> StoreUnderTest:               # a new and empty store for each test; may be async, may clean up
    return MyStore()

class TestEventLog(EventLogSuite): ...       # and so on: `ALL_SUITES` has the whole list
```

Everything else in `StoreUnderTest` has a default: time passes by sleeping, and `LivesSuite` is skipped where
the store has no way to simulate a failover. Bounds are small so that the suites reach them: build the
backends with `max_events` and `max_bytes` of the store.

Tests run under the pytest plugin of anyio, on asyncio and trio. A backend that is bound to one of them says
so with the plugin's own `anyio_backend` fixture.

What the suites settle where the protocols leave room:

* A key whose counter is lower than the last one of its writer in that stream is a `ValueError`: the record
  of what was stored under it is gone, so neither answer would be honest. Stored is nothing.
* A repeated key is answered before anything else is checked: the final event, sent twice, is no error.
* A position of the present epoch which the log has not reached cannot be honest: `PositionLost("epoch")`.
* `PositionLost.resume_offset` can be read from without a gap, if `resume_epoch` is not empty.
* The newest event is never trimmed, even if all others are responses or unanswered requests: else a live
  reader would be told of a gap at each event.
* A busy request stream leaves the standalone stream its newest few events.
* Taking the standalone stream again with the same reader token displaces nobody and does not wait.
* `Inbox.put` on a session that is gone is False.
* A gap names the requests in it that still wait (`PositionLost.unanswered`): they are trimmed last, so they
  may lie between what is gone.
* A full broadcast log keeps at least 63/64 of its bound.
* A session found by somebody else is untouched: its expiry does not slide.
"""

import pytest

# Before the suites are imported: their assertions then explain themselves, as those in test files do.
pytest.register_assert_rewrite(
    f"{__name__}.broadcast_log",
    f"{__name__}.bus",
    f"{__name__}.event_log",
    f"{__name__}.event_log_claims",
    f"{__name__}.event_log_lives",
    f"{__name__}.event_log_trimming",
    f"{__name__}.event_log_watching",
    f"{__name__}.harness",
    f"{__name__}.inbox",
    f"{__name__}.replicas",
    f"{__name__}.session_store",
    f"{__name__}.subscription_index",
    f"{__name__}.transfer",
)

from holdfast.testing.conformance.broadcast_log import (  # noqa: E402
    BroadcastLivesSuite,
    BroadcastLogSuite,
)
from holdfast.testing.conformance.bus import BusSuite  # noqa: E402
from holdfast.testing.conformance.event_log import EventLogSuite  # noqa: E402
from holdfast.testing.conformance.event_log_claims import ClaimSuite  # noqa: E402
from holdfast.testing.conformance.event_log_lives import LivesSuite  # noqa: E402
from holdfast.testing.conformance.event_log_trimming import TrimmingSuite  # noqa: E402
from holdfast.testing.conformance.event_log_watching import WatchSuite  # noqa: E402
from holdfast.testing.conformance.harness import Heard, StoreUnderTest  # noqa: E402
from holdfast.testing.conformance.inbox import InboxSuite  # noqa: E402
from holdfast.testing.conformance.replicas import ReplicaDirectorySuite  # noqa: E402
from holdfast.testing.conformance.session_store import SessionStoreSuite  # noqa: E402
from holdfast.testing.conformance.subscription_index import SubscriptionIndexSuite  # noqa: E402
from holdfast.testing.conformance.transfer import TransferSuite  # noqa: E402

__all__ = [
    "ALL_SUITES",
    "BroadcastLivesSuite",
    "BroadcastLogSuite",
    "BusSuite",
    "ClaimSuite",
    "EventLogSuite",
    "Heard",
    "InboxSuite",
    "LivesSuite",
    "ReplicaDirectorySuite",
    "SessionStoreSuite",
    "StoreUnderTest",
    "SubscriptionIndexSuite",
    "TransferSuite",
    "TrimmingSuite",
    "WatchSuite",
]

ALL_SUITES: tuple[type, ...] = (
    EventLogSuite,
    TrimmingSuite,
    WatchSuite,
    ClaimSuite,
    LivesSuite,
    BroadcastLogSuite,
    BroadcastLivesSuite,
    SessionStoreSuite,
    InboxSuite,
    BusSuite,
    SubscriptionIndexSuite,
    ReplicaDirectorySuite,
    TransferSuite,
)

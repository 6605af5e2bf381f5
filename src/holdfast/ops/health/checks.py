"""What is looked at, and what the answers mean. Nothing in a report is a secret: anybody may ask."""

import time
from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio

from holdfast.errors import HoldfastError
from holdfast.sessions.pulse import DEAD_AFTER_SECONDS
from holdfast.sessions.replica import Replica

__all__ = ["Report", "liveness", "readiness"]

PROBE_SECONDS: Final = 0.8
"""A report is there within a second, whatever the store does."""

MOST_LAG_SECONDS: Final = 5.0
"""One second more, and the other replicas take this one for dead."""

_MODES: Final = {
    "outage": "the store is away: running requests go on, new ones are refused",
    "fallback": "using memory fallback: the store was never reached, and nobody else has these sessions",
}
"""Why clients should be sent elsewhere."""

_LAG_SAMPLE_SECONDS: Final = 0.05


class Report:
    """What was found. It is good news unless there is a reason against it."""

    def __init__(self) -> None:
        self.reasons: list[str] = []
        self.checks: dict[str, Any] = {}

    def note(self, name: str, reason: str | None, **figures: float) -> None:
        """Enter one check; `reason` says what is wrong."""
        self.checks[name] = {"ok": reason is None, **{key: round(value, 4) for key, value in figures.items()}}
        if reason is not None:
            self.reasons.append(reason)


async def liveness(replica: Replica | None) -> Report:
    """Whether the event loop gets around. If it does not, only a restart helps."""
    report = Report()
    began = time.monotonic()
    await anyio.sleep(_LAG_SAMPLE_SECONDS)
    lag = time.monotonic() - began - _LAG_SAMPLE_SECONDS
    if replica is not None:
        lag = max(lag, replica.loop_lag_seconds)
    slow = f"the event loop was {lag:.1f} s late: a handler blocks it"
    report.note("event_loop", slow if lag > MOST_LAG_SECONDS else None, lag_seconds=lag)
    return report


async def readiness(replica: Replica | None) -> Report:
    """Whether to send clients here. If not, other replicas can serve them."""
    report = Report()
    if replica is None:
        report.note("serving", "the application has not started, or has ended")
        return report
    replica.drain.watched()
    report.note("draining", "this replica is shutting down" if replica.drain.begun else None)
    report.note("mode", _MODES.get(replica.condition.mode))
    since = time.monotonic() - replica.pulse.beat_at
    silent = f"the last heartbeat that the store took was {since:.0f} s ago"
    report.note("heartbeat", silent if since > DEAD_AFTER_SECONDS else None, seconds_ago=since)

    async def ask_store() -> None:
        await replica.backend.replicas.alive(replica.id)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_probe, report, "store", ask_store)
        tasks.start_soon(_probe, report, "announcements", replica.hear_itself)
    return report


async def _probe(report: Report, name: str, ask: Callable[[], Awaitable[object]]) -> None:
    began = time.monotonic()
    reason: str | None = f"{name}: no answer within {PROBE_SECONDS:g} s"
    with anyio.move_on_after(PROBE_SECONDS):
        try:
            await ask()
        except HoldfastError as error:
            reason = f"{name}: {type(error).__name__}"  # its text may say where the store is
        else:
            reason = None
    report.note(name, reason, seconds=time.monotonic() - began)

"""Everything that a health check looks at, within a deadline, and without any judgement."""

import re
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

import anyio

from holdfast.errors import HoldfastError, StoreRefused
from holdfast.sessions.condition import Condition
from holdfast.sessions.diagnosis import Diagnosis, StoreFacts
from holdfast.sessions.replica import Replica

__all__ = ["PROBE_SECONDS", "Examination", "Performance", "Probed", "examine", "probe", "without_places"]

PROBE_SECONDS: Final = 0.7
"""An answer is there within a second, whatever the store does."""

T = TypeVar("T")


@dataclass(slots=True)
class Probed:
    """What became of one question.

    Attributes:
        error: why there is no answer; empty if there is one.
        seconds: how long it took.
        refused: the store answered, and would not do it.
    """

    error: str = ""
    seconds: float = 0.0
    refused: bool = False

    @property
    def ok(self) -> bool:
        """Whether there is an answer."""
        return not self.error


@dataclass(frozen=True, slots=True)
class Performance:
    """How fast the last operations were, and what waits.

    Attributes:
        operations: how many of them the figures are of.
        p50_seconds: half of them took no longer; None without any.
        p99_seconds: nor did all but a hundredth.
        under_way: operations that wait for the store's answer.
    """

    operations: int = 0
    p50_seconds: float | None = None
    p99_seconds: float | None = None
    under_way: int = 0


@dataclass(slots=True)
class Examination:
    """What was found.

    Attributes:
        at: when, in seconds since 1970.
        mode: what kind of store it is.
        facts: what the store says of itself; None: it was not to be asked.
        asked: how asking it went.
        canary: how writing, reading back and removing went.
        announcements: how hearing ourselves through the store went.
        sessions: about how many are open; None: unknown.
        condition: how this process stands with the store.
        draining: this process is about to end.
        heartbeat_age_seconds: since the store took one.
        loop_lag_seconds: how late the event loop was.
        performance: of the store, as this process saw it.
    """

    mode: str
    at: float = field(default_factory=time.time)
    facts: StoreFacts | None = None
    asked: Probed = field(default_factory=Probed)
    canary: Probed = field(default_factory=Probed)
    announcements: Probed | None = None
    sessions: int | None = None
    condition: Condition = field(default_factory=Condition)
    draining: bool = False
    heartbeat_age_seconds: float = 0.0
    loop_lag_seconds: float = 0.0
    performance: Performance = field(default_factory=Performance)


async def probe(diagnosis: Diagnosis) -> Examination:
    """Look at a store alone."""
    found = Examination(diagnosis.mode)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_look_at_store, found, diagnosis)
    return found


async def examine(replica: Replica) -> Examination:
    """Look at a running replica and its store. All questions are asked at once."""
    found = Examination(replica.backend.diagnosis.mode)
    found.condition = replica.condition
    found.draining = replica.drain.begun
    found.heartbeat_age_seconds = time.monotonic() - replica.pulse.beat_at
    found.loop_lag_seconds = replica.loop_lag_seconds
    found.performance = _performance(replica)
    found.announcements = Probed()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_look_at_store, found, replica.backend.diagnosis)
        tasks.start_soon(_count, found, replica)
        tasks.start_soon(_bounded, found.announcements, replica.hear_itself)
    return found


async def _look_at_store(found: Examination, diagnosis: Diagnosis) -> None:
    async def ask() -> None:
        found.facts = await _bounded(found.asked, diagnosis.facts)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ask)
        tasks.start_soon(_bounded, found.canary, diagnosis.canary)


async def _count(found: Examination, replica: Replica) -> None:
    found.sessions = await _bounded(Probed(), replica.backend.sessions.count)


async def _bounded(probed: Probed, ask: Callable[[], Awaitable[T]]) -> T | None:
    began = time.monotonic()
    probed.error = f"no answer within {PROBE_SECONDS:g} s"
    answer: T | None = None
    with anyio.move_on_after(PROBE_SECONDS):
        try:
            answer = await ask()
        except HoldfastError as error:
            probed.error = without_places(str(error)) or type(error).__name__
            probed.refused = isinstance(error, StoreRefused)
        else:
            probed.error = ""
    probed.seconds = time.monotonic() - began
    return answer


def without_places(text: str) -> str:
    """`text` without URLs and paths: anybody may read a health check, and they say where things are."""
    text = re.sub(r"[a-z][a-z+-]*://[^\s,;)]+", "the store", text)
    return re.sub(r"(?<![\w.])/[^\s,;:)]+", "the file", text)


def _performance(replica: Replica) -> Performance:
    took = sorted(replica.breaker.seconds)
    if not took:
        return Performance(under_way=replica.breaker.under_way)
    last = len(took) - 1
    return Performance(len(took), took[last // 2], took[round(last * 0.99)], replica.breaker.under_way)

"""What a finding means: how bad it is, what to say, and what to do about it. One rule each, no counting."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from holdfast.ops.health.examination import Examination
from holdfast.sessions.diagnosis import StoreFacts
from holdfast.sessions.pulse import DEAD_AFTER_SECONDS

__all__ = ["FALLBACK", "NO_CANARY", "NO_REDIS", "NO_SESSION", "Finding", "Status", "judge", "status_of"]

Status: TypeAlias = Literal["healthy", "degraded", "unhealthy", "error"]

_WORST_FIRST: Final[tuple[Status, ...]] = ("error", "unhealthy", "degraded", "healthy")

NO_SESSION: Final = "No active session detected"
FALLBACK: Final = "Using memory fallback instead of Redis"
NO_REDIS: Final = "Redis connection unavailable"
NO_CANARY: Final = "Session storage test failed"

_SLOW_SECONDS: Final = 0.1
_MOST_SKEW_SECONDS: Final = 2.0
_MOST_LAG_SECONDS: Final = 5.0
_MOST_LAG_BYTES: Final = 2**20
_LITTLE_ROOM_BYTES: Final = 64 * 2**20
_NEARLY_FULL: Final = 0.9
_LATE_LOOP_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        severity: what the whole is at best, with this.
        warning: what is wrong.
        advice: what to do.
    """

    severity: Status
    warning: str
    advice: str = ""


def status_of(findings: list[Finding]) -> Status:
    """The worst of them."""
    severities = {each.severity for each in findings}
    for status in _WORST_FIRST:
        if status in severities:
            return status
    return "healthy"


def judge(found: Examination) -> list[Finding]:
    """All that is wrong, the worst first."""
    findings = [*_of_process(found), *_of_store(found)]
    if found.facts is not None:
        for rule in _OF_FACTS:
            findings += rule(found.facts)
    return sorted(findings, key=lambda each: _WORST_FIRST.index(each.severity))


def _of_process(found: Examination) -> Iterator[Finding]:
    condition = found.condition
    if condition.mode == "fallback":
        yield Finding(
            "degraded",
            FALLBACK,
            "Start Redis, or correct its URL: sessions are in the memory of this process only, and are lost "
            "when it ends",
        )
    elif condition.mode == "outage":
        away = found.at - (condition.since or found.at)
        yield Finding(
            "unhealthy",
            f"The store has been away for {away:.0f} s: {condition.events_at_risk} events of "
            f"{condition.sessions_at_risk} sessions wait in this process",
            "Bring the store back; do not restart this process before that",
        )
    if found.draining:
        yield Finding("degraded", "This replica is shutting down", "Nothing: clients go to other replicas")
    if found.condition.mode == "normal" and found.heartbeat_age_seconds > DEAD_AFTER_SECONDS:
        yield Finding(
            "degraded",
            f"The last heartbeat that the store took was {found.heartbeat_age_seconds:.0f} s ago",
            "Other replicas take this one for dead: look whether its event loop or the store is overloaded",
        )
    if found.loop_lag_seconds > _LATE_LOOP_SECONDS:
        yield Finding(
            "degraded",
            f"The event loop was {found.loop_lag_seconds:.1f} s late",
            "A handler blocks it: let it await, or run it in a thread",
        )


def _of_store(found: Examination) -> Iterator[Finding]:
    is_redis = found.mode in {"redis", "sentinel", "cluster"}
    if not found.asked.ok:
        advice = "Check if Redis is running: redis-cli ping" if is_redis else "Look at the server's log"
        if found.asked.refused:
            advice = "Correct what the store refused; the server's log says more"
        yield Finding("unhealthy", NO_REDIS if is_redis else "Session store unavailable", advice)
    if not found.canary.ok:
        advice = "Check Redis permissions: redis-cli ACL LIST, and its memory: redis-cli info memory"
        yield Finding("unhealthy", NO_CANARY, advice if is_redis else found.canary.error)
    slowest = max(found.asked.seconds, found.canary.seconds)
    if found.asked.ok and found.canary.ok and slowest > _SLOW_SECONDS:
        yield Finding(
            "degraded",
            f"The store is slow: {slowest * 1000:.0f} ms for one answer",
            "Look at redis-cli --latency and SLOWLOG, and at the way to it"
            if is_redis
            else "Look at the disk",
        )
    if found.asked.ok and found.announcements is not None and not found.announcements.ok:
        yield Finding(
            "degraded",
            "Announcements do not come back through the store",
            "Streams go on, late: look whether PUBLISH and SUBSCRIBE are permitted (ACL channels)",
        )


def _eviction(facts: StoreFacts) -> Iterator[Finding]:
    evicting = facts.maxmemory_policy not in {None, "noeviction"}
    if facts.evicted_keys:
        yield Finding(
            "degraded",
            f"The store has evicted {facts.evicted_keys} keys: sessions may be lost without a trace",
            "Set maxmemory-policy noeviction, and give it more memory",
        )
    elif evicting and facts.maxmemory_bytes:
        yield Finding(
            "degraded",
            f"The store evicts keys when memory is short (maxmemory-policy {facts.maxmemory_policy})",
            "Set maxmemory-policy noeviction: live sessions would be lost without a trace",
        )
    elif evicting:
        yield Finding(
            "healthy",
            f"The eviction policy is {facts.maxmemory_policy}; without maxmemory nothing is evicted",
            "Set maxmemory-policy noeviction before maxmemory is set",
        )


def _memory(facts: StoreFacts) -> Iterator[Finding]:
    used, most = facts.used_memory_bytes, facts.maxmemory_bytes
    if used and most and used > most * _NEARLY_FULL:
        yield Finding(
            "degraded",
            f"The store's memory is {used / most:.0%} full",
            "Raise maxmemory, or lower SESSION_TTL or MAX_EVENTS_PER_SESSION",
        )


def _persistence(facts: StoreFacts) -> Iterator[Finding]:
    if facts.last_save_failed:
        yield Finding(
            "unhealthy", "The store cannot save its data", "Look for a full disk or missing rights in its log"
        )
    elif facts.append_only is False and facts.snapshots is False:
        yield Finding(
            "degraded",
            "The store has no persistence: its restart loses all sessions",
            "Set appendonly yes",
        )
    elif facts.append_only is False and facts.snapshots is None:
        yield Finding(
            "healthy",
            "No append-only file; whether snapshots are saved is unknown (CONFIG GET is not permitted)",
            "Set appendonly yes, so that a restart loses a second at most",
        )


def _replication(facts: StoreFacts) -> Iterator[Finding]:
    silent, behind = facts.replica_lag_seconds or 0, facts.replica_lag_bytes or 0
    if silent > _MOST_LAG_SECONDS or behind > _MOST_LAG_BYTES:
        yield Finding(
            "degraded",
            f"A replica of the store is behind ({silent:.0f} s, {behind / 2**20:.1f} MB)",
            "A failover to it would lose what it does not have: look at the replica and the network",
        )


def _clock(facts: StoreFacts) -> Iterator[Finding]:
    skew = facts.clock_skew_seconds or 0.0
    if abs(skew) > _MOST_SKEW_SECONDS:
        where = "ahead of" if skew > 0 else "behind"
        yield Finding(
            "degraded",
            f"The store's clock is {abs(skew):.1f} s {where} this machine's",
            "Synchronise both with NTP: ages and times in logs cannot be compared",
        )


def _disk(facts: StoreFacts) -> Iterator[Finding]:
    if facts.free_bytes is not None and facts.free_bytes < _LITTLE_ROOM_BYTES:
        yield Finding(
            "degraded",
            f"The disk of the store has {facts.free_bytes / 2**20:.0f} MB left",
            "Make room: sessions cannot be stored on a full disk",
        )


_OF_FACTS: Final[tuple[Callable[[StoreFacts], Iterator[Finding]], ...]] = (
    _eviction,
    _memory,
    _persistence,
    _replication,
    _clock,
    _disk,
)

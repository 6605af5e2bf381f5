"""A health check as data and as text: every field of the persistence guide under its name, and ours."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import Any, Final

from holdfast.ops.health.examination import Examination
from holdfast.ops.health.rules import NO_SESSION, Finding, judge, status_of
from holdfast.sessions.types import SessionId, shorten

__all__ = ["error_report", "render", "report"]

_EMOJI: Final = {"healthy": "✅", "degraded": "⚠️", "unhealthy": "❌", "error": "🚨"}
_REDIS: Final = frozenset({"redis", "sentinel", "cluster"})
_MANY_SESSIONS: Final = 10_000


def report(
    found: Examination, *, session: SessionId | None = None, asked_by_client: bool = True
) -> dict[str, Any]:
    """The check as data. No secret is in it: anybody who may call a tool reads it, and so does a model.

    Args:
        found: what was looked at.
        session: of the client that asks.
        asked_by_client: it is a client; so that it has no session is worth a word.
    """
    findings = judge(found)
    if asked_by_client and session is None:
        findings.append(
            Finding("healthy", NO_SESSION, "Nothing, if the client speaks 2026-07-28: it needs no session")
        )
    facts = asdict(found.facts) if found.facts is not None else {}
    is_redis = found.mode in _REDIS
    status = status_of(findings)
    condition = found.condition
    return {
        "overall_status": status,
        "timestamp": _time(found.at),
        "session_store_type": {"fallback": "memory", "outage": "spool"}.get(condition.mode, found.mode),
        "session_active": session is not None,
        "current_session_id": shorten(session) if session is not None else None,
        "session_id_length": len(session) if session is not None else 0,
        "session_warning": NO_SESSION if asked_by_client and session is None else None,
        "session_count": found.sessions,
        "memory_sessions": found.sessions if found.mode == "memory" else condition.sessions_at_risk,
        "redis_available": found.asked.ok if is_redis else None,
        "redis_connected": (found.asked.ok and found.canary.ok) if is_redis else None,
        "redis_info": _redis_info(facts) if is_redis and facts else None,
        "redis_error": (found.asked.error or found.canary.error or None) if is_redis else None,
        "using_fallback": condition.mode == "fallback",
        "mode": {**asdict(condition), "since": _time(condition.since)},
        "store": {**facts, "error": found.asked.error or None},
        "test_store_success": found.canary.ok,
        "test_store_error": found.canary.error or None,
        "test_store_seconds": round(found.canary.seconds, 4),
        "announcements": _announcements(found),
        "draining": found.draining,
        "heartbeat_age_seconds": round(found.heartbeat_age_seconds, 1),
        "event_loop_lag_seconds": round(found.loop_lag_seconds, 3),
        "performance": asdict(found.performance),
        "warnings": [finding.warning for finding in findings],
        "recommendations": list(_recommendations(findings, found)),
        "error": None,
    }


def error_report(error: Exception) -> dict[str, Any]:
    """What is left to say when the check itself failed."""
    advice = "This is a defect of Holdfast or of a backend: the server's log has the traceback"
    return {
        "overall_status": "error",
        "error": type(error).__name__,
        "warnings": ["The health check failed"],
        "recommendations": [advice],
    }


def render(data: dict[str, Any]) -> str:
    """The check as the text that the guide shows."""
    status: str = data["overall_status"]
    lines = [f"{_EMOJI.get(status, '❓')} Session Health Status: {status.upper()}"]
    if "session_store_type" in data:
        lines += _sections(data)
    lines += _listed("⚠️ Warnings:", data["warnings"])
    lines += _listed("💡 Recommendations:", data["recommendations"])
    if data["error"]:
        lines += ["", "Error Details:", f"- {data['error']}"]
    return "\n".join(lines)


def _sections(data: dict[str, Any]) -> Iterator[str]:
    store = data["store"]
    product = " ".join(part for part in (store.get("product"), store.get("version")) if part)
    yield from ("", "Core Information:")
    yield f"- Session Store: {data['session_store_type']}" + (f" ({product})" if product else "")
    yield f"- Session Active: {_word(data['session_active'])}"
    if data["current_session_id"]:
        yield f"- Current Session ID: {data['current_session_id']}"
    yield f"- Total Sessions: {_word(data['session_count'])}"
    if data["draining"]:
        yield "- Draining: true"
    yield ""
    if data["redis_connected"] is None:
        yield from ("Store Information:", f"- Reachable: {_word(store['error'] is None)}")
        for name, label in (("file_bytes", "File"), ("wal_bytes", "Log"), ("free_bytes", "Disk Free")):
            if store.get(name) is not None:
                yield f"- {label}: {_size(store[name])}"
    else:
        yield from _redis_section(data, store)
    yield f"- Using Fallback: {_word(data['using_fallback'])}"
    yield ""
    yield f"Storage Test: {'✅ PASS' if data['test_store_success'] else '❌ FAIL'}"
    if data["test_store_error"]:
        yield f"- {data['test_store_error']}"
    yield from _performance_section(data["performance"])


def _redis_section(data: dict[str, Any], store: dict[str, Any]) -> Iterator[str]:
    yield "Redis Information:"
    yield f"- Redis Available: {_word(data['redis_available'])}"
    yield f"- Redis Connected: {_word(data['redis_connected'])}"
    if data["redis_info"]:
        yield f"- Connected Clients: {_word(store['connected_clients'])}"
        yield f"- Memory Used: {_size(store['used_memory_bytes'])}"
        yield f"- Latency: {store['latency_seconds'] * 1000:.1f} ms"
    if data["redis_error"]:
        yield f"- Redis Error: {data['redis_error']}"


def _performance_section(performance: dict[str, Any]) -> Iterator[str]:
    if performance["operations"]:
        half, most = performance["p50_seconds"] * 1000, performance["p99_seconds"] * 1000
        yield from ("", "Performance:")
        yield (
            f"- Store operations: p50 {half:.1f} ms, p99 {most:.1f} ms (the last {performance['operations']})"
        )
        yield f"- Under way: {performance['under_way']}"


def _redis_info(facts: dict[str, Any]) -> dict[str, Any]:
    return {
        "connected_clients": facts["connected_clients"],
        "used_memory": _size(facts["used_memory_bytes"]),
        "uptime": facts["uptime_seconds"],
        "role": facts["role"],
        "maxmemory": facts["maxmemory_bytes"],
        "maxmemory_policy": facts["maxmemory_policy"],
        "evicted_keys": facts["evicted_keys"],
        "aof_enabled": facts["append_only"],
        "replica_lag_seconds": facts["replica_lag_seconds"],
    }


def _announcements(found: Examination) -> dict[str, Any] | None:
    probed = found.announcements
    if probed is None:
        return None
    return {"ok": probed.ok, "seconds": round(probed.seconds, 4), "error": probed.error or None}


def _recommendations(findings: Sequence[Finding], found: Examination) -> Iterator[str]:
    yield from dict.fromkeys(finding.advice for finding in findings if finding.advice)
    if (found.sessions or 0) > _MANY_SESSIONS:
        yield "There are many sessions: a shorter SESSION_TTL frees those that nobody uses sooner"
    if status_of(list(findings)) == "healthy":
        if found.mode == "memory":
            yield "Sessions end with this process: choose sqlite:// or redis:// to keep them"
            return
        yield "Session persistence is working correctly"
        if found.mode in _REDIS:
            yield "Consider setting up Redis backup for production use"


def _listed(title: str, lines: Sequence[str]) -> Iterator[str]:
    if lines:
        yield from ("", title)
        yield from (f"- {line}" for line in lines)


def _word(value: object) -> str:
    return "unknown" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _size(size: float | None) -> str:
    """As Redis writes it: `1.2M`."""
    if size is None:
        return "unknown"
    for unit in ("B", "K", "M"):
        if size < 1024:  # noqa: PLR2004 - a kilobyte
            return f"{size:.0f}{unit}" if unit == "B" else f"{size:.1f}{unit}"
        size /= 1024
    return f"{size:.1f}G"


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")

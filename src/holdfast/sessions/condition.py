"""How this process stands with its store, for whoever asks: health, readiness, an operator."""

from dataclasses import dataclass
from typing import Literal, TypeAlias

__all__ = ["Condition", "Mode"]

Mode: TypeAlias = Literal["normal", "outage", "fallback"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """What can be lost right now, and why.

    Attributes:
        mode: `normal`; `outage`: the store was there and does not answer; `fallback`: it was never reached
            since the start, and sessions are in the memory of this process.
        since: when that began, in seconds since 1970; None while normal.
        reason: what the store did last, without anything that says where it is.
        events_at_risk: events that are in this process only, and are lost if it ends now.
        bytes_at_risk: how large those are.
        sessions_at_risk: how many sessions they belong to.
    """

    mode: Mode = "normal"
    since: float | None = None
    reason: str = ""
    events_at_risk: int = 0
    bytes_at_risk: int = 0
    sessions_at_risk: int = 0

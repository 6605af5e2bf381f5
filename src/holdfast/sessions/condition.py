"""How this process stands with its store, for whoever asks: health, readiness, an operator."""

from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, runtime_checkable

__all__ = ["Condition", "Mode", "Standing"]

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


@runtime_checkable
class Standing(Protocol):
    """A backend that may serve from memory for want of its store."""

    @property
    def fallback_since(self) -> float | None:
        """When that began, in seconds since 1970; None: the store serves."""
        ...

    @property
    def sessions_in_memory(self) -> int:
        """About how many sessions end if this process does now."""
        ...

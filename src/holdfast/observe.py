"""What an onlooker may see of the promises: each method of `Observer` is called when that thing happens."""

import logging
from collections.abc import Callable
from typing import Any, Final

__all__ = ["NOBODY", "Observer", "contained"]

logger = logging.getLogger("holdfast")


class Observer:
    """Override what you want to see; each method does nothing by default.

    Methods are called on the event loop, in the middle of the work: they must not block. What they raise is
    logged and changes nothing. Session ids are given whole; they let whoever knows them speak for a client,
    so write no more than their first characters to logs and metrics.
    """

    def session_opened(self, session: str) -> None:
        """A client was given a session on this replica."""

    def session_ended(self, session: str) -> None:
        """A session was deleted, or turned out to have expired, while this replica had it in use."""

    def stream_opened(self, session: str, stream: str) -> None:
        """A client reads a stream here. `stream` is empty for the standalone one."""

    def stream_closed(self, session: str, stream: str) -> None:
        """It does not any more. As many as were opened, so that the difference is what is open."""

    def appended(self, session: str, stream: str, size_bytes: int, seconds: float) -> None:
        """An event is in the store. `seconds` is how long the store took."""

    def resumed(self, session: str, stream: str, events: int) -> None:
        """A client came back with an event id, and was sent `events` at once that it had missed."""

    def gap_told(self, session: str, stream: str, reason: str) -> None:
        """A client was told that events are lost, as `PositionLost.reason` says why."""

    def taken_over(self, session: str) -> None:
        """The standalone stream went from one reader to a newer one."""

    def hint_missed(self, session: str) -> None:
        """The regular comparison found events that no announcement told of. They are read now."""

    def orphan_ended(self, session: str, stream: str, replica: str) -> None:
        """A stream was ended with an error here, since `replica`, which ran its handler, is dead."""

    def store_failed(self, operation: str, error: Exception) -> None:
        """The store failed one operation. The session and the process go on."""

    def store_mode(self, mode: str) -> None:
        """From now on the store is away (`outage`), or is there again (`normal`)."""

    def spooled(self, session: str, stream: str, size_bytes: int) -> None:
        """The store was away, so an event waits here. Connected clients were given it without an id."""

    def flushed(self, session: str, stream: str) -> None:
        """An event that waited is stored."""

    def loop_lagged(self, seconds: float) -> None:
        """By how much the event loop was late just now. Called about once a second, with 0 and up."""


NOBODY: Final = Observer()
"""Sees nothing."""

_SEEN: Final = tuple(name for name in vars(Observer) if not name.startswith("_"))


class _Contained(Observer):
    """Calls another observer and logs what it raises."""

    def __init__(self, observer: Observer) -> None:
        for name in _SEEN:
            setattr(self, name, _contain(getattr(observer, name)))


def contained(observer: Observer | None) -> Observer:
    """`observer` with its errors logged instead of raised; without one, one that sees nothing."""
    if observer is None:
        return NOBODY
    return observer if isinstance(observer, _Contained) else _Contained(observer)


def _contain(method: Callable[..., None]) -> Callable[..., None]:
    def call(*args: Any) -> None:
        try:
            method(*args)
        except Exception:
            logger.exception("an observer failed")

    return call

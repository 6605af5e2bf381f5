"""Which event goes next when a session's log is full."""

from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from holdfast.sessions.types import STANDALONE, StreamId

__all__ = ["Entry", "TrimOrder"]


@dataclass(slots=True, eq=False)
class Entry:
    """One stored event. Its epoch is the log's, so that it survives a change of it.

    Attributes:
        precious: a final event, or a request to the client that waits for its answer.
        kept: it has not been dropped. The heaps below find out only when they come across it.
    """

    offset: int
    stream: StreamId
    previous: int
    payload: bytes
    final: bool
    precious: bool
    kept: bool = True

    def __lt__(self, other: "Entry") -> bool:
        return self.offset < other.offset


class TrimOrder:
    """The events of one log in the order in which they may be dropped.

    1. the oldest ordinary event, but not one of the last `max_events // 8` of the standalone stream;
    2. the oldest ordinary event of the standalone stream;
    3. the oldest precious event.

    Precious events fill at most half of the room; the oldest ones beyond that are ordinary again. Without
    that, a session with many answered requests would have no room left for anything else.

    The newest event is never dropped, however big it is: a log holds at least what was said last.
    """

    def __init__(self, *, max_events: int, max_bytes: int) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._events = self._bytes = 0
        self._precious_events = self._precious_bytes = 0
        self._ordinary_standalone = 0
        self._requests: list[Entry] = []
        self._standalone: list[Entry] = []
        self._precious: list[Entry] = []

    def add(self, entry: Entry) -> None:
        """Count a new event in."""
        self._events += 1
        self._bytes += len(entry.payload)
        if not entry.precious:
            self._add_ordinary(entry)
            return
        self._precious_events += 1
        self._precious_bytes += len(entry.payload)
        self._push(self._precious, entry)
        while self._too_precious() and (oldest := _peek(self._precious, precious=True)):
            self.settle(oldest)

    def settle(self, entry: Entry) -> None:
        """A precious event becomes an ordinary one of its age."""
        if entry.kept and entry.precious:
            self._forget_precious(entry)
            entry.precious = False
            self._add_ordinary(entry)

    def drop(self, entry: Entry) -> None:
        """Count an event out."""
        if not entry.kept:
            return
        entry.kept = False
        self._events -= 1
        self._bytes -= len(entry.payload)
        if entry.precious:
            self._forget_precious(entry)
        elif entry.stream == STANDALONE:
            self._ordinary_standalone -= 1

    def next(self, newest: int) -> Entry | None:
        """The event to be dropped now, or None: there is room enough, or only the newest is left."""
        if self._events <= self._max_events and self._bytes <= self._max_bytes:
            return None
        requests = _peek(self._requests, precious=False)
        standalone = _peek(self._standalone, precious=False)
        first = [requests, standalone if self._ordinary_standalone > self._max_events // 8 else None]
        for choice in (first, [standalone], [_peek(self._precious, precious=True)]):
            old = [entry for entry in choice if entry is not None and entry.offset != newest]
            if old:
                return min(old)
        return None

    def _add_ordinary(self, entry: Entry) -> None:
        if entry.stream == STANDALONE:
            self._ordinary_standalone += 1
            self._push(self._standalone, entry)
        else:
            self._push(self._requests, entry)

    def _push(self, heap: list[Entry], entry: Entry) -> None:
        heappush(heap, entry)
        if len(heap) > 2 * self._max_events:
            # Behind an old event that stays, leftovers would pile up.
            heap[:] = [other for other in heap if other.kept and other.precious is entry.precious]
            heapify(heap)

    def _forget_precious(self, entry: Entry) -> None:
        self._precious_events -= 1
        self._precious_bytes -= len(entry.payload)

    def _too_precious(self) -> bool:
        return self._precious_events > self._max_events // 2 or self._precious_bytes > self._max_bytes // 2


def _peek(heap: list[Entry], *, precious: bool) -> Entry | None:
    while heap:
        entry = heap[0]
        if entry.kept and entry.precious is precious:
            return entry
        heappop(heap)
    return None

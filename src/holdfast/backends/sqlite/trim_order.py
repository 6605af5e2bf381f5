"""Which events go when a session's log is full."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from holdfast.sessions.types import STANDALONE

__all__ = ["Entry", "few", "victims"]

_STANDALONE: Final = STANDALONE.encode()


@dataclass(slots=True, eq=False)
class Entry:
    """One stored event without its payload.

    Attributes:
        row: its id in the table.
        precious: a final event, or a request to the client that waits for its answer.
        key: writer and counter, if it was appended under a key.
    """

    row: int
    offset: int
    stream: bytes
    previous: int
    size: int
    final: bool
    precious: bool
    key: tuple[bytes, int] | None


def few(most: int) -> int:
    """How much is left when a log of at most `most` was full: less, so that few appends must trim."""
    return most - most // 32


def victims(entries: Iterable[Entry], *, newest: int, max_events: int, max_bytes: int) -> list[Entry]:
    """The events to be dropped from a full log, in the order in which they go.

    1. the oldest ordinary events, but not the last `max_events // 8` of the standalone stream;
    2. the oldest ordinary events of the standalone stream;
    3. the oldest precious events.

    Precious events fill at most half of the room; the oldest ones beyond that are ordinary from now on. The
    newest event always stays: a log holds at least what was said last.
    """
    kept = list(entries)
    _make_ordinary(kept, max_events // 2, max_bytes // 2)
    events, size = len(kept) - few(max_events), sum(entry.size for entry in kept) - few(max_bytes)
    gone: list[Entry] = []
    for entry in _in_order(kept, max_events // 8):
        if events <= 0 and size <= 0:
            break
        if entry.offset != newest:
            gone.append(entry)
            events -= 1
            size -= entry.size
    return gone


def _make_ordinary(entries: list[Entry], most: int, most_bytes: int) -> None:
    precious = [entry for entry in entries if entry.precious]
    number, size = len(precious), sum(entry.size for entry in precious)
    for entry in precious:
        if number <= most and size <= most_bytes:
            return
        entry.precious = False
        number -= 1
        size -= entry.size


def _in_order(entries: list[Entry], share: int) -> Iterable[Entry]:
    standalone = [entry for entry in entries if entry.stream == _STANDALONE and not entry.precious]
    reserved = standalone[-share:] if share else []
    held_back = {entry.offset for entry in reserved}
    yield from (entry for entry in entries if not entry.precious and entry.offset not in held_back)
    yield from reserved
    yield from (entry for entry in entries if entry.precious)

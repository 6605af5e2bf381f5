"""What the writer remembers of one session's log: everything but the payloads."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from holdfast.backends.sqlite.trim_order import Entry

__all__ = ["Accepted", "SessionLog", "Stream"]

WRITERS_REMEMBERED: Final = 64
"""Per stream. A writer is one life of one replica: the standalone stream may see many."""


@dataclass(slots=True)
class Accepted:
    """What was stored under the last key of a writer."""

    counter: int
    offset: int
    previous: int
    final: bool


@dataclass(slots=True)
class Stream:
    """What is known of one stream; see the table `streams`.

    Attributes:
        last: offset of its newest event, kept or not.
        accepted: the last key of each writer.
    """

    name: bytes
    last: int = 0
    trimmed: int = 0
    closed: bool = False
    accepted: OrderedDict[bytes, Accepted] = field(default_factory=OrderedDict[bytes, Accepted])

    def note(self, offset: int, previous: int, key: tuple[bytes, int] | None, *, final: bool) -> None:
        """An event is stored; perhaps one that is older than what is known."""
        self.last = max(self.last, offset)  # a newer one may have been dropped
        if final:
            self.closed = True
        if key is not None:
            self.remember(*key, offset, previous, final=final)

    def remember(self, writer: bytes, counter: int, offset: int, previous: int, *, final: bool) -> None:
        """Note a key of a writer, if it is the last one."""
        known = self.accepted.get(writer)
        if known is None:
            self.accepted[writer] = Accepted(counter, offset, previous, final)
            if len(self.accepted) > WRITERS_REMEMBERED:
                self.accepted.popitem(last=False)
        elif counter > known.counter:
            known.counter, known.offset, known.previous, known.final = counter, offset, previous, final
            self.accepted.move_to_end(writer)


@dataclass(slots=True)
class SessionLog:
    """A session as it is in the file, and as this transaction is about to change it.

    Attributes:
        life: of the file, when `epoch` began.
        last: row of the newest event.
        trims: how often events were dropped. Another number in the file: somebody else did it.
        seen: which change of the file by somebody else this has taken in; see `SessionCache`.
        events: how many are kept.
        size: bytes of their payload.
        entries: what is kept, by offset; None: not known. It is needed only to trim.
        weighed: its `weight` as the cache last counted it; 0: never.
    """

    no: int
    id: str
    ttl_ms: int
    expires_at: int
    epoch: str
    life: str
    fences: list[tuple[str, int]]
    top: int
    last: int
    trims: int
    events: int
    size: int
    seen: int
    streams: dict[bytes, Stream] = field(default_factory=dict[bytes, Stream])
    entries: dict[int, Entry] | None = None
    weighed: int = 0

    @property
    def weight(self) -> int:
        """About how much memory this takes, in events."""
        return 1 + len(self.streams) + (len(self.entries) if self.entries is not None else 0)

    def grow(self, row: int, size: int) -> None:
        """Note a new event."""
        self.events += 1
        self.size += size
        self.top += 1
        self.last = row

    def settle(self, offset: int) -> None:
        """The request to the client at `offset` needs no answer any more: it is trimmed by its age.

        Other processes may go on to keep it: they learn of it when they read the session anew.
        """
        entry = None if self.entries is None else self.entries.get(offset)
        if entry is not None and not entry.final:
            entry.precious = False

    def let_go(self, entry: Entry) -> None:
        """Note that an event was dropped."""
        self.events -= 1
        self.size -= entry.size
        stream = self.streams.get(entry.stream)
        if stream is not None:
            stream.trimmed = max(stream.trimmed, entry.offset)

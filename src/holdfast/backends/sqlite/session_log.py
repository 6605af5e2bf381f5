"""What the writer remembers of one session's log: everything but the payloads."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from holdfast.backends.sqlite.trim_order import Entry

__all__ = ["Accepted", "SessionLog", "Stream"]

WRITERS_REMEMBERED: Final = 64
"""Per stream. A writer is one life of one replica: the standalone stream may see many."""


class Accepted(NamedTuple):
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

    def remember(self, writer: bytes, accepted: Accepted) -> None:
        """Note the last key of a writer."""
        self.accepted[writer] = accepted
        self.accepted.move_to_end(writer)
        if len(self.accepted) > WRITERS_REMEMBERED:
            self.accepted.popitem(last=False)


@dataclass(slots=True)
class SessionLog:
    """A session as it is in the file, and as this transaction is about to change it.

    Attributes:
        life: of the file, when `epoch` began.
        last: row of the newest event.
        trims: how often events were dropped. Another number in the file: somebody else did it.
        size: bytes of payload.
        seen: which change of the file by somebody else this has taken in; see `SessionCache`.
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
    seen: int
    size: int = 0
    streams: dict[bytes, Stream] = field(default_factory=dict[bytes, Stream])
    entries: dict[int, Entry] = field(default_factory=dict[int, Entry])

    def take_in(self, entry: Entry) -> None:
        """Note an event that is stored."""
        self.entries[entry.offset] = entry
        self.size += entry.size
        self.top = entry.offset
        self.last = entry.row
        stream = self.streams.get(entry.stream)
        if stream is None:
            return  # its stream is forgotten
        stream.last = max(stream.last, entry.offset)  # a newer one may have been dropped
        if entry.final:
            stream.closed = True
        if entry.key is not None:
            writer, counter = entry.key
            stream.remember(writer, Accepted(counter, entry.offset, entry.previous, entry.final))

    def let_go(self, entry: Entry) -> None:
        """Note that an event was dropped."""
        del self.entries[entry.offset]
        self.size -= entry.size
        stream = self.streams.get(entry.stream)
        if stream is not None:
            stream.trimmed = max(stream.trimmed, entry.offset)

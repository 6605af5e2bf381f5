"""What is counted, what is held against the servers, and what a client remembers of itself."""

import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from chaos.wire import ServerEvent
from holdfast.sessions.event_id import decode_event_id

HISTORY_LINES: Final = 5_000
RETRY_MS: Final = 1000

Kind: TypeAlias = Literal[
    "lost",  # a message that was sent was never read, or the server says that it has it no more
    "doubled",  # a message, an answer or an id came twice
    "order",  # a message came before one that was sent earlier
    "re-initialize",  # a session that should live is unknown
    "unanswered",  # a request whose stream had begun got no answer at all
    "late",  # the error of a dead replica's request took longer than promised
    "living",  # a request was taken from a replica that was neither dead nor paused for long
    "failed",  # a call failed where none may
    "wrong",  # an answer that no server should give
    "process",  # a replica ended by itself, or did not end when it should
]


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise that was not kept to one client (-1: to nobody in particular)."""

    kind: Kind
    client: int
    detail: str


@dataclass(slots=True)
class Tally:
    """The figures of a run. `counts` has one line of the report for each name."""

    counts: Counter[str] = field(default_factory=Counter[str])
    violations: list[Violation] = field(default_factory=list[Violation])
    error_waits: list[float] = field(default_factory=list[float])
    raw_error_waits: list[float] = field(default_factory=list[float])
    rolling_since: float | None = None

    def blame(self, kind: Kind, client: int, detail: str) -> None:
        self.violations.append(Violation(kind, client, detail))

    def of(self, kind: Kind) -> int:
        return sum(violation.kind == kind for violation in self.violations)


class Diary:
    """One client's history, kept to be written down if something goes wrong."""

    def __init__(self, number: int, tally: Tally, began: float) -> None:
        self.number = number
        self.tally = tally
        self.acknowledged = 0
        self._began = began
        self._lines: deque[str] = deque(maxlen=HISTORY_LINES)
        self._until_blame: list[str] = []

    def note(self, text: str) -> None:
        self._lines.append(f"{time.monotonic() - self._began:9.3f} {text}")

    def blame(self, kind: Kind, detail: str) -> None:
        self.note(f"VIOLATION {kind}: {detail}")
        self.tally.blame(kind, self.number, detail)
        self._until_blame = self._until_blame or list(self._lines)

    def count(self, name: str) -> None:
        self.tally.counts[name] += 1

    def text(self) -> str:
        """What came before the first violation, then the newest: a long run forgets what lies between."""
        return "\n".join([*self._until_blame, "--- the end", *self._lines]) + "\n"


class StreamLog:
    """One stream as its client read it: what came, where to go on, and whether ids behave.

    Attributes:
        first_id: the first id that was read.
        last_id: the newest id that was read: what a resume continues from.
        retry_ms: how long the server wants the client to wait before it comes back.
        events: id and data of what was read, the newest ones.
    """

    def __init__(self, diary: Diary, name: str, keep: int | None = None) -> None:
        self.first_id: str | None = None
        self.last_id: str | None = None
        self.retry_ms = RETRY_MS
        self.events: deque[tuple[str, str]] = deque(maxlen=keep)
        self._diary = diary
        self._name = name
        self._place: tuple[str, str, int] | None = None

    def take(self, event: ServerEvent) -> bool:
        """Read one event. True: it carries a message that is to be handled."""
        if event.retry_ms is not None:
            self.retry_ms = event.retry_ms
        if event.id is not None and not self._advance(event.id, primes=not event.data):
            return False
        if not event.data:
            return False
        self._diary.note(f"{self._name} read {event.id} {event.data[:300]}")
        if event.id is None:
            self._take_without_id(event)
            return False
        self.events.append((event.id, event.data))
        self._diary.acknowledged += 1
        self._diary.count("events")
        return True

    def _take_without_id(self, event: ServerEvent) -> None:
        lost = '"events-lost"' in event.data or "list_changed" in event.data
        self._diary.blame("lost" if lost else "wrong", f"{self._name}: a message without an id: {event.data}")

    def _advance(self, event_id: str, *, primes: bool) -> bool:
        try:
            stream, position, _ = decode_event_id(event_id)
        except ValueError:
            self._diary.blame("wrong", f"{self._name}: {event_id!r} is no event id")
            return False
        place = (stream, position.epoch, position.offset)
        before, self._place = self._place, place
        if before is not None and not self._follows(before, place, primes=primes):
            self._place = before
            return False
        self.first_id = self.first_id or event_id
        self.last_id = event_id
        return True

    def _follows(self, before: tuple[str, str, int], place: tuple[str, str, int], *, primes: bool) -> bool:
        if place[:2] != before[:2]:
            self._diary.blame("wrong", f"{self._name}: {place} is another stream or life than {before}")
        elif primes and place != before:
            self._diary.blame("wrong", f"{self._name}: primed with {place}, but had read up to {before}")
        elif not primes and place == before:
            self._diary.blame("doubled", f"{self._name}: {place} came twice")
        elif not primes and place < before:
            self._diary.blame("order", f"{self._name}: {place} came after {before}")
        else:
            return True
        return False

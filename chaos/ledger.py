"""What is counted, what is held against the servers, and what a client remembers of itself."""

import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Final, Literal, TypeAlias

from chaos.permits import Account
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
    "gap",  # a gap was told, and no fault permits it, or it was larger than its fault permits
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
    store: Account = field(default_factory=Account)

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

    def count(self, name: str, by: int = 1) -> None:
        self.tally.counts[name] += by

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
        told_gap_at: when it was last told that events are lost; 0.0: never.
        untidy: what was read is not what the log has: there was a gap, or messages came without ids.
    """

    def __init__(self, diary: Diary, name: str, keep: int | None = None) -> None:
        self.first_id: str | None = None
        self.last_id: str | None = None
        self.retry_ms = RETRY_MS
        self.events: deque[tuple[str, str]] = deque(maxlen=keep)
        self._diary = diary
        self._name = name
        self.told_gap_at = 0.0
        self.untidy = False
        self._place: tuple[str, str, int] | None = None
        self._connection = 0
        self._unstored: dict[str, int] = {}
        self._resyncing = False
        self._adrift = False

    def connected(self) -> None:
        """The stream is read on a new connection from now on."""
        self._connection += 1
        self._resyncing = False

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
            return self._take_without_id(event.data)
        if event.data in self._unstored:
            return self._take_again(event.data)
        self.events.append((event.id, event.data))
        self._diary.acknowledged += 1
        self._diary.count("events")
        return True

    def refused(self, why: str) -> bool:
        """The server has nothing of the stream any more, and says so. Whether a fault permits that."""
        return self._take_gap(why)

    def _take_without_id(self, data: str) -> bool:
        """What is in no log: a gap is told, or the store is away. True: a message that is to be handled."""
        if '"events-lost"' in data:
            self._resyncing = self._take_gap(data)
            return False
        if "/list_changed" in data:
            if not self._resyncing:
                self._diary.blame("wrong", f"{self._name}: a resync without a gap: {data}")
            return False
        asked_again = self._resyncing and '"elicitation/create"' in data
        if not asked_again and not self._diary.tally.store.outage():
            self._diary.blame("wrong", f"{self._name}: a message without an id: {data}")
            return False
        self.untidy = True
        self._unstored[data] = self._connection
        self._diary.count("messages without ids")
        return True

    def _take_again(self, data: str) -> bool:
        """A message that came without an id before has one now: only who was cut off meanwhile may get it."""
        if self._unstored[data] == self._connection:
            self._diary.blame("doubled", f"{self._name}: with an id, after it came without one: {data}")
        else:
            self._diary.count("doubled, as an outage may")
        return False

    def _take_gap(self, data: str) -> bool:
        self.told_gap_at = time.monotonic()
        self.untidy = True
        if self._adrift:  # cut off before there was an id behind the gap: it comes back with the old one
            self._diary.count("gaps told again")
            return True
        self._adrift = True
        complaint = self._diary.tally.store.charge(self._diary.number, self._name)
        if complaint is not None:
            self._diary.blame("gap", f"{self._name}: {complaint}: {data}")
        self._diary.count("gaps told")
        return complaint is None

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
        if place[0] != before[0]:
            self._diary.blame("wrong", f"{self._name}: {place} is another stream than {before}")
            return False
        if self._adrift:
            self._adrift = place == before
            return True  # it was told that it is elsewhere now; numbers tell whether that is right
        if place[1] != before[1] and not self._diary.tally.store.new_life():
            self._diary.blame("wrong", f"{self._name}: {place} is another life than {before}")
        elif primes and place[2] != before[2] and not self._moves_on(before, place):
            self._diary.blame("wrong", f"{self._name}: primed with {place}, but had read up to {before}")
        elif not primes and place[2] == before[2]:
            self._diary.blame("doubled", f"{self._name}: {place} came twice")
        elif not primes and place[2] < before[2]:
            self._diary.blame("order", f"{self._name}: {place} came after {before}")
        else:
            return True
        return False

    def _moves_on(self, before: tuple[str, str, int], place: tuple[str, str, int]) -> bool:
        """An event with only an id: what came without one is stored now."""
        return bool(self._unstored) and place[2] > before[2]

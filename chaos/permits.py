"""What each kind of fault of the store may cost, and an account of what each one did cost.

A client that was told of a gap has lost nothing silently; but a fault that may not lose anything may not be
an excuse for a gap either. So every gap is charged to a fault, and none more than its kind permits.
"""

import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

AFTERMATH_SECONDS: Final = 15.0
"""So long after a fault has ended it may still be felt: time to find the store again, and to resume."""

GAP_SECONDS: Final = 90.0
"""A client may learn of what a failover lost only when it comes back."""


@dataclass(frozen=True, slots=True)
class Permit:
    """The bound on what one fault of a kind may cause.

    Attributes:
        gaps: told gaps for each stream that was open; 0: none at all, for nobody.
        gap_events: numbered messages that may be missing in one told gap.
        new_life: the log may begin a new epoch, as the store is another process afterwards.
        again: a message that was read before a told gap may come once more behind it: the writer did not
            learn that the old master had stored it.
        outage: while it lasts, messages may come without ids (and once more, with one, to who comes back),
            and calls may fail with an error that says so.
    """

    gaps: int = 0
    gap_events: int = 0
    new_life: bool = False
    again: bool = False
    outage: bool = True


HARMLESS: Final = Permit(outage=False)
BLIP: Final = Permit()
MOVE: Final = Permit(outage=False, new_life=True)
RESTART: Final = Permit(new_life=True)
FAILOVER: Final = Permit(gaps=1, gap_events=50, new_life=True, again=True)

PERMITS: Final[dict[str, Permit]] = {
    # one server, with an append-only file, and a fault proxy between it and each replica
    "delay": HARMLESS,
    "black hole": BLIP,
    "black hole, then reset": BLIP,
    "half open": BLIP,
    "reset": BLIP,
    "cut after k bytes": BLIP,
    "reply lost": BLIP,
    "refused": BLIP,
    "partition": BLIP,  # one replica alone, for longer than it takes to be taken for dead
    "script flush": HARMLESS,
    "client kill": BLIP,
    "freeze": BLIP,
    "crash": RESTART,  # kill -9, and a restart from the append-only file: nothing that was confirmed is lost
    # a master with replicas: replication is asynchronous, so a failover loses what only the old master had
    "failover": FAILOVER,
    "frozen master": FAILOVER,
    # a cluster only
    "moved slot": MOVE,  # another master is another life of the log, with all that was in the one before
}


@dataclass(slots=True, eq=False)
class Fault:
    """One fault of the store. `until`: when it was over; None: it lasts."""

    kind: str
    at: float
    until: float | None = None
    charged: Counter[tuple[int, str]] = field(default_factory=Counter[tuple[int, str]])

    @property
    def permit(self) -> Permit:
        return PERMITS[self.kind]

    @property
    def end(self) -> float:
        return time.monotonic() if self.until is None else self.until

    @property
    def aftermath(self) -> float:
        """Until when it may be felt."""
        return self.end + AFTERMATH_SECONDS


class Account:
    """All faults of the store in a run, and what was charged to them."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []

    def begin(self, kind: str) -> Fault:
        fault = Fault(kind, time.monotonic())
        self.faults.append(fault)
        return fault

    def outage(self, since: float | None = None) -> bool:
        """Whether the store was away at some time since then, or was until a moment ago."""
        return any(self._felt(since, outage=True))

    def new_life(self) -> bool:
        """Whether the log may have begun another life since the run began."""
        return any(fault.permit.new_life for fault in self.faults)

    def charge(self, client: int, stream: str) -> str | None:
        """A client was told of a gap. What is wrong with that; None: it was the price of a fault."""
        now = time.monotonic()
        for fault in reversed(self.faults):
            if fault.permit.gaps and now <= fault.end + GAP_SECONDS:
                fault.charged[client, stream] += 1
                if fault.charged[client, stream] <= fault.permit.gaps:
                    return None
        if not self.faults:
            return "told of a gap, though nothing was done to the store"
        return f"told of a gap that no fault permits: the last one was {self.faults[-1].kind!r}"

    def gap_events(self) -> int:
        """How many messages one gap may have swallowed."""
        return max((fault.permit.gap_events for fault in self.faults), default=0)

    def again(self) -> bool:
        """Whether messages may come once more behind a told gap."""
        return any(fault.permit.again for fault in self.faults)

    def troubles(self, since: float, until: float) -> list[tuple[float, float]]:
        """When the store was away, or was being found again, in a stretch of time."""
        felt = [fault for fault in self.faults if fault.at <= until and fault.aftermath >= since]
        return [(max(fault.at, since), min(fault.aftermath, until)) for fault in felt]

    def gaps(self) -> Counter[str]:
        """Told gaps for each kind of fault."""
        told: Counter[str] = Counter()
        for fault in self.faults:
            told[fault.kind] += fault.charged.total()
        return told

    def _felt(self, since: float | None, *, outage: bool) -> Iterable[bool]:
        start = time.monotonic() if since is None else since
        return (fault.permit.outage is outage and fault.aftermath >= start for fault in self.faults)

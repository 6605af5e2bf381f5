"""What could not be stored yet: kept in order, within bounds, and stored when the store is back.

A client that is connected to the handler's own replica goes on reading meanwhile, without event ids. Nothing
here is lost unless this process ends or a bound is reached; the second is told to the client.
"""

import json
import logging
import time
from collections import deque
from dataclasses import dataclass, field
from typing import Final

import anyio

from holdfast.sessions.notices import events_lost
from holdfast.sessions.types import STANDALONE, AppendKey, RequestId, SessionId, StreamId, shorten

__all__ = ["Spool", "Spooled", "Spools"]

logger = logging.getLogger("holdfast")

MOST_EVENTS: Final = 1_000
MOST_BYTES: Final = 4 * 2**20
"""Of one stream."""

MOST_EVENTS_HERE: Final = 50_000
MOST_BYTES_HERE: Final = 64 * 2**20
"""Of this process."""


@dataclass(slots=True, eq=False)
class Spooled:
    """One event that is not known to be stored.

    Attributes:
        payload: the JSON-RPC message.
        key: makes it be stored once, even if the first try was carried out. None: it tells of a loss.
        final: it is the last of its stream.
        expects: it asks the client something. It is not shown before the answer can be taken.
        shown: a client that is connected here gets it meanwhile, without an id.
        settled: it is stored, or never will be.
        under_way: it is being stored right now.
        token: of progress that it reports, as JSON; empty: it reports none; None: nobody has looked.
    """

    payload: bytes
    key: AppendKey | None
    final: bool = False
    expects: str | None = None
    shown: bool = False
    settled: bool = False
    under_way: bool = False
    token: str | None = None


@dataclass(slots=True, eq=False)
class Spool:
    """What waits on one stream, oldest first.

    Attributes:
        session: whose.
        stream: which of its streams.
        opens: the request for which the stream is to be recorded before anything is stored on it.
        lost: how many events did not fit.
        began: when (`time.monotonic`).
        away: the store has not taken anything of this stream for a while, whatever it does for others.
    """

    session: SessionId
    stream: StreamId
    opens: RequestId | None = None
    lost: int = 0
    began: float = field(default_factory=time.monotonic)
    away: bool = False
    size: int = 0
    waiting: deque[Spooled] = field(default_factory=deque[Spooled])
    moved: anyio.Event = field(default_factory=anyio.Event)

    @property
    def showing(self) -> bool:
        """Whether what comes next may be shown: all before it was, so that the order is kept."""
        return not self.waiting or self.waiting[-1].shown

    def stir(self) -> None:
        """Something happened that whoever waits for room wants to know."""
        moved, self.moved = self.moved, anyio.Event()
        moved.set()


class Spools:
    """All spools of this process, and their bounds."""

    def __init__(self) -> None:
        self.events = 0
        self.bytes = 0
        self.lost = 0
        self._spools: dict[tuple[SessionId, StreamId], Spool] = {}
        self._some = anyio.Event()

    def __len__(self) -> int:
        """How many streams wait."""
        return len(self._spools)

    def of(self, session: SessionId, stream: StreamId) -> Spool | None:
        """The spool of a stream, if anything of it waits."""
        return self._spools.get((session, stream))

    def all(self) -> list[Spool]:
        """Every spool, the longest waiting first."""
        return list(self._spools.values())

    @property
    def sessions(self) -> int:
        """How many sessions have something waiting."""
        return len({session for session, _ in self._spools})

    async def some(self) -> None:
        """Return when there is something to store."""
        while not self._spools:
            await self._some.wait()

    def begin(self, session: SessionId, stream: StreamId, *, opens: RequestId | None = None) -> Spool:
        """A spool for a stream that has none."""
        spool = self._spools[session, stream] = Spool(session, stream, opens)
        some, self._some = self._some, anyio.Event()
        some.set()
        return spool

    def end(self, spool: Spool) -> None:
        """Nothing waits on this stream any more, or nothing can be done about it."""
        for item in tuple(spool.waiting):
            self.done(spool, item)
        self._spools.pop((spool.session, spool.stream), None)
        spool.stir()

    def put(self, spool: Spool, item: Spooled) -> list[Spooled]:
        """Let an event wait. Returns what had to give way: see `_make_room`."""
        dropped: list[Spooled] = []
        spool.waiting.append(item)
        spool.size += len(item.payload)
        self.events += 1
        self.bytes += len(item.payload)
        while self._too_much(spool) and (victim := _victim(spool)) is not None:
            dropped.append(victim)
            self._drop(spool, victim)
        return dropped

    def done(self, spool: Spool, item: Spooled) -> None:
        """The oldest event is stored, or cannot be."""
        item.settled = True
        spool.waiting.remove(item)
        spool.size -= len(item.payload)
        self.events -= 1
        self.bytes -= len(item.payload)
        spool.stir()

    def _too_much(self, spool: Spool) -> bool:
        return (
            len(spool.waiting) > MOST_EVENTS
            or spool.size > MOST_BYTES
            or self.events > MOST_EVENTS_HERE
            or self.bytes > MOST_BYTES_HERE
        )

    def _drop(self, spool: Spool, victim: Spooled) -> None:
        """Superseded progress goes without a word; where anything else went first there is a notice."""
        if not _is_superseded(victim, spool):
            self.lost += 1
            if not spool.lost:
                self._place_notice(spool, victim)
            spool.lost += 1
        self.done(spool, victim)

    def _place_notice(self, spool: Spool, victim: Spooled) -> None:
        logger.warning("session %s: too much waits for the store: events are lost", shorten(spool.session))
        place = spool.waiting.index(victim)
        for payload in reversed(events_lost("spool", standalone=spool.stream == STANDALONE)):
            spool.waiting.insert(place, Spooled(payload, None))
            spool.size += len(payload)
            self.events += 1
            self.bytes += len(payload)


def _victim(spool: Spool) -> Spooled | None:
    """Who gives way: superseded progress, then what a client has seen, then the oldest. Answers never do."""
    free = [
        item
        for item in spool.waiting
        if not (item.under_way or item.final or item.expects is not None or item.key is None)
    ]
    superseded = (item for item in free if _is_superseded(item, spool))
    return (
        next(superseded, None) or next((item for item in free if item.shown), None) or next(iter(free), None)
    )


def _is_superseded(item: Spooled, spool: Spool) -> bool:
    token = _progress_token(item)
    if token is None:
        return False
    newest = next((each for each in reversed(spool.waiting) if _progress_token(each) == token), item)
    return newest is not item


def _progress_token(item: Spooled) -> str | None:
    """As JSON, since `1` and `"1"` are two tokens."""
    if item.token is None:
        item.token = ""
        if b'"notifications/progress"' in item.payload:
            message = json.loads(item.payload)
            if message.get("method") == "notifications/progress":
                item.token = json.dumps(message.get("params", {}).get("progressToken"))
    return item.token or None

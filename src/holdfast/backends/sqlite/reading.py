"""What the reader reads: each function inside one snapshot of the file."""

import json
import sqlite3
from dataclasses import dataclass

from holdfast.backends.sqlite.chain import events_since
from holdfast.backends.sqlite.tail import Tail
from holdfast.errors import PositionLost, SessionGone, StreamUnknown
from holdfast.sessions.types import (
    Event,
    Page,
    Position,
    ReplicaId,
    SessionId,
    StreamId,
    StreamState,
    shorten,
)

__all__ = ["EpochEnded", "Head", "Snapshot", "head", "read_page", "unanswered"]


class EpochEnded(Exception):
    """The session's epoch is of an earlier life of the file: the writer has to begin the next one first."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What a reading operation gets.

    Attributes:
        connection: in a read transaction.
        now: milliseconds since 1970.
        tail: what the heads do not know yet.
    """

    connection: sqlite3.Connection
    now: int
    tail: Tail


@dataclass(frozen=True, slots=True)
class Head:
    """What a read needs to know of a session."""

    no: int
    ttl_ms: int
    expires_at: int
    epoch: str
    fences: str
    top: int
    last: int

    @property
    def position(self) -> Position:
        """The top of the log."""
        return Position(self.epoch, self.top)

    def fading(self, now: int) -> bool:
        """Whether its expiry should be slid."""
        return self.expires_at - now < self.ttl_ms

    def offset(self, after: Position, trimmed: int) -> int:
        """`after` as an offset of this life, if nothing was lost on the way or trimmed since."""
        own = after.epoch == self.epoch
        surviving = self.top if own else dict(json.loads(self.fences)).get(after.epoch)
        if surviving is None or after.offset < 0 or (own and after.offset > surviving):
            raise PositionLost("epoch")  # it was never ours
        if after.offset > surviving:
            resume = max(surviving, trimmed)
            raise PositionLost("epoch", resume_offset=resume, resume_epoch=self.epoch)
        if after.offset < trimmed:
            raise PositionLost("trimmed", resume_offset=trimmed, resume_epoch=self.epoch)
        return after.offset


def head(snapshot: Snapshot, session: SessionId) -> Head:
    """A session that lives.

    Raises:
        SessionGone: it does not.
        EpochEnded: let the writer look at it first.
    """
    row = snapshot.connection.execute(
        "SELECT sessions.no, ttl_ms, expires_at, epoch, fences, life, top, last "
        "FROM sessions JOIN heads ON heads.no = sessions.no WHERE sessions.id = ?",
        (session,),
    ).fetchone()
    if row is None or row[2] <= snapshot.now:
        raise SessionGone(f"no session {shorten(session)}")
    no, ttl_ms, expires_at, epoch, fences, life, top, last = row
    if life != snapshot.tail.life:
        raise EpochEnded
    top, last = snapshot.tail.ahead(no, top, last)
    return Head(no, ttl_ms, expires_at, epoch, fences, top, last)


def unanswered(
    connection: sqlite3.Connection, no: int, last: int, stream: bytes, after: int, up_to: int
) -> list[tuple[int, int, int, bytes]]:
    """Requests to the client on a stream, in (`after`, `up_to`], that still wait; see `events_since`."""
    asked = connection.execute(
        'SELECT "offset" FROM asked WHERE session = ? AND stream = ? AND answer IS NULL '
        'AND "offset" > ? AND "offset" <= ?',
        (no, stream, after, up_to),
    )
    offsets = {offset for (offset,) in asked}
    if not offsets:
        return []
    _, rows = events_since(connection, no, last, stream, min(offsets) - 1)
    return [row for row in rows if row[0] in offsets]


def read_page(
    snapshot: Snapshot,
    session: SessionId,
    stream: StreamId,
    name: bytes,
    after: Position,
    limit: int,
    page_bytes: int,
) -> Page:
    """The events of a stream after a position, at most `limit` and about `page_bytes`."""
    found = head(snapshot, session)
    row = snapshot.connection.execute(
        "SELECT trimmed, closed, replica, request_id FROM streams WHERE session = ? AND name = ?",
        (found.no, name),
    ).fetchone()
    if row is None:
        raise StreamUnknown(f"session {shorten(session)} has no such stream")
    trimmed, closed, replica, request_id = row
    try:
        offset = found.offset(after, trimmed)
    except PositionLost as lost:
        first = after.offset if lost.reason == "trimmed" else 0
        waiting = unanswered(snapshot.connection, found.no, found.last, name, first, lost.resume_offset)
        lost.unanswered = tuple(payload for _, _, _, payload in waiting)
        raise
    number, rows = events_since(snapshot.connection, found.no, found.last, name, offset)
    events: list[Event] = []
    size = 0
    for at, previous, final, payload in rows:
        events.append(Event(stream, Position(found.epoch, at), previous, payload, bool(final)))
        size += len(payload)
        if len(events) >= limit or size >= page_bytes:
            break
    complete = len(events) == number
    cursor = found.position if complete else events[-1].position
    state = StreamState(
        running=not closed,
        replica=None if replica is None else ReplicaId(replica),
        request_id=None if request_id is None else json.loads(request_id),
    )
    return Page(tuple(events), cursor, complete, state)

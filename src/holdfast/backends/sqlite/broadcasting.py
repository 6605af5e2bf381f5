"""The steps of the broadcast log, inside a transaction of the writer or a snapshot of the reader."""

import json
import sqlite3
from dataclasses import dataclass
from secrets import token_hex
from typing import Final

from holdfast.backends.sqlite.hints import broadcast_hint
from holdfast.backends.sqlite.reading import EpochEnded, Snapshot
from holdfast.backends.sqlite.session_log import WRITERS_REMEMBERED
from holdfast.backends.sqlite.transaction import Transaction, fenced
from holdfast.errors import PositionLost
from holdfast.sessions.types import BROADCAST, GENESIS, Event, Page, Position

__all__ = ["append", "purge_broadcasts", "read_page", "renew", "top"]

_HEAD: Final = (
    "SELECT epoch, life, fences, top, trimmed, bytes, expires_at FROM broadcast_head WHERE expires_at > ?"
)


@dataclass(slots=True)
class _Head:
    """The row of the table `broadcast_head`."""

    epoch: str
    life: str
    fences: str
    top: int
    trimmed: int
    bytes: int
    expires_at: int

    @property
    def position(self) -> Position:
        return Position(self.epoch, self.top)


def append(tx: Transaction, payload: bytes, key: tuple[bytes, int] | None) -> Event:
    """Store one event for all sessions, once for each key."""
    head = _live(tx) or _create(tx)
    if key is not None and (again := _repeated(tx, head, payload, key)):
        return again
    head.top += 1
    head.bytes += len(payload)
    tx.execute("INSERT INTO broadcasts VALUES (?, ?)", (head.top, payload))
    if key is not None:
        tx.execute("INSERT OR REPLACE INTO broadcast_writers VALUES (?, ?, ?)", (*key, head.top))
        tx.execute(
            'DELETE FROM broadcast_writers WHERE "offset" <= '
            '(SELECT "offset" FROM broadcast_writers ORDER BY "offset" DESC LIMIT 1 OFFSET ?)',
            (WRITERS_REMEMBERED,),
        )
    _trim(tx, head)
    tx.execute(
        "UPDATE broadcast_head SET top = ?, trimmed = ?, bytes = ?", (head.top, head.trimmed, head.bytes)
    )
    _touch(tx, head)
    event = Event(BROADCAST, head.position, head.top - 1, payload)
    tx.hints.append((None, broadcast_hint(event, tx.options.inline_bytes)))
    return event


def renew(tx: Transaction) -> Position:
    """The top of the log, its expiry slid; if it is of an earlier life of the file, the next epoch begins."""
    head = _live(tx)
    if head is None:
        return GENESIS
    _touch(tx, head)
    return head.position


def top(snapshot: Snapshot, ttl_ms: int) -> Position | None:
    """The top of the log; None: let the writer look at it first."""
    head = _head(snapshot.connection, snapshot.now)
    if head is None:
        return GENESIS
    if _ended(snapshot, head) or head.expires_at - snapshot.now < ttl_ms:
        return None
    return head.position


def read_page(snapshot: Snapshot, after: Position, limit: int, page_bytes: int) -> Page:
    """The events after a position, at most `limit` and about `page_bytes`."""
    head = _head(snapshot.connection, snapshot.now)
    if head is None:
        if after != GENESIS:
            raise PositionLost("epoch")
        return Page((), GENESIS, complete=True)
    if _ended(snapshot, head):
        raise EpochEnded
    rows = snapshot.connection.execute(
        'SELECT "offset", payload FROM broadcasts WHERE "offset" > ? ORDER BY "offset" LIMIT ?',
        (_present_offset(head, after), limit),
    )
    events: list[Event] = []
    size = 0
    for offset, payload in rows:
        events.append(Event(BROADCAST, Position(head.epoch, offset), offset - 1, payload))
        size += len(payload)
        if size >= page_bytes:
            break
    cursor = events[-1].position if events else head.position
    return Page(tuple(events), cursor, complete=cursor == head.position)


def purge_broadcasts(tx: Transaction) -> None:
    """Remove a log that has run out."""
    if tx.execute("DELETE FROM broadcast_head WHERE expires_at <= ?", (tx.now,)).rowcount:
        tx.execute("DELETE FROM broadcasts")
        tx.execute("DELETE FROM broadcast_writers")


def _present_offset(head: _Head, after: Position) -> int:
    """`after` as an offset of this life, if nothing was lost on the way."""
    if after == GENESIS:
        after = Position(head.epoch, 0)
    own = after.epoch == head.epoch
    surviving = head.top if own else dict(json.loads(head.fences)).get(after.epoch)
    if surviving is None or after.offset < 0 or (own and after.offset > surviving):
        raise PositionLost("epoch", resume_offset=head.trimmed, resume_epoch=head.epoch)
    if after.offset > surviving:
        resume = max(surviving, head.trimmed)
        raise PositionLost("epoch", resume_offset=resume, resume_epoch=head.epoch)
    if after.offset < head.trimmed:
        raise PositionLost("trimmed", resume_offset=head.trimmed, resume_epoch=head.epoch)
    return after.offset


def _head(connection: sqlite3.Connection, now: int) -> _Head | None:
    row = connection.execute(_HEAD, (now,)).fetchone()
    return None if row is None else _Head(*row)


def _ended(snapshot: Snapshot, head: _Head) -> bool:
    (life,) = snapshot.connection.execute("SELECT life FROM file").fetchone()
    return bool(head.life != life)


def _live(tx: Transaction) -> _Head | None:
    """The log, in the present life of the file."""
    head = _head(tx.connection, tx.now)
    if head is not None and head.life != tx.cache.life:
        fences = fenced([tuple(fence) for fence in json.loads(head.fences)], head.epoch, head.top)
        head.epoch, head.life, head.fences = token_hex(6), tx.cache.life, json.dumps(fences)
        tx.execute(
            "UPDATE broadcast_head SET epoch = ?, life = ?, fences = ?", (head.epoch, head.life, head.fences)
        )
    return head


def _create(tx: Transaction) -> _Head:
    purge_broadcasts(tx)
    head = _Head(token_hex(6), tx.cache.life, "[]", 0, 0, 0, tx.now + _ttl_ms(tx) * 17 // 16)
    tx.execute(
        "INSERT INTO broadcast_head (one, epoch, life, expires_at) VALUES (1, ?, ?, ?)",
        (head.epoch, head.life, head.expires_at),
    )
    return head


def _repeated(tx: Transaction, head: _Head, payload: bytes, key: tuple[bytes, int]) -> Event | None:
    row = tx.execute('SELECT counter, "offset" FROM broadcast_writers WHERE writer = ?', (key[0],)).fetchone()
    if row is None or row[0] < key[1]:
        return None
    counter, offset = row
    if counter > key[1]:
        raise ValueError(f"append key {key[1]} of a writer that is at {counter}: counters must grow")
    # The payload of the caller: it is the same one, and the stored one may have been trimmed.
    return Event(BROADCAST, Position(head.epoch, offset), offset - 1, payload)


def _trim(tx: Transaction, head: _Head) -> None:
    """Make room; the newest event stays, however big it is."""
    while head.top - head.trimmed > 1 and (
        head.top - head.trimmed > tx.options.max_events or head.bytes > tx.options.max_bytes
    ):
        head.trimmed += 1
        (size,) = tx.execute(
            'DELETE FROM broadcasts WHERE "offset" = ? RETURNING length(payload)', (head.trimmed,)
        ).fetchone() or (0,)
        head.bytes -= size


def _touch(tx: Transaction, head: _Head) -> None:
    if head.expires_at - tx.now < _ttl_ms(tx):
        head.expires_at = tx.now + _ttl_ms(tx) * 17 // 16
        tx.execute("UPDATE broadcast_head SET expires_at = ?", (head.expires_at,))


def _ttl_ms(tx: Transaction) -> int:
    return round(tx.options.broadcast_seconds * 1000)

"""Who reads the standalone stream, and from where."""

import sqlite3

from holdfast.backends.sqlite.reading import unanswered
from holdfast.backends.sqlite.session_log import SessionLog
from holdfast.backends.sqlite.text import decode, encode
from holdfast.backends.sqlite.transaction import Transaction
from holdfast.sessions.types import STANDALONE, Claim, Event, Position, ReplicaId, SessionId

__all__ = ["claim", "reader_of"]


def claim(tx: Transaction, session: SessionId, reader: bytes, after: Position | None) -> Claim:
    """Give the standalone stream to one reader; the newest wins, at most one takeover in a while."""
    log = tx.live(session)
    top = Position(log.epoch, log.top)
    replica, holder, takeover_at = tx.execute(
        "SELECT holder_replica, holder_reader, takeover_at FROM sessions WHERE no = ?", (log.no,)
    ).fetchone()
    displaced: tuple[ReplicaId, str] | None = None
    if holder is not None and holder != reader:
        wait_ms = takeover_at + round(tx.options.takeover_seconds * 1000) - tx.now
        if wait_ms > 0 and takeover_at <= tx.now:  # else the clock was set back
            return Claim(after or top, wait_seconds=wait_ms / 1000)
        displaced, takeover_at = (ReplicaId(replica), decode(holder)), tx.now
    tx.execute(
        "UPDATE sessions SET holder_replica = ?, holder_reader = ?, takeover_at = ? WHERE no = ?",
        (tx.replica, reader, takeover_at, log.no),
    )
    tx.touch(log)
    if after is not None:
        return Claim(after, displaced=displaced, first=holder is None)
    if holder is None:
        return Claim(Position(log.epoch, 0), first=True)
    return Claim(top, _unanswered(tx, log), displaced)


def reader_of(connection: sqlite3.Connection, no: int) -> str | None:
    """Who has the standalone stream of a session."""
    (holder,) = connection.execute("SELECT holder_reader FROM sessions WHERE no = ?", (no,)).fetchone()
    return None if holder is None else decode(holder)


def _unanswered(tx: Transaction, log: SessionLog) -> tuple[Event, ...]:
    tx.flush()
    rows = unanswered(tx.connection, log.no, log.last, encode(STANDALONE), 0, log.top)
    return tuple(
        Event(STANDALONE, Position(log.epoch, offset), previous, payload, bool(final))
        for offset, previous, final, payload in rows
    )

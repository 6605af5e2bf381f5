"""What has run out: found by an index, removed in small steps."""

import sqlite3
from typing import Final

from holdfast.backends.sqlite.broadcasting import purge_broadcasts
from holdfast.backends.sqlite.transaction import Transaction

__all__ = ["expired", "purge", "purge_others"]

_BUS_SECONDS: Final = 30
"""A process that takes longer to look has lost messages, as the bus may."""


def expired(connection: sqlite3.Connection, now: int) -> int:
    """How many sessions have run out and are still in the file."""
    (number,) = connection.execute("SELECT count(*) FROM sessions WHERE expires_at <= ?", (now,)).fetchone()
    return int(number)


def purge(tx: Transaction, most: int) -> int:
    """Remove at most so many of each kind of what has run out, and return how many there were."""
    tx.flush()
    rows = tx.execute(
        "SELECT no, id FROM sessions WHERE expires_at <= ? ORDER BY expires_at LIMIT ?", (tx.now, most)
    ).fetchall()
    for no, session in rows:
        tx.remove(no, session)
    return len(rows)


def purge_others(tx: Transaction, most: int) -> int:
    """The same for what is not a session."""
    removed = 0
    for table, key in (("tombstones", "id"), ("subscriptions", "uri, session")):
        removed += tx.execute(
            f"DELETE FROM {table} WHERE ({key}) IN "  # noqa: S608 - our own names
            f"(SELECT {key} FROM {table} WHERE expires_at <= ? LIMIT ?)",
            (tx.now, most),
        ).rowcount
    purge_broadcasts(tx)
    removed += tx.execute("DELETE FROM replicas WHERE deadline <= ?", (tx.now,)).rowcount
    # The newest row stays: readers remember its number, which must not be used again.
    removed += tx.execute(
        "DELETE FROM bus WHERE at < ? AND id < (SELECT max(id) FROM bus)", (tx.now - _BUS_SECONDS * 1000,)
    ).rowcount
    return removed

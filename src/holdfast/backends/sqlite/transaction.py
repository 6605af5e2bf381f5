"""One transaction of the writer: what its operations share, and what it writes at its end."""

import json
import sqlite3
from secrets import token_hex
from typing import TYPE_CHECKING, Any, Final

from holdfast.backends.sqlite.cache import SessionCache
from holdfast.backends.sqlite.chain import entries_since
from holdfast.backends.sqlite.loading import entries, load, renewed, stream_row
from holdfast.backends.sqlite.options import SqliteOptions
from holdfast.backends.sqlite.session_log import SessionLog, Stream
from holdfast.backends.sqlite.trim_order import Entry
from holdfast.errors import SessionGone
from holdfast.sessions.types import ReplicaId, SessionId, shorten

if TYPE_CHECKING:
    from holdfast.backends.sqlite.appending import Append

__all__ = ["Transaction", "fenced"]

_FENCES_REMEMBERED: Final = 8
"""Positions from lives before these are lost."""


def fenced(fences: list[tuple[str, int]], epoch: str, top: int) -> list[tuple[str, int]]:
    """The fences of a log whose epoch ends with what survived of it."""
    return [(epoch, top), *((old, min(survived, top)) for old, survived in fences)][:_FENCES_REMEMBERED]


class Transaction:
    """What operations get: the connection, the time, and sessions.

    An operation raises before it changes anything, or it is carried out: others are in the same transaction.

    Attributes:
        now: milliseconds since 1970.
        changed: sessions that got events.
        hints: other hints to be sent when this is stored: to one replica, or to all (None).
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        cache: SessionCache,
        options: SqliteOptions,
        replica: ReplicaId,
        now: int,
    ) -> None:
        self.connection: Final = connection
        self.execute: Final = connection.execute
        self.cache: Final = cache
        self.options: Final = options
        self.replica: Final = replica
        self.now: Final = now
        self.changed: dict[str, None] = {}
        self.hints: list[tuple[str | None, bytes]] = []
        self._events: list[tuple[Any, ...]] = []
        self._grown: dict[int, SessionLog] = {}
        self._touched: dict[int, SessionLog] = {}
        self._file = (cache.next_event, cache.next_session, cache.sessions)

    def live(self, session: SessionId) -> SessionLog:
        """The session, as it is in the file.

        Raises:
            SessionGone: it does not live.
        """
        log = self.find(session)
        if log is None:
            raise SessionGone(f"no session {shorten(session)}")
        return log

    def find(self, session: SessionId) -> SessionLog | None:
        """The session, if it lives."""
        log = self.cache.get(session)
        if log is None:
            log = load(self.connection, self.cache, session)
        elif log.seen != self.cache.seen:
            log = renewed(self.connection, self.cache, log)
        if log is None or log.expires_at <= self.now:
            return None
        if log.life != self.cache.life:
            self._begin_epoch(log)
        return log

    def touch(self, log: SessionLog) -> None:
        """Slide the expiry of a session, if that is worth a write: a sixteenth of its life has passed."""
        if log.expires_at - self.now < log.ttl_ms:
            log.expires_at = self.now + log.ttl_ms * 17 // 16
            self._touched[log.no] = log

    def store(self, log: SessionLog, row: int, previous: int, event: "Append") -> None:
        """Add an event to the log. Written at the end, or at `flush`."""
        # `bytearray`, because Python looks for an adapter for each `bytes`: half the cost of an insert.
        writer, counter = event.key or (None, None)
        self._events.append(
            (
                row,
                log.no,
                log.last,
                log.top + 1,
                previous,
                1 if event.final else 0,
                bytearray(event.name),
                None if writer is None else bytearray(writer),
                counter,
                bytearray(event.payload),
            )
        )
        self._grown[log.no] = log
        self.changed[log.id] = None

    def flush(self) -> None:
        """Write what is only in memory, so that SQL sees it."""
        connection = self.connection
        if self._events:
            connection.executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", self._events)
            self._events = []
        for log in self._grown.values():
            self.cache.tail.add(log.no, log.top, log.last)
        self._grown = {}
        if self._touched:
            deadlines = [(log.expires_at, log.no) for log in self._touched.values()]
            connection.executemany("UPDATE sessions SET expires_at = ? WHERE no = ?", deadlines)
            self._touched = {}

    def finish(self) -> None:
        """Write everything."""
        self.flush()
        cache = self.cache
        counters = (cache.next_event, cache.next_session, cache.sessions)
        if counters != self._file:
            self.execute("UPDATE file SET next_event = ?, next_session = ?, sessions = ?", counters)
            cache.tail.fold(self.connection, cache.next_event - 1)

    def trimmed(self, log: SessionLog, dropped: str) -> None:
        """Events of a session were dropped: others must learn which. Their offsets are in `dropped`."""
        log.trims += 1
        self.execute(
            "UPDATE heads SET top = ?, last = ?, trims = ?, events = ?, bytes = ?, dropped = ? WHERE no = ?",
            (log.top, log.last, log.trims, log.events, log.size, dropped, log.no),
        )

    def remove(self, no: int, session: str) -> None:
        """Delete a session with all that belongs to it, save its subscriptions."""
        self.flush()
        self.cache.forget(session)
        (last,) = self.execute("SELECT last FROM heads WHERE no = ?", (no,)).fetchone() or (0,)
        _, last = self.cache.tail.ahead(no, 0, last)
        rows = [(row[0],) for row in entries_since(self.connection, no, last)]
        self.connection.executemany("DELETE FROM log WHERE id = ?", rows)
        for table in ("streams", "asked"):
            self.execute(f"DELETE FROM {table} WHERE session = ?", (no,))  # noqa: S608 - our own names
        for table in ("heads", "sessions"):
            self.execute(f"DELETE FROM {table} WHERE no = ?", (no,))  # noqa: S608 - our own names
        self.cache.sessions -= 1

    def stream_row(self, log: SessionLog, name: bytes) -> Stream | None:
        """A stream of a session; one that somebody else opened meanwhile is found in the file."""
        return log.streams.get(name) or stream_row(self.connection, log, name)

    def entries(self, log: SessionLog) -> dict[int, Entry]:
        """What is kept of a log, by offset, oldest first."""
        if log.entries is None:
            self.flush()
        return entries(self.connection, log)

    def _begin_epoch(self, log: SessionLog) -> None:
        """The file may have lost its end, or be a copy of an older one: fence what is there."""
        log.fences = fenced(log.fences, log.epoch, log.top)
        log.epoch, log.life = token_hex(6), self.cache.life
        self.execute(
            "UPDATE sessions SET epoch = ?, life = ?, fences = ? WHERE no = ?",
            (log.epoch, log.life, json.dumps(log.fences), log.no),
        )

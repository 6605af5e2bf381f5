"""One transaction of the writer: what its operations share, and what it writes at its end."""

import json
import sqlite3
from collections import OrderedDict
from collections.abc import Iterable
from secrets import token_hex
from typing import Any, Final

from holdfast.backends.sqlite.chain import entries_since
from holdfast.backends.sqlite.options import SqliteOptions
from holdfast.backends.sqlite.session_log import Accepted, SessionLog, Stream
from holdfast.backends.sqlite.trim_order import Entry
from holdfast.errors import SessionGone
from holdfast.sessions.types import ReplicaId, SessionId, shorten

__all__ = ["SessionCache", "Transaction", "fenced"]

_FENCES_REMEMBERED: Final = 8
"""Positions from lives before these are lost."""

_STREAM: Final = "SELECT name, trimmed, closed, keys FROM streams WHERE session = ?"

_COUNTED_EVERY: Final = 256
"""Commits between two looks at how much is remembered: counting costs as much as there is."""

_SESSION: Final = """
SELECT sessions.no, ttl_ms, expires_at, epoch, life, fences, top, last, trims, events, bytes
FROM sessions JOIN heads ON heads.no = sessions.no WHERE
"""


def fenced(fences: list[tuple[str, int]], epoch: str, top: int) -> list[tuple[str, int]]:
    """The fences of a log whose epoch ends with what survived of it."""
    return [(epoch, top), *((old, min(survived, top)) for old, survived in fences)][:_FENCES_REMEMBERED]


class SessionCache:
    """What the writer remembers between transactions. The file is the truth: others change it as well.

    Attributes:
        seen: grows whenever somebody else has changed the file.
    """

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._logs: OrderedDict[str, SessionLog] = OrderedDict()
        self._commits = 0
        self._version = -1
        self.seen = 0
        self.life = ""
        self.next_event = self.next_session = self.sessions = 0
        self.listeners: dict[str, str] = {}

    def look(self, connection: sqlite3.Connection) -> None:
        """Find out whether somebody else has changed the file. Within a transaction: then it is certain."""
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if version != self._version:
            self._version = version
            self.seen += 1
            self.load(connection)

    def load(self, connection: sqlite3.Connection) -> None:
        """Read what is not of one session."""
        row = connection.execute("SELECT life, next_event, next_session, sessions FROM file").fetchone()
        self.life, self.next_event, self.next_session, self.sessions = row
        self.load_listeners(connection)

    def load_listeners(self, connection: sqlite3.Connection) -> None:
        """Read where other replicas receive hints."""
        self.listeners = dict(connection.execute("SELECT replica, address FROM listeners").fetchall())

    def get(self, session: str) -> SessionLog | None:
        """A session that is remembered, as the most recently used one."""
        log = self._logs.get(session)
        if log is not None:
            self._logs.move_to_end(session)
        return log

    def put(self, log: SessionLog) -> None:
        """Remember a session."""
        self._logs[log.id] = log

    def forget(self, session: str) -> None:
        """Remember it no more."""
        self._logs.pop(session, None)

    def clear(self) -> None:
        """Remember nothing: what is here was never written."""
        self._logs.clear()
        self._version = -1

    def shrink(self) -> None:
        """Forget the least recently used, if it is too much. Not within a transaction."""
        self._commits += 1
        if self._commits % _COUNTED_EVERY and len(self._logs) <= self._max_entries:
            return
        total = sum(log.weight for log in self._logs.values())
        while total > self._max_entries:
            _, log = self._logs.popitem(last=False)
            total -= log.weight


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
            log = self._load(session)
        elif log.seen != self.cache.seen:
            log = self._renewed(log)
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

    def store(self, log: SessionLog, entry: Entry, payload: bytes) -> None:
        """Add an event to the log. Written at the end, or at `flush`."""
        writer, counter = entry.key or (None, None)
        self._events.append(
            (
                entry.row,
                log.no,
                log.last,
                entry.offset,
                entry.previous,
                entry.final,
                entry.stream,
                writer,
                counter,
                payload,
            )
        )
        log.add(entry)
        self._grown[log.no] = log
        self.changed[log.id] = None

    def flush(self) -> None:
        """Write what is only in memory, so that SQL sees it."""
        connection = self.connection
        if self._events:
            connection.executemany("INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)", self._events)
            self._events = []
        if self._grown:
            rows = [
                (log.top, log.last, log.trims, log.events, log.size, log.no) for log in self._grown.values()
            ]
            connection.executemany(
                "UPDATE heads SET top = ?, last = ?, trims = ?, events = ?, bytes = ? WHERE no = ?", rows
            )
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

    def changed_chain(self, log: SessionLog) -> None:
        """Events of a session were dropped: others must read its chain anew."""
        log.trims += 1
        self._grown[log.no] = log

    def remove(self, no: int, session: str) -> None:
        """Delete a session with all that belongs to it, save its subscriptions."""
        self.flush()
        self.cache.forget(session)
        (last,) = self.execute("SELECT last FROM heads WHERE no = ?", (no,)).fetchone() or (0,)
        rows = [(row[0],) for row in entries_since(self.connection, no, last)]
        self.connection.executemany("DELETE FROM log WHERE id = ?", rows)
        for table in ("streams", "asked"):
            self.execute(f"DELETE FROM {table} WHERE session = ?", (no,))  # noqa: S608 - our own names
        for table in ("heads", "sessions"):
            self.execute(f"DELETE FROM {table} WHERE no = ?", (no,))  # noqa: S608 - our own names
        self.cache.sessions -= 1

    def stream_row(self, log: SessionLog, name: bytes) -> Stream | None:
        """A stream of a session; one that somebody else opened meanwhile is found in the file."""
        stream = log.streams.get(name)
        if stream is None:
            row = self.execute(f"{_STREAM} AND name = ?", (log.no, name)).fetchone()
            if row is not None:
                stream = _stream(row)
                log.streams[name] = stream
        return stream

    def entries(self, log: SessionLog) -> dict[int, Entry]:
        """What is kept of a log, by offset, oldest first."""
        if log.entries is None:
            self.flush()
            asked = self.execute('SELECT "offset" FROM asked WHERE session = ? AND answer IS NULL', (log.no,))
            waiting = {offset for (offset,) in asked}
            log.entries = {
                offset: Entry(
                    row,
                    offset,
                    name,
                    previous,
                    size,
                    bool(final),
                    bool(final) or offset in waiting,
                    None if writer is None else (writer, counter),
                )
                for row, offset, name, previous, size, final, writer, counter in entries_since(
                    self.connection, log.no, log.last
                )
            }
        return log.entries

    def _load(self, session: SessionId) -> SessionLog | None:
        row = self.execute(f"{_SESSION} id = ?", (session,)).fetchone()
        if row is None:
            return None
        no, ttl_ms, expires_at, epoch, life, fences, *head = row
        top, last, trims, events, size = head
        log = SessionLog(
            no,
            session,
            ttl_ms,
            expires_at,
            epoch,
            life,
            _fences(fences),
            top,
            last,
            trims,
            events,
            size,
            self.cache.seen,
        )
        log.streams = {row[0]: _stream(row) for row in self.execute(_STREAM, (no,))}
        self._note(log, last, 0)
        self.cache.put(log)
        return log

    def _renewed(self, log: SessionLog) -> SessionLog | None:
        """A remembered session, after somebody else has changed something in the file."""
        row = self.execute(f"{_SESSION} sessions.no = ?", (log.no,)).fetchone()
        if row is None:
            self.cache.forget(log.id)
            return None
        _, _, log.expires_at, log.epoch, log.life, fences, *head = row
        log.fences = _fences(fences)
        top, last, trims, events, size = head
        if top < log.top:  # cut short by somebody who repaired the file
            return self._load(SessionId(log.id))
        if trims != log.trims:
            self._learn_trims(log)
        if last != log.last:
            log.entries = None
            self._note(log, last, log.last)
        log.top, log.last, log.trims, log.events, log.size = top, last, trims, events, size
        log.seen = self.cache.seen
        return log

    def _learn_trims(self, log: SessionLog) -> None:
        """Somebody else has trimmed: learn which streams are forgotten, and what the others lost."""
        log.entries = None
        known, log.streams = log.streams, {}
        for row in self.execute(_STREAM, (log.no,)):
            stream = _stream(row, known.get(row[0]))
            log.streams[stream.name] = stream

    def _note(self, log: SessionLog, last: int, stop: int) -> None:
        """Learn of the events in the rows from `stop` to `last`."""
        for _, offset, name, previous, _, final, writer, counter in entries_since(
            self.connection, log.no, last, stop
        ):
            stream = self.stream_row(log, name)
            if stream is not None:
                key = None if writer is None else (writer, counter)
                stream.note(offset, previous, key, final=bool(final))

    def _begin_epoch(self, log: SessionLog) -> None:
        """The file may have lost its end, or be a copy of an older one: fence what is there."""
        log.fences = fenced(log.fences, log.epoch, log.top)
        log.epoch, log.life = token_hex(6), self.cache.life
        self.execute(
            "UPDATE sessions SET epoch = ?, life = ?, fences = ? WHERE no = ?",
            (log.epoch, log.life, json.dumps(log.fences), log.no),
        )


def _fences(text: str) -> list[tuple[str, int]]:
    return [] if text == "[]" else [(epoch, top) for epoch, top in json.loads(text)]


def _stream(row: Iterable[Any], known: Stream | None = None) -> Stream:
    """A stream as it is in the file, with what is known of its events. Some may have come and gone unseen."""
    name, trimmed, closed, keys = row
    stream = known or Stream(name)
    stream.trimmed, stream.closed = trimmed, bool(closed)
    stream.last = max(stream.last, trimmed)
    if keys != "[]":
        for writer, counter, offset, previous, final in json.loads(keys):
            accepted = Accepted(counter, offset, previous, bool(final))
            stream.remember(writer.encode("utf-8", "surrogatepass"), accepted)
    return stream

"""The steps of the event log that write, each inside a transaction of the writer."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.backends.sqlite.loading import waiting
from holdfast.backends.sqlite.session_log import Accepted, SessionLog, Stream
from holdfast.backends.sqlite.text import decode
from holdfast.backends.sqlite.transaction import Transaction
from holdfast.backends.sqlite.trim_order import Entry, victims
from holdfast.errors import StoreRefused, StreamClosed, StreamUnknown
from holdfast.sessions.types import Event, Position, SessionId, StreamId

__all__ = ["Append", "ask", "open_stream"]


@dataclass(slots=True)  # not frozen: that would cost a tenth of an append
class Append:
    """One event on its way into the log; see `EventLog.append`."""

    session: SessionId
    stream: StreamId
    name: bytes
    payload: bytes
    key: tuple[bytes, int] | None
    final: bool
    expects: bytes | None

    def __call__(self, tx: Transaction) -> Event:
        """Store it, once for each key."""
        log = tx.live(self.session)
        stream = tx.stream_row(log, self.name)
        if stream is None:
            raise StreamUnknown("the session has no such stream")
        if self.key is not None:
            accepted = stream.accepted.get(self.key[0])
            if accepted is not None and accepted.counter >= self.key[1]:
                return self._again(log, accepted, self.key[1])
        if stream.closed:
            raise StreamClosed("the stream has had its final event")
        return self._store(tx, log, stream)

    def _again(self, log: SessionLog, accepted: Accepted, counter: int) -> Event:
        if accepted.counter > counter:
            raise ValueError(
                f"append key {counter} of a writer that is at {accepted.counter}: counters must grow"
            )
        # The payload of the caller: it is the same one, and the stored one may have been trimmed.
        position = Position(log.epoch, accepted.offset)
        return Event(self.stream, position, accepted.previous, self.payload, accepted.final)

    def _store(self, tx: Transaction, log: SessionLog, stream: Stream) -> Event:
        row, offset, previous, final = tx.cache.next_event, log.top + 1, stream.last, self.final
        size = len(self.payload)
        tx.cache.next_event = row + 1
        tx.store(log, row, previous, self)
        stream.note(offset, previous, self.key, final=final)
        if log.entries is not None:
            precious = final or self.expects is not None
            log.entries[offset] = Entry(row, offset, self.name, previous, size, final, precious, self.key)
        log.grow(row, size)
        if final:
            tx.execute(
                "UPDATE streams SET closed = ? WHERE session = ? AND name = ?", (offset, log.no, self.name)
            )
            # Nobody waits any more for answers to what was asked on it.
            withdrawn = tx.execute(
                'DELETE FROM asked WHERE session = ? AND stream = ? AND answer IS NULL RETURNING "offset"',
                (log.no, self.name),
            )
            for (asked_at,) in withdrawn.fetchall():
                log.settle(asked_at)
        if self.expects is not None:
            ask(tx, log, self.expects, self.name, offset)
        if log.events > tx.options.max_events or log.size > tx.options.max_bytes:
            _trim(tx, log)
        tx.touch(log)
        return Event(self.stream, Position(log.epoch, offset), previous, self.payload, final)


def open_stream(tx: Transaction, session: SessionId, name: bytes, request_id: str) -> Position:
    """Record a stream as running on this replica; the same again changes nothing."""
    log = tx.live(session)
    row = tx.execute(
        "SELECT replica, request_id, opened_at FROM streams WHERE session = ? AND name = ?", (log.no, name)
    ).fetchone()
    if row is not None:
        if tuple(row[:2]) != (tx.replica, request_id):
            raise StoreRefused("a stream with this id was opened for something else")
        return Position(log.epoch, row[2])
    if len(log.streams) >= tx.options.max_streams:
        _forget_idle_streams(tx, log)
    tx.execute(
        "INSERT INTO streams (session, name, replica, request_id, opened_at) VALUES (?, ?, ?, ?, ?)",
        (log.no, name, tx.replica, request_id, log.top),
    )
    log.streams[name] = Stream(name)
    tx.touch(log)
    return Position(log.epoch, log.top)


def ask(tx: Transaction, log: SessionLog, request: bytes, stream: bytes | None, offset: int) -> None:
    """Accept one answer for a request. At the limit the older half is forgotten."""
    (number,) = tx.execute("SELECT count(*) FROM asked WHERE session = ?", (log.no,)).fetchone()
    if number >= tx.options.max_asked:
        tx.execute(
            "DELETE FROM asked WHERE session = ?1 AND request IN "
            '(SELECT request FROM asked WHERE session = ?1 ORDER BY "offset" LIMIT ?2)',
            (log.no, number - tx.options.max_asked // 2),
        )
    tx.execute(
        "INSERT OR IGNORE INTO asked VALUES (?, ?, ?, ?, ?, NULL)",
        (log.no, request, tx.replica, stream, offset),
    )


def _forget_idle_streams(tx: Transaction, log: SessionLog) -> None:
    """The older half of the running streams of which no event is left: nobody can miss much of them."""
    busy = {entry.stream for entry in tx.entries(log).values()}
    rows = tx.execute(
        "SELECT name FROM streams WHERE session = ? AND closed = 0 AND replica IS NOT NULL "
        "ORDER BY opened_at",
        (log.no,),
    ).fetchall()
    idle = [name for (name,) in rows if name not in busy]
    _forget(tx, log, idle[: (len(idle) + 1) // 2])
    tx.trimmed(log, "[]")


def _forget(tx: Transaction, log: SessionLog, names: Sequence[bytes]) -> None:
    for name in names:
        log.streams.pop(name, None)
    tx.connection.executemany(
        "DELETE FROM streams WHERE session = ? AND name = ?", [(log.no, name) for name in names]
    )


def _trim(tx: Transaction, log: SessionLog) -> None:
    """Make room, and note for each stream what it lost."""
    options = tx.options
    entries = tx.entries(log)
    open_questions = waiting(tx.connection, log)
    for entry in [entry for entry in entries.values() if entry.precious]:
        # Another process may have received the answer.
        entry.precious = entry.final or entry.offset in open_questions
    gone = victims(
        entries.values(), newest=log.top, max_events=options.max_events, max_bytes=options.max_bytes
    )
    if not gone:
        return
    # A stream whose final event goes is forgotten, and with it what else is kept of it.
    ended = {entry.stream for entry in gone if entry.final}
    doomed = {entry.offset for entry in gone}
    doomed |= {offset for offset, entry in entries.items() if entry.stream in ended and offset != log.top}
    tx.flush()
    _unlink(tx, log, entries, doomed)
    _note_trimmed(tx, log, entries, {entry.stream for entry in gone} - ended)
    _forget(tx, log, sorted(ended))
    tx.trimmed(log, json.dumps(_ranges(doomed)))


def _unlink(tx: Transaction, log: SessionLog, entries: dict[int, Entry], doomed: set[int]) -> None:
    """Delete events, and lead the chain past them."""
    dropped: list[tuple[int]] = []
    joined: list[tuple[int, int]] = []
    kept, skipped = 0, False
    for entry in entries.values():
        if entry.offset in doomed:
            dropped.append((entry.row,))
            log.let_go(entry)
            skipped = True
            continue
        if skipped and kept:  # before the oldest one that is kept, the chain simply ends
            joined.append((kept, entry.row))
        if len(dropped) == len(doomed):  # mostly the oldest ones: the rest need not be looked at
            break
        kept, skipped = entry.row, False
    for offset in doomed:
        del entries[offset]
    tx.connection.executemany("DELETE FROM log WHERE id = ?", dropped)
    tx.connection.executemany("UPDATE log SET back = ? WHERE id = ?", joined)


def _ranges(offsets: set[int]) -> list[list[int]]:
    ranges: list[list[int]] = []
    for offset in sorted(offsets):
        if ranges and ranges[-1][1] == offset - 1:
            ranges[-1][1] = offset
        else:
            ranges.append([offset, offset])
    return ranges


def _note_trimmed(tx: Transaction, log: SessionLog, entries: dict[int, Entry], names: set[bytes]) -> None:
    rows: list[tuple[int, str, int, bytes]] = []
    for name in names:
        stream = log.streams.get(name)
        if stream is not None:
            keys = [
                (decode(writer), one.counter, one.offset, one.previous, one.final)
                for writer, one in stream.accepted.items()
                if one.offset not in entries
            ]
            rows.append((stream.trimmed, json.dumps(keys), log.no, name))
    tx.connection.executemany("UPDATE streams SET trimmed = ?, keys = ? WHERE session = ? AND name = ?", rows)

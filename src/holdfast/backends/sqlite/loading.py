"""From the file to what the writer remembers of a session, whole or only what others have changed."""

import json
import sqlite3
from collections.abc import Iterable
from typing import Any, Final

from holdfast.backends.sqlite.cache import SessionCache
from holdfast.backends.sqlite.chain import entries_since
from holdfast.backends.sqlite.session_log import SessionLog, Stream
from holdfast.backends.sqlite.text import encode
from holdfast.backends.sqlite.trim_order import Entry
from holdfast.sessions.types import SessionId

__all__ = ["entries", "load", "renewed", "stream_row", "waiting"]

_STREAM: Final = "SELECT name, trimmed, closed, keys FROM streams WHERE session = ?"

_SESSION: Final = """
SELECT sessions.no, ttl_ms, expires_at, epoch, life, fences, top, last, trims, events, bytes, dropped
FROM sessions JOIN heads ON heads.no = sessions.no WHERE
"""


def load(connection: sqlite3.Connection, cache: SessionCache, session: SessionId) -> SessionLog | None:
    """A session that is not remembered."""
    row = connection.execute(f"{_SESSION} id = ?", (session,)).fetchone()
    if row is None:
        return None
    no, ttl_ms, expires_at, epoch, life, fences, *head, _ = row
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
        cache.seen,
    )
    log.streams = {row[0]: _stream(row) for row in connection.execute(_STREAM, (no,))}
    log.top, log.last = cache.tail.ahead(no, top, last)
    _note(connection, log, counted=last, known=0)
    cache.put(log)
    return log


def renewed(connection: sqlite3.Connection, cache: SessionCache, log: SessionLog) -> SessionLog | None:
    """A remembered session, after somebody else has changed something in the file."""
    row = connection.execute(f"{_SESSION} sessions.no = ?", (log.no,)).fetchone()
    if row is None:
        cache.forget(log.id)
        return None
    _, _, expires_at, epoch, life, fences, top, counted, trims, events, size, dropped = row
    top, last = cache.tail.ahead(log.no, top, counted)
    if top < log.top or not log.life == life == cache.life:  # somebody repaired or replaced the file
        return load(connection, cache, SessionId(log.id))
    log.expires_at, log.epoch, log.fences = expires_at, epoch, _fences(fences)
    if trims != log.trims:
        _learn_trims(connection, log, dropped if trims == log.trims + 1 else None)
    known, log.top, log.last, log.trims = log.last, top, last, trims
    log.events, log.size = events, size
    _note(connection, log, counted=counted, known=known)
    log.seen = cache.seen
    return log


def stream_row(connection: sqlite3.Connection, log: SessionLog, name: bytes) -> Stream | None:
    """A stream of a session; one that somebody else opened meanwhile is found in the file."""
    stream = log.streams.get(name)
    if stream is None:
        row = connection.execute(f"{_STREAM} AND name = ?", (log.no, name)).fetchone()
        if row is not None:
            stream = _stream(row)
            log.streams[name] = stream
    return stream


def entries(connection: sqlite3.Connection, log: SessionLog) -> dict[int, Entry]:
    """What is kept of a log, by offset, oldest first. All of it must be in the file."""
    if log.entries is None:
        open_questions = waiting(connection, log)
        log.entries = {
            row[1]: _entry(row, open_questions) for row in entries_since(connection, log.no, log.last)
        }
    return log.entries


def waiting(connection: sqlite3.Connection, log: SessionLog) -> set[int]:
    """Offsets of the requests to the client that have no answer yet."""
    asked = connection.execute(
        'SELECT "offset" FROM asked WHERE session = ? AND answer IS NULL', (log.no,)
    ).fetchall()
    return {offset for (offset,) in asked}


def _learn_trims(connection: sqlite3.Connection, log: SessionLog, dropped: str | None) -> None:
    """Somebody else has trimmed: learn which streams are forgotten, and what the others lost."""
    if dropped is None:
        log.entries = None
    elif log.entries is not None:
        for first, last in json.loads(dropped):
            for offset in range(first, last + 1):
                log.entries.pop(offset, None)
    known, log.streams = log.streams, {}
    for row in connection.execute(_STREAM, (log.no,)):
        stream = _stream(row, known.get(row[0]))
        log.streams[stream.name] = stream


def _note(connection: sqlite3.Connection, log: SessionLog, *, counted: int, known: int) -> None:
    """Learn of events up to `log.last`: after `counted` they are not in `log.events`, after `known` new."""
    rows = entries_since(connection, log.no, log.last, min(counted, known))
    if not rows:
        return
    open_questions = waiting(connection, log) if log.entries is not None else set[int]()
    for row in rows:
        number, offset, name, previous, size, final, writer, counter = row
        if number > counted:
            log.events += 1
            log.size += size
        if number > known:
            stream = stream_row(connection, log, name)
            if stream is not None:
                key = None if writer is None else (writer, counter)
                stream.note(offset, previous, key, final=bool(final))
            if log.entries is not None:
                log.entries[offset] = _entry(row, open_questions)


def _entry(row: tuple[Any, ...], open_questions: set[int]) -> Entry:
    number, offset, name, previous, size, final, writer, counter = row
    key = None if writer is None else (writer, counter)
    precious = bool(final) or offset in open_questions
    return Entry(number, offset, name, previous, size, bool(final), precious, key)


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
            stream.remember(encode(writer), counter, offset, previous, final=bool(final))
    return stream

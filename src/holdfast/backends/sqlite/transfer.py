"""Whole sessions out of the file, and into it."""

import json
from functools import partial

from typing_extensions import override

from holdfast.backends.sqlite.chain import entries_since
from holdfast.backends.sqlite.engine import Engine
from holdfast.backends.sqlite.reading import EpochEnded, Head, Snapshot, head
from holdfast.backends.sqlite.text import decode, encode, is_session
from holdfast.backends.sqlite.transaction import Transaction
from holdfast.errors import SessionExists, SessionGone, StoreUnavailable
from holdfast.sessions.image import AskedImage, SessionImage, StreamImage
from holdfast.sessions.protocols import Transfer
from holdfast.sessions.types import (
    STANDALONE,
    Event,
    Position,
    ReplicaId,
    SessionFacts,
    SessionId,
    Settings,
    StreamId,
    StreamState,
    shorten,
)

__all__ = ["SqliteTransfer"]

_PAYLOAD = "SELECT payload FROM log WHERE id = ?"


class SqliteTransfer(Transfer):
    """Whole sessions out of this file, and into it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @override
    async def dump(self, session: SessionId) -> SessionImage | None:
        if not is_session(session):
            return None
        for _ in range(3):  # only while lives of the file follow one another does once not suffice
            try:
                return await self._engine.read(partial(_dump, session=session))
            except SessionGone:
                return None
            except EpochEnded:
                await self._engine.write(partial(Transaction.find, session=session))
        raise StoreUnavailable("the file is opened again and again")

    @override
    async def restore(self, image: SessionImage, *, over: SessionImage | None = None) -> None:
        if not is_session(image.facts.id):
            raise ValueError("session id: allowed is visible ASCII without { and }")
        await self._engine.write(partial(_restore, image=image, over=over))


def _dump(snapshot: Snapshot, session: SessionId) -> SessionImage:
    found = head(snapshot, session)
    row = snapshot.connection.execute(
        "SELECT owner, protocol_version, client, settings_version, log_level, holder_replica, holder_reader, "
        "broadcast_epoch, broadcast_offset FROM sessions WHERE no = ?",
        (found.no,),
    ).fetchone()
    owner, version, client, settings_version, level, holder_replica, holder_reader, *place = row
    owner = None if owner is None else decode(owner)
    facts = SessionFacts(session, owner, version, client, found.ttl_ms / 1000, Position(*place))
    events = _events(snapshot, found)
    return SessionImage(
        facts,
        Settings(settings_version, None if level is None else decode(level)),
        found.epoch,
        found.top,
        tuple((epoch, top) for epoch, top in json.loads(found.fences)),
        _streams(snapshot, found.no),
        events,
        _asked(snapshot, found.no, {event.position.offset for event in events}),
        None if holder_reader is None else (ReplicaId(holder_replica), decode(holder_reader)),
    )


def _events(snapshot: Snapshot, found: Head) -> tuple[Event, ...]:
    execute = snapshot.connection.execute
    return tuple(
        Event(
            StreamId(decode(stream)),
            Position(found.epoch, offset),
            previous,
            execute(_PAYLOAD, (row,)).fetchone()[0],
            bool(final),
        )
        for row, offset, stream, previous, _, final, *_ in entries_since(
            snapshot.connection, found.no, found.last
        )
    )


def _streams(snapshot: Snapshot, no: int) -> tuple[StreamImage, ...]:
    rows = snapshot.connection.execute(
        "SELECT name, replica, request_id, opened_at, trimmed, closed FROM streams WHERE session = ? "
        "ORDER BY name",
        (no,),
    )
    return tuple(
        StreamImage(
            StreamId(decode(name)),
            StreamState(
                not closed,
                None if replica is None else ReplicaId(replica),
                None if request_id is None else json.loads(request_id),
            ),
            opened_at,
            trimmed,
        )
        for name, replica, request_id, opened_at, trimmed, closed in rows
    )


def _asked(snapshot: Snapshot, no: int, kept: set[int]) -> tuple[AskedImage, ...]:
    rows = snapshot.connection.execute(
        'SELECT request, replica, "offset", answer FROM asked WHERE session = ? ORDER BY request', (no,)
    )
    return tuple(
        AskedImage(decode(request), ReplicaId(replica), offset if offset in kept else None)
        if answer is None
        else AskedImage(decode(request), ReplicaId(""), answer=answer)
        for request, replica, offset, answer in rows
    )


def _restore(tx: Transaction, image: SessionImage, over: SessionImage | None) -> None:
    _make_room(tx, image.facts.id, over)
    facts, cache = image.facts, tx.cache
    no, first = cache.next_session, cache.next_event
    cache.next_session += 1
    cache.next_event += len(image.events)
    cache.sessions += 1
    ttl_ms = max(1, round(facts.ttl_seconds * 1000))
    row = {
        "no": no,
        "id": facts.id,
        "owner": None if facts.owner is None else encode(facts.owner),
        "protocol_version": facts.protocol_version,
        "client": facts.client,
        "ttl_ms": ttl_ms,
        "expires_at": tx.now + ttl_ms * 17 // 16,
        "epoch": image.epoch,
        "life": cache.life,
        "fences": json.dumps(image.fences),
        "broadcast_epoch": facts.broadcast.epoch,
        "broadcast_offset": facts.broadcast.offset,
        "settings_version": image.settings.version,
        "log_level": None if image.settings.log_level is None else encode(image.settings.log_level),
        "holder_replica": None if image.holder is None else image.holder[0],
        "holder_reader": None if image.holder is None else encode(image.holder[1]),
    }
    values = ", ".join(f":{name}" for name in row)
    tx.execute(f"INSERT INTO sessions ({', '.join(row)}) VALUES ({values})", row)  # noqa: S608 - our names
    # The head is complete at once: what it knows already is not folded into it again.
    size = sum(len(event.payload) for event in image.events)
    last = first + len(image.events) - 1 if image.events else 0
    tx.execute(
        "INSERT INTO heads (no, top, last, events, bytes) VALUES (?, ?, ?, ?, ?)",
        (no, image.top, last, len(image.events), size),
    )
    _restore_rows(tx, no, first, image)


def _make_room(tx: Transaction, session: SessionId, over: SessionImage | None) -> None:
    """Remove what may be replaced, or what has run out."""
    log = tx.find(session)
    row = tx.execute("SELECT no, settings_version FROM sessions WHERE id = ?", (session,)).fetchone()
    if log is not None and (over is None or (log.epoch, log.top, row[1]) != over.state):
        raise SessionExists(f"the id {shorten(session)} is in use")
    buried = tx.execute("SELECT 1 FROM tombstones WHERE id = ? AND expires_at > ?", (session, tx.now))
    if buried.fetchone() is not None:
        raise SessionExists(f"the id {shorten(session)} was deleted")
    if row is not None:
        tx.remove(row[0], session)


def _restore_rows(tx: Transaction, no: int, first: int, image: SessionImage) -> None:
    finals = {event.stream: event.position.offset for event in image.events if event.final}
    streams = {event.position.offset: encode(event.stream) for event in image.events}
    many = tx.connection.executemany
    many(
        "INSERT INTO log VALUES (?, ?, ?, ?, ?, ?, ?, NULL, NULL, ?)",
        (
            (
                first + index,
                no,
                first + index - 1 if index else 0,
                event.position.offset,
                event.previous,
                event.final,
                encode(event.stream),
                event.payload,
            )
            for index, event in enumerate(image.events)
        ),
    )
    many(
        "INSERT INTO streams (session, name, replica, request_id, opened_at, trimmed, closed) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        (
            (
                no,
                encode(stream.name),
                stream.state.replica,
                None if stream.name == STANDALONE else json.dumps(stream.state.request_id),
                stream.opened_at,
                stream.trimmed,
                0 if stream.state.running else finals.get(stream.name, image.top),
            )
            for stream in image.streams
        ),
    )
    many(
        "INSERT INTO asked VALUES (?, ?, ?, ?, ?, ?)",
        (
            (
                no,
                encode(asked.request_id),
                asked.replica,
                streams.get(asked.offset or 0),
                asked.offset or 0,
                asked.answer,
            )
            for asked in image.asked
        ),
    )

"""Who is connected: one row per session; the index is exact."""

import sqlite3
from collections.abc import Sequence
from functools import partial
from secrets import token_hex
from typing import Final

from typing_extensions import override

from holdfast.backends.sqlite.engine import Engine
from holdfast.backends.sqlite.expiry import expired, purge
from holdfast.backends.sqlite.reading import Snapshot
from holdfast.backends.sqlite.text import check_session, decode, encode, is_session
from holdfast.backends.sqlite.transaction import Transaction
from holdfast.errors import SessionExists, TooManySessions
from holdfast.sessions.protocols import SessionStore
from holdfast.sessions.types import (
    STANDALONE,
    Found,
    Position,
    SessionFacts,
    SessionId,
    Settings,
    shorten,
)

__all__ = ["SqliteSessionStore"]

_PURGED_PER_OPEN: Final = 4
"""More than one, so that removal is faster than opening."""


class SqliteSessionStore(SessionStore):
    """Who is connected."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @override
    async def open(self, facts: SessionFacts, *, limit: int | None) -> None:
        if not is_session(facts.id):
            raise ValueError("session id: allowed is visible ASCII without { and }")
        await self._engine.write(partial(_open, facts=facts, limit=limit))

    @override
    async def find(self, session: SessionId, *, owner: str | None, with_facts: bool) -> Found | None:
        if not is_session(session):
            return None
        engine, now = self._engine, self._engine.now()
        step = partial(_find, now=now, session=session, owner=owner, with_facts=with_facts)
        answer = engine.glance(session, step)
        if answer is None:
            answer = await engine.read(lambda snapshot: step(snapshot.connection))
        found, fading = answer
        if fading:
            await self._engine.write(partial(_touch, session=session))
        return found

    @override
    async def settle(self, session: SessionId, *, protocol_version: str, client: bytes) -> bool:
        check_session(session)
        return await self._engine.write(partial(_settle, session=session, settled=(protocol_version, client)))

    @override
    async def configure(self, session: SessionId, *, log_level: str) -> Settings:
        check_session(session)
        return await self._engine.write(partial(_configure, session=session, log_level=encode(log_level)))

    @override
    async def close(self, session: SessionId) -> bool:
        return is_session(session) and await self._engine.write(partial(_close, session=session))

    @override
    async def count(self) -> int:
        return await self._engine.read(_count)

    @override
    async def list(
        self, *, owner: str | None = None, limit: int = 100, after: SessionId | None = None
    ) -> Sequence[SessionId]:
        return await self._engine.read(partial(_list, owner=owner, limit=limit, after=after or ""))

    @override
    async def refresh(self, sessions: Sequence[SessionFacts]) -> None:
        """Nothing to do: this index is exact."""


def _open(tx: Transaction, facts: SessionFacts, limit: int | None) -> None:
    purge(tx, _PURGED_PER_OPEN)
    now, cache = tx.now, tx.cache
    row = tx.execute("SELECT no, expires_at FROM sessions WHERE id = ?", (facts.id,)).fetchone()
    buried = tx.execute(
        "SELECT 1 FROM tombstones WHERE id = ? AND expires_at > ?", (facts.id, now)
    ).fetchone()
    if buried is not None or (row is not None and row[1] > now):
        raise SessionExists(f"the id {shorten(facts.id)} is not free")
    if limit is not None and cache.sessions - expired(tx.connection, now) >= limit:
        raise TooManySessions(f"{limit} sessions are open")
    if row is not None:
        tx.remove(row[0], facts.id)
    ttl_ms = max(1, round(facts.ttl_seconds * 1000))
    no = cache.next_session
    cache.next_session += 1
    cache.sessions += 1
    tx.execute(
        "INSERT INTO sessions (no, id, owner, protocol_version, client, ttl_ms, expires_at, epoch, life, "
        "broadcast_epoch, broadcast_offset) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            no,
            facts.id,
            None if facts.owner is None else encode(facts.owner),
            facts.protocol_version,
            facts.client,
            ttl_ms,
            now + ttl_ms * 17 // 16,
            token_hex(6),
            cache.life,
            facts.broadcast.epoch,
            facts.broadcast.offset,
        ),
    )
    tx.execute("INSERT INTO heads (no) VALUES (?)", (no,))
    tx.execute("INSERT INTO streams (session, name, opened_at) VALUES (?, ?, 0)", (no, encode(STANDALONE)))


def _find(
    connection: sqlite3.Connection, now: int, session: SessionId, owner: str | None, *, with_facts: bool
) -> tuple[Found | None, bool]:
    """The session, and whether its expiry should be slid."""
    row = connection.execute(
        "SELECT owner, settings_version, log_level, ttl_ms, expires_at, protocol_version, client, "
        "broadcast_epoch, broadcast_offset "
        "FROM sessions WHERE id = ?",
        (session,),
    ).fetchone()
    if row is None:
        return None, False
    owned_by, version, level, ttl_ms, expires_at, protocol, client, *broadcast = row
    if expires_at <= now or owned_by != (None if owner is None else encode(owner)):
        return None, False
    facts = None
    if with_facts:
        facts = SessionFacts(session, owner, protocol, client, ttl_ms / 1000, Position(*broadcast))
    settings = Settings(version, None if level is None else decode(level))
    return Found(settings, facts), expires_at - now < ttl_ms


def _touch(tx: Transaction, session: SessionId) -> None:
    log = tx.find(session)
    if log is not None:
        tx.touch(log)


def _settle(tx: Transaction, session: SessionId, settled: tuple[str, bytes]) -> bool:
    log = tx.live(session)
    tx.execute(
        "UPDATE sessions SET protocol_version = ?, client = ? WHERE no = ? AND protocol_version = ''",
        (*settled, log.no),
    )
    row = tx.execute("SELECT protocol_version, client FROM sessions WHERE no = ?", (log.no,)).fetchone()
    tx.touch(log)
    return tuple(row) == settled


def _configure(tx: Transaction, session: SessionId, log_level: bytes) -> Settings:
    log = tx.live(session)
    (version,) = tx.execute(
        "UPDATE sessions SET settings_version = settings_version + 1, log_level = ? WHERE no = ? "
        "RETURNING settings_version",
        (log_level, log.no),
    ).fetchone()
    tx.touch(log)
    return Settings(version, decode(log_level))


def _close(tx: Transaction, session: SessionId) -> bool:
    log = tx.find(session)
    if log is None:
        return False
    tx.remove(log.no, session)
    tx.execute("DELETE FROM subscriptions WHERE session = ?", (session,))
    tx.execute("INSERT OR REPLACE INTO tombstones VALUES (?, ?)", (session, tx.now + log.ttl_ms * 17 // 16))
    return True


def _count(snapshot: Snapshot) -> int:
    (rows,) = snapshot.connection.execute("SELECT sessions FROM file").fetchone()
    return int(rows) - expired(snapshot.connection, snapshot.now)


def _list(snapshot: Snapshot, owner: str | None, limit: int, after: str) -> list[SessionId]:
    if owner is None:
        rows = snapshot.connection.execute(
            "SELECT id FROM sessions WHERE id > ? AND expires_at > ? ORDER BY id LIMIT ?",
            (after, snapshot.now, limit),
        )
    else:
        rows = snapshot.connection.execute(
            "SELECT id FROM sessions WHERE owner = ? AND id > ? AND expires_at > ? ORDER BY id LIMIT ?",
            (encode(owner), after, snapshot.now, limit),
        )
    return [SessionId(session) for (session,) in rows]

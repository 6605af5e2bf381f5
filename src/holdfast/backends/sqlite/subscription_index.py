"""Who wants to hear about which resource."""

from collections.abc import AsyncIterator, Sequence
from functools import partial
from typing import Final

from typing_extensions import override

from holdfast.backends.sqlite.engine import Engine
from holdfast.backends.sqlite.reading import Snapshot
from holdfast.backends.sqlite.text import check_session, decode, encode, is_session
from holdfast.backends.sqlite.transaction import Transaction
from holdfast.errors import SessionGone, StoreRefused
from holdfast.sessions.protocols import SubscriptionIndex
from holdfast.sessions.types import SessionId, shorten

__all__ = ["SqliteSubscriptionIndex"]

_BATCH: Final = 256


class SqliteSubscriptionIndex(SubscriptionIndex):
    """Which sessions subscribed to which resource."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @override
    async def add(self, session: SessionId, uri: str, *, ttl_seconds: float) -> None:
        check_session(session)
        step = partial(_add, session=session, uri=encode(uri), ttl_ms=_milliseconds(ttl_seconds))
        await self._engine.write(step)

    @override
    async def remove(self, session: SessionId, uri: str) -> None:
        if is_session(session):
            await self._engine.write(partial(_remove, session=session, uri=encode(uri)))

    @override
    async def drop(self, session: SessionId) -> None:
        if is_session(session):
            await self._engine.write(partial(_drop, session=session))

    @override
    async def refresh(self, session: SessionId, *, ttl_seconds: float) -> None:
        ttl_ms = _milliseconds(ttl_seconds)
        if await self._engine.read(partial(_fading, session=session, ttl_ms=ttl_ms)):
            await self._engine.write(partial(_refresh, session=session, ttl_ms=ttl_ms))

    @override
    async def uris(self, session: SessionId) -> Sequence[str]:
        return await self._engine.read(partial(_uris, session=session))

    @override
    async def sessions(self, uri: str) -> AsyncIterator[Sequence[SessionId]]:
        after, name = "", encode(uri)
        while True:
            page = await self._engine.read(partial(_sessions, uri=name, after=after))
            if page:
                yield page
            if len(page) < _BATCH:
                return
            after = page[-1]


def _milliseconds(seconds: float) -> int:
    return max(1, round(seconds * 1000))


def _add(tx: Transaction, session: SessionId, uri: bytes, ttl_ms: int) -> None:
    if tx.execute("SELECT 1 FROM tombstones WHERE id = ?", (session,)).fetchone() is not None:
        raise SessionGone(f"no session {shorten(session)}")
    (number,) = tx.execute("SELECT count(*) FROM subscriptions WHERE session = ?", (session,)).fetchone()
    if number >= tx.options.max_subscriptions:
        raise StoreRefused(f"the session has {number} subscriptions already")
    tx.execute(
        "INSERT INTO subscriptions VALUES (?, ?, ?) "
        "ON CONFLICT DO UPDATE SET expires_at = max(expires_at, excluded.expires_at)",
        (uri, session, tx.now + ttl_ms * 17 // 16),
    )


def _remove(tx: Transaction, session: SessionId, uri: bytes) -> None:
    tx.execute("DELETE FROM subscriptions WHERE uri = ? AND session = ?", (uri, session))


def _drop(tx: Transaction, session: SessionId) -> None:
    tx.execute("DELETE FROM subscriptions WHERE session = ?", (session,))


def _fading(snapshot: Snapshot, session: SessionId, ttl_ms: int) -> bool:
    """Whether any subscription of a session would end before the TTL: else nothing has to be written."""
    row = snapshot.connection.execute(
        "SELECT 1 FROM subscriptions WHERE session = ? AND expires_at < ? LIMIT 1",
        (session, snapshot.now + ttl_ms),
    ).fetchone()
    return row is not None


def _refresh(tx: Transaction, session: SessionId, ttl_ms: int) -> None:
    tx.execute(
        "UPDATE subscriptions SET expires_at = ? WHERE session = ? AND expires_at > ? AND expires_at < ?",
        (tx.now + ttl_ms * 17 // 16, session, tx.now, tx.now + ttl_ms),
    )


def _uris(snapshot: Snapshot, session: SessionId) -> list[str]:
    rows = snapshot.connection.execute(
        "SELECT uri FROM subscriptions WHERE session = ? AND expires_at > ?", (session, snapshot.now)
    )
    return sorted(decode(uri) for (uri,) in rows)


def _sessions(snapshot: Snapshot, uri: bytes, after: str) -> list[SessionId]:
    rows = snapshot.connection.execute(
        "SELECT session FROM subscriptions WHERE uri = ? AND session > ? AND expires_at > ? "
        "ORDER BY session LIMIT ?",
        (uri, after, snapshot.now, _BATCH),
    )
    return [SessionId(session) for (session,) in rows]

"""Answers of clients: accepted once, kept until taken, announced to the replica that waits."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import TypeAlias

from typing_extensions import override

from holdfast.backends.sqlite.appending import ask
from holdfast.backends.sqlite.engine import Engine
from holdfast.backends.sqlite.hints import answer_hint
from holdfast.backends.sqlite.text import check_session, encode, is_session
from holdfast.backends.sqlite.transaction import Transaction
from holdfast.sessions.protocols import Inbox
from holdfast.sessions.types import SessionId

__all__ = ["SqliteInbox"]

_Taken: TypeAlias = tuple[str, bytes | None, int, bytes]
"""Replica, stream, offset, answer."""


class SqliteInbox(Inbox):
    """Answers of clients on their way to the replica that waits."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @override
    async def expect(self, session: SessionId, request_id: str) -> None:
        check_session(session)
        await self._engine.write(partial(_expect, session=session, request=encode(request_id)))

    @override
    async def put(self, session: SessionId, request_id: str, answer: bytes) -> bool:
        if not is_session(session):
            return False
        step = partial(_put, session=session, request=encode(request_id), answer=answer)
        return await self._engine.write(step)

    @override
    async def take(self, session: SessionId, request_id: str) -> bytes | None:
        check_session(session)
        request = encode(request_id)
        row = await self._engine.write(
            partial(_take, session=session, request=request),
            undo=partial(_put_back, session=session, request=request),
        )
        return None if row is None else row[3]

    @override
    async def withdraw(self, session: SessionId, request_id: str) -> None:
        if is_session(session):
            await self._engine.write(partial(_withdraw, session=session, request=encode(request_id)))

    @override
    def listen(
        self, arrived: Callable[[SessionId | None, str | None], None]
    ) -> AbstractAsyncContextManager[None]:
        return self._listen(arrived)

    @asynccontextmanager
    async def _listen(self, arrived: Callable[[SessionId | None, str | None], None]) -> AsyncGenerator[None]:
        with self._engine.hints.answers(arrived):
            yield


def _expect(tx: Transaction, session: SessionId, request: bytes) -> None:
    log = tx.live(session)
    ask(tx, log, request, None, 0)
    tx.touch(log)


def _put(tx: Transaction, session: SessionId, request: bytes, answer: bytes) -> bool:
    log = tx.find(session)
    if log is None:
        return False
    row = tx.execute(
        "UPDATE asked SET answer = ? WHERE session = ? AND request = ? AND answer IS NULL "
        'RETURNING replica, "offset"',
        (answer, log.no, request),
    ).fetchone()
    if row is None:
        return False
    replica, offset = row
    log.settle(offset)
    tx.touch(log)
    tx.hints.append((replica, answer_hint(session, request)))
    return True


def _take(tx: Transaction, session: SessionId, request: bytes) -> _Taken | None:
    log = tx.live(session)
    row: _Taken | None = tx.execute(
        "DELETE FROM asked WHERE session = ? AND request = ? AND answer IS NOT NULL "
        'RETURNING replica, stream, "offset", answer',
        (log.no, request),
    ).fetchone()
    return row


def _put_back(tx: Transaction, row: _Taken, session: SessionId, request: bytes) -> None:
    """Who took it was cancelled before he had it."""
    log = tx.find(session)
    if log is not None:
        tx.execute("INSERT OR IGNORE INTO asked VALUES (?, ?, ?, ?, ?, ?)", (log.no, request, *row))
        tx.hints.append((row[0], answer_hint(session, request)))


def _withdraw(tx: Transaction, session: SessionId, request: bytes) -> None:
    log = tx.find(session)
    if log is None:
        return
    row = tx.execute(
        'DELETE FROM asked WHERE session = ? AND request = ? RETURNING "offset"', (log.no, request)
    ).fetchone()
    if row is not None:
        log.settle(row[0])

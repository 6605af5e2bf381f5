"""The event log of each session: rows of one table, each naming the one before."""

import json
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from typing import Final, TypeVar

from typing_extensions import override

from holdfast.backends.sqlite.appending import Append, open_stream
from holdfast.backends.sqlite.claiming import claim, reader_of
from holdfast.backends.sqlite.engine import Engine
from holdfast.backends.sqlite.reading import EpochEnded, Snapshot, head, read_page
from holdfast.backends.sqlite.text import check_session, encode, is_session
from holdfast.backends.sqlite.transaction import Transaction
from holdfast.errors import SessionGone
from holdfast.sessions.protocols import EventLog
from holdfast.sessions.types import (
    STANDALONE,
    AppendKey,
    Claim,
    Event,
    Page,
    Position,
    Renewed,
    RequestId,
    SessionId,
    StreamId,
)

__all__ = ["SqliteEventLog"]

T = TypeVar("T")

_BATCH: Final = 256


class SqliteEventLog(EventLog):
    """Per session: every message to its client, in one dense order."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @override
    async def open_stream(self, session: SessionId, stream: StreamId, request_id: RequestId) -> Position:
        if stream == STANDALONE:
            raise ValueError("the standalone stream is there from the start")
        check_session(session)
        step = partial(open_stream, session=session, name=encode(stream), request_id=json.dumps(request_id))
        return await self._engine.write(step)

    @override
    async def append(
        self,
        session: SessionId,
        stream: StreamId,
        payload: bytes,
        *,
        key: AppendKey | None = None,
        final: bool = False,
        expects: str | None = None,
    ) -> Event:
        check_session(session)
        step = Append(
            session,
            stream,
            encode(stream),
            payload,
            None if key is None else (encode(key.writer), key.counter),
            final,
            None if expects is None else encode(expects),
        )
        event = await self._engine.write(step)
        self._engine.hints.own_event(session)
        return event

    @override
    async def read(self, session: SessionId, stream: StreamId, *, after: Position, limit: int) -> Page:
        check_session(session)
        return await self._read(
            session,
            partial(
                read_page,
                session=session,
                stream=stream,
                name=encode(stream),
                after=after,
                limit=max(1, limit),
                page_bytes=self._engine.options.page_bytes,
            ),
        )

    @override
    def watch(
        self, session: SessionId, heard: Callable[[Event | None], None]
    ) -> AbstractAsyncContextManager[Position]:
        return self._watch(session, heard)

    @override
    async def renew(self, sessions: Sequence[SessionId]) -> Sequence[Renewed | None]:
        renewed: list[Renewed | None] = []
        for first in range(0, len(sessions), _BATCH):
            step = partial(_look, sessions=sessions[first : first + _BATCH])
            batch, fading = await self._engine.read(step)
            if fading:
                batch |= await self._engine.write(partial(_touch, sessions=fading))
            renewed += [batch.get(session) for session in sessions[first : first + _BATCH]]
        return renewed

    @override
    async def claim(self, session: SessionId, reader: str, *, after: Position | None) -> Claim:
        check_session(session)
        step = partial(claim, session=session, reader=encode(reader), after=after)
        return await self._engine.write(step)

    @asynccontextmanager
    async def _watch(
        self, session: SessionId, heard: Callable[[Event | None], None]
    ) -> AsyncGenerator[Position]:
        check_session(session)
        with self._engine.hints.events(session, heard):
            top = (await self._read(session, partial(head, session=session))).position
            self._engine.hints.reached(session, top.offset)
            yield top

    async def _read(self, session: SessionId, step: Callable[[Snapshot], T]) -> T:
        for _ in range(3):  # only while lives of the file follow one another does once not suffice
            try:
                return await self._engine.read(step)
            except EpochEnded:
                await self._engine.write(partial(Transaction.live, session=session))
        raise SessionGone("the file is opened again and again")


def _look(
    snapshot: Snapshot, sessions: Sequence[SessionId]
) -> tuple[dict[SessionId, Renewed | None], list[SessionId]]:
    """Where sessions are, and those that need a write."""
    there: dict[SessionId, Renewed | None] = {}
    fading: list[SessionId] = []
    for session in filter(is_session, sessions):
        try:
            found = head(snapshot, session)
        except SessionGone:
            continue
        except EpochEnded:
            fading.append(session)
            continue
        there[session] = Renewed(found.position, reader_of(snapshot.connection, found.no))
        if found.fading(snapshot.now):
            fading.append(session)
    return there, fading


def _touch(tx: Transaction, sessions: Sequence[SessionId]) -> dict[SessionId, Renewed | None]:
    there: dict[SessionId, Renewed | None] = {}
    for session in sessions:
        log = tx.find(session)
        if log is None:
            there[session] = None
        else:
            tx.touch(log)
            there[session] = Renewed(Position(log.epoch, log.top), reader_of(tx.connection, log.no))
    return there

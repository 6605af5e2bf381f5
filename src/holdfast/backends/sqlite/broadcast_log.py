"""What is said to all sessions: a table of its own, one row for each event."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

from typing_extensions import override

from holdfast.backends.sqlite.broadcasting import append, read_page, renew, top
from holdfast.backends.sqlite.engine import Engine
from holdfast.backends.sqlite.reading import EpochEnded
from holdfast.backends.sqlite.text import encode
from holdfast.errors import StoreUnavailable
from holdfast.sessions.protocols import BroadcastLog
from holdfast.sessions.types import AppendKey, Event, Page, Position

__all__ = ["SqliteBroadcastLog"]


class SqliteBroadcastLog(BroadcastLog):
    """What is said to all sessions."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._ttl_ms = round(engine.options.broadcast_seconds * 1000)

    @override
    async def append(self, payload: bytes, *, key: AppendKey | None = None) -> Event:
        words = None if key is None else (encode(key.writer), key.counter)
        return await self._engine.write(partial(append, payload=payload, key=words))

    @override
    async def read(self, *, after: Position, limit: int) -> Page:
        options = self._engine.options
        step = partial(read_page, after=after, limit=max(1, limit), page_bytes=options.page_bytes)
        for _ in range(3):  # only while lives of the file follow one another does once not suffice
            try:
                return await self._engine.read(step)
            except EpochEnded:
                await self._engine.write(renew)
        raise StoreUnavailable("the file is opened again and again")

    @override
    async def top(self) -> Position:
        found = await self._engine.read(partial(top, ttl_ms=self._ttl_ms))
        return await self._engine.write(renew) if found is None else found

    @override
    def watch(self, heard: Callable[[Event | None], None]) -> AbstractAsyncContextManager[Position]:
        return self._watch(heard)

    @asynccontextmanager
    async def _watch(self, heard: Callable[[Event | None], None]) -> AsyncGenerator[Position]:
        with self._engine.hints.broadcasts(heard):
            yield await self.top()

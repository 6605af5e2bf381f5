"""`BroadcastLog` in memory: a log like a session's, of which only the standalone stream is used."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace

from typing_extensions import override

from holdfast.backends.memory.data import MemoryData
from holdfast.errors import PositionLost
from holdfast.sessions.protocols import BroadcastLog
from holdfast.sessions.types import BROADCAST, GENESIS, STANDALONE, AppendKey, Event, Page, Position

__all__ = ["MemoryBroadcastLog"]


class MemoryBroadcastLog(BroadcastLog):
    """What is said to all sessions. Here an announcement has arrived when `append` returns."""

    def __init__(self, data: MemoryData) -> None:
        self._data = data

    @override
    async def append(self, payload: bytes, *, key: AppendKey | None = None) -> Event:
        log = self._data.broadcast_log()
        event = log.repeated(STANDALONE, key, payload)
        if event is not None:
            return replace(event, stream=BROADCAST)
        event = log.append(STANDALONE, payload, key=key, final=False, precious=False)
        event = replace(event, stream=BROADCAST)
        for heard in self._data.broadcast_listeners.all():
            heard(event)
        return event

    @override
    async def read(self, *, after: Position, limit: int) -> Page:
        log = self._data.broadcasts
        if log is None:
            if after != GENESIS:
                raise PositionLost("epoch")
            return Page((), GENESIS, complete=True)
        if after == GENESIS:
            after = log.position(0)
        try:
            page = log.read(STANDALONE, after, limit)
        except PositionLost as lost:
            if lost.resume_epoch:
                raise
            raise PositionLost(
                lost.reason, resume_offset=log.trimmed(STANDALONE), resume_epoch=log.top.epoch
            ) from lost
        return replace(page, events=[replace(event, stream=BROADCAST) for event in page.events])

    @override
    async def top(self) -> Position:
        return GENESIS if self._data.broadcasts is None else self._data.broadcasts.top

    @override
    def watch(self, heard: Callable[[Event | None], None]) -> AbstractAsyncContextManager[Position]:
        return self._watch(heard)

    @asynccontextmanager
    async def _watch(self, heard: Callable[[Event | None], None]) -> AsyncGenerator[Position]:
        with self._data.broadcast_listeners.added("", heard):
            yield await self.top()

"""`SubscriptionIndex` in memory."""

from collections.abc import AsyncIterator, Sequence
from heapq import heappop, heappush
from typing import Final

from typing_extensions import override

from holdfast.backends.memory.data import MemoryData
from holdfast.sessions.protocols import SubscriptionIndex
from holdfast.sessions.types import SessionId

__all__ = ["MemorySubscriptionIndex"]

BATCH: Final = 256
PURGED_PER_ADD: Final = 4


class MemorySubscriptionIndex(SubscriptionIndex):
    """Which sessions subscribed to which resource."""

    def __init__(self, data: MemoryData) -> None:
        self._data = data

    @override
    async def add(self, session: SessionId, uri: str, *, ttl_seconds: float) -> None:
        self._purge()
        deadline = self._data.clock() + ttl_seconds
        self._queue(session, deadline)
        self._put(session, uri, deadline)

    @override
    async def remove(self, session: SessionId, uri: str) -> None:
        self._remove(session, uri)

    @override
    async def drop(self, session: SessionId) -> None:
        for uri in list(self._data.subscriptions.get(session, ())):
            self._remove(session, uri)

    @override
    async def refresh(self, session: SessionId, *, ttl_seconds: float) -> None:
        deadline = self._data.clock() + ttl_seconds
        for uri in await self.uris(session):
            self._put(session, uri, deadline)

    @override
    async def uris(self, session: SessionId) -> Sequence[str]:
        now = self._data.clock()
        uris = self._data.subscriptions.get(session, {})
        return sorted(uri for uri, deadline in uris.items() if deadline > now)

    @override
    async def sessions(self, uri: str) -> AsyncIterator[Sequence[SessionId]]:
        now = self._data.clock()
        sessions = self._data.subscribed.get(uri, {})
        living = [session for session, deadline in sessions.items() if deadline > now]
        for first in range(0, len(living), BATCH):
            yield living[first : first + BATCH]

    def _put(self, session: SessionId, uri: str, deadline: float) -> None:
        self._data.subscriptions.setdefault(session, {})[uri] = deadline
        self._data.subscribed.setdefault(uri, {})[session] = deadline

    def _remove(self, session: SessionId, uri: str) -> None:
        uris = self._data.subscriptions.get(session, {})
        if uris.pop(uri, None) is None:
            return
        if not uris:
            del self._data.subscriptions[session]
        sessions = self._data.subscribed[uri]
        del sessions[session]
        if not sessions:
            del self._data.subscribed[uri]

    def _queue(self, session: SessionId, deadline: float) -> None:
        # One place per session, put right when its turn comes: subscribing and unsubscribing adds nothing.
        if session not in self._data.subscription_queued:
            self._data.subscription_queued.add(session)
            heappush(self._data.subscription_deadlines, (deadline, session))

    def _purge(self) -> None:
        now, queue = self._data.clock(), self._data.subscription_deadlines
        for _ in range(PURGED_PER_ADD):
            if not queue or queue[0][0] > now:
                return
            _, session = heappop(queue)
            self._data.subscription_queued.remove(session)
            for uri, deadline in list(self._data.subscriptions.get(session, {}).items()):
                if deadline <= now:
                    self._remove(session, uri)
            if session in self._data.subscriptions:
                self._queue(session, min(self._data.subscriptions[session].values()))

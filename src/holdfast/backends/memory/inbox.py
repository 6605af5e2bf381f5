"""`Inbox` in memory."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from typing_extensions import override

from holdfast.backends.memory.data import MemoryData, Waiting
from holdfast.sessions.protocols import Inbox
from holdfast.sessions.types import ReplicaId, SessionId

__all__ = ["MemoryInbox"]


class MemoryInbox(Inbox):
    """Answers of clients on their way to the replica that waits."""

    def __init__(self, data: MemoryData, replica: ReplicaId) -> None:
        self._data = data
        self._replica = replica

    @override
    async def expect(self, session: SessionId, request_id: str) -> None:
        self._data.live(session).waiting[request_id] = Waiting(self._replica)

    @override
    async def put(self, session: SessionId, request_id: str, answer: bytes) -> bool:
        found = self._data.get(session)
        waiting = found.waiting.get(request_id) if found is not None else None
        if found is None or waiting is None or waiting.answer is not None:
            return False
        waiting.answer = answer
        found.log.settle(waiting.offset)
        for arrived in self._data.answer_listeners.of(waiting.replica):
            arrived(session, request_id)
        return True

    @override
    async def take(self, session: SessionId, request_id: str) -> bytes | None:
        waiting = self._data.live(session).waiting
        if request_id not in waiting or waiting[request_id].answer is None:
            return None
        return waiting.pop(request_id).answer

    @override
    async def withdraw(self, session: SessionId, request_id: str) -> None:
        found = self._data.get(session)
        waiting = found.waiting.pop(request_id, None) if found is not None else None
        if found is not None and waiting is not None:
            found.log.settle(waiting.offset)

    @override
    def listen(
        self, arrived: Callable[[SessionId | None, str | None], None]
    ) -> AbstractAsyncContextManager[None]:
        return self._listen(arrived)

    @asynccontextmanager
    async def _listen(self, arrived: Callable[[SessionId | None, str | None], None]) -> AsyncGenerator[None]:
        with self._data.answer_listeners.added(self._replica, arrived):
            yield

"""`Bus` in memory."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from typing_extensions import override

from holdfast.backends.memory.data import MemoryData
from holdfast.sessions.protocols import Bus

__all__ = ["MemoryBus"]


class MemoryBus(Bus):
    """Fan-out between replicas. Here a message has arrived when `publish` returns."""

    def __init__(self, data: MemoryData) -> None:
        self._data = data

    @override
    async def publish(self, topic: str, message: bytes) -> None:
        for receive in self._data.subscribers.of(topic):
            receive(message)

    @override
    def subscribe(self, topic: str, receive: Callable[[bytes], None]) -> AbstractAsyncContextManager[None]:
        return self._subscribe(topic, receive)

    @asynccontextmanager
    async def _subscribe(self, topic: str, receive: Callable[[bytes], None]) -> AsyncGenerator[None]:
        with self._data.subscribers.added(topic, receive):
            yield

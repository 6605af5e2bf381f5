"""Fan-out between replicas: rows that every process reads, for some seconds."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial

from typing_extensions import override

from holdfast.backends.sqlite.engine import Engine
from holdfast.backends.sqlite.hints import BUS
from holdfast.backends.sqlite.text import encode
from holdfast.backends.sqlite.transaction import Transaction
from holdfast.sessions.protocols import Bus

__all__ = ["SqliteBus"]


class SqliteBus(Bus):
    """Fan-out between replicas."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @override
    async def publish(self, topic: str, message: bytes) -> None:
        await self._engine.write(partial(_publish, topic=encode(topic), message=message))

    @override
    def subscribe(self, topic: str, receive: Callable[[bytes], None]) -> AbstractAsyncContextManager[None]:
        return self._subscribe(encode(topic), receive)

    @asynccontextmanager
    async def _subscribe(self, topic: bytes, receive: Callable[[bytes], None]) -> AsyncGenerator[None]:
        async with self._engine.topics.subscribed(topic, receive):
            yield


def _publish(tx: Transaction, topic: bytes, message: bytes) -> None:
    tx.execute("INSERT INTO bus (at, topic, message) VALUES (?, ?, ?)", (tx.now, topic, message))
    tx.hints.append((None, BUS))

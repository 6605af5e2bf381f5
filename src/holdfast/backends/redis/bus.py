"""Fan-out between replicas: one channel per topic."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Final

from typing_extensions import override

from holdfast.backends.redis.announcements import Announcements
from holdfast.backends.redis.client import Client
from holdfast.backends.redis.keys import Keys
from holdfast.sessions.protocols import Bus

__all__ = ["RedisBus"]

_VERSION: Final = b"1 "


class RedisBus(Bus):
    """Fan-out between replicas, on one channel per topic."""

    def __init__(self, client: Client, announcements: Announcements, keys: Keys) -> None:
        self._client = client
        self._announcements = announcements
        self._keys = keys

    @override
    async def publish(self, topic: str, message: bytes) -> None:
        await self._client.command("PUBLISH", self._keys.topic(topic), _VERSION + message, safe=True)

    @override
    @asynccontextmanager
    async def subscribe(self, topic: str, receive: Callable[[bytes], None]) -> AsyncGenerator[None]:
        def unwrap(data: bytes) -> None:
            if data.startswith(_VERSION):  # a later version is for later releases
                receive(data[len(_VERSION) :])

        async with self._announcements.subscribed(self._keys.topic(topic), unwrap):
            yield

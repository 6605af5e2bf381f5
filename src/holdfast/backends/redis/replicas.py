"""Which replicas live: one key each, which expires when the beats stop."""

from typing_extensions import override

from holdfast.backends.redis.client import Client
from holdfast.backends.redis.keys import Keys
from holdfast.sessions.protocols import ReplicaDirectory
from holdfast.sessions.types import ReplicaId

__all__ = ["RedisReplicaDirectory"]


class RedisReplicaDirectory(ReplicaDirectory):
    """Which replicas live."""

    def __init__(self, client: Client, keys: Keys, replica: ReplicaId) -> None:
        self._client = client
        self._keys = keys
        self._own = keys.replica(replica)

    @override
    async def beat(self, ttl_seconds: float) -> None:
        milliseconds = max(1, round(ttl_seconds * 1000))
        await self._client.command("SET", self._own, "1", "PX", milliseconds, safe=True)

    @override
    async def alive(self, replica: ReplicaId) -> bool:
        return bool(await self._client.command("EXISTS", self._keys.replica(replica), safe=True))

    @override
    async def retire(self) -> None:
        await self._client.command("DEL", self._own, safe=True)

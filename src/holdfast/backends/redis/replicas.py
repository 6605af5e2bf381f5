"""Which replicas live: one key each, which expires when the beats stop."""

from holdfast.backends.redis.client import Client
from holdfast.backends.redis.keys import Keys
from holdfast.sessions.types import ReplicaId

__all__ = ["RedisReplicaDirectory"]


class RedisReplicaDirectory:
    """Implements `ReplicaDirectory`."""

    def __init__(self, client: Client, keys: Keys, replica: ReplicaId) -> None:
        self._client = client
        self._keys = keys
        self._own = keys.replica(replica)

    async def beat(self, ttl_seconds: float) -> None:
        """This replica lives for `ttl_seconds` more."""
        milliseconds = max(1, round(ttl_seconds * 1000))
        await self._client.command("SET", self._own, "1", "PX", milliseconds, safe=True)

    async def alive(self, replica: ReplicaId) -> bool:
        """Whether `replica` had a beat that has not run out."""
        return bool(await self._client.command("EXISTS", self._keys.replica(replica), safe=True))

    async def retire(self) -> None:
        """This replica counts as dead at once."""
        await self._client.command("DEL", self._own, safe=True)

"""Which replicas live: one key each, which expires when the beats stop."""

from typing_extensions import override

from holdfast.backends.redis.client import Client
from holdfast.backends.redis.keys import Keys
from holdfast.sessions.protocols import ReplicaDirectory
from holdfast.sessions.types import ReplicaId

__all__ = ["RedisReplicaDirectory"]


class RedisReplicaDirectory(ReplicaDirectory):
    """Which replicas live.

    Each beat is written under the key of the first release too, which looks there, and a replica of that one
    is looked for there: side by side, the two would else take each other for dead.
    """

    def __init__(self, client: Client, keys: Keys, replica: ReplicaId) -> None:
        self._client = client
        self._keys = keys
        self._own = (keys.replica(replica), keys.first_replica(replica))

    @override
    async def beat(self, ttl_seconds: float, *, of: ReplicaId | None = None) -> None:
        milliseconds = max(1, round(ttl_seconds * 1000))
        for key in self._own if of is None else (self._keys.replica(of),):
            await self._client.command("SET", key, "1", "PX", milliseconds, safe=True)

    @override
    async def alive(self, replica: ReplicaId) -> bool:
        for key in (self._keys.replica(replica), self._keys.first_replica(replica)):
            if await self._client.command("EXISTS", key, safe=True):
                return True
        return False

    @override
    async def retire(self) -> None:
        for key in self._own:
            await self._client.command("DEL", key, safe=True)

"""`ReplicaDirectory` in memory."""

from typing_extensions import override

from holdfast.backends.memory.data import MemoryData
from holdfast.sessions.protocols import ReplicaDirectory
from holdfast.sessions.types import ReplicaId

__all__ = ["MemoryReplicaDirectory"]


class MemoryReplicaDirectory(ReplicaDirectory):
    """Which replicas live."""

    def __init__(self, data: MemoryData, replica: ReplicaId) -> None:
        self._data = data
        self._replica = replica

    @override
    async def beat(self, ttl_seconds: float, *, of: ReplicaId | None = None) -> None:
        now, replicas = self._data.clock(), self._data.replicas
        replicas[of or self._replica] = now + ttl_seconds
        # Ids are never used again: without this, the dead would pile up. They are few.
        for replica in [replica for replica, deadline in replicas.items() if deadline <= now]:
            del replicas[replica]

    @override
    async def alive(self, replica: ReplicaId) -> bool:
        return self._data.replicas.get(replica, 0.0) > self._data.clock()

    @override
    async def retire(self) -> None:
        self._data.replicas.pop(self._replica, None)

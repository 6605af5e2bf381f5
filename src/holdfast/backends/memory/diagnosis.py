"""`Diagnosis` in memory: there is little that can be wrong."""

from typing_extensions import override

from holdfast.backends.memory.data import MemoryData
from holdfast.errors import StoreRefused
from holdfast.sessions.diagnosis import Diagnosis, StoreFacts
from holdfast.sessions.types import ReplicaId

__all__ = ["MemoryDiagnosis"]

_CANARY_SECONDS = 10.0


class MemoryDiagnosis(Diagnosis):
    """What a memory store can say of itself."""

    def __init__(self, data: MemoryData, replica: ReplicaId) -> None:
        self._data = data
        self._canary = ReplicaId(f"canary-{replica}")

    @property
    @override
    def mode(self) -> str:
        return "memory"

    @override
    async def facts(self) -> StoreFacts:
        return StoreFacts(product="memory", mode="memory", durable=False)

    @override
    async def canary(self) -> None:
        deadline = self._data.clock() + _CANARY_SECONDS
        self._data.replicas[self._canary] = deadline
        if self._data.replicas.pop(self._canary, None) != deadline:
            raise StoreRefused("memory: what was written is not there")

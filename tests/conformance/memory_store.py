"""The memory backend as a store under test: a replica is a view of the same data, and time is a number."""

from typing_extensions import override

from holdfast.backends.memory import MemoryBackend, MemoryData
from holdfast.sessions.protocols import Backend
from holdfast.testing import conformance


class MemoryStore(conformance.StoreUnderTest):
    can_fail_over = True

    def __init__(self) -> None:
        self.now = 1000.0
        self.data = MemoryData(max_events=self.max_events, max_bytes=self.max_bytes, clock=lambda: self.now)

    @override
    def replica(self) -> Backend:
        return MemoryBackend(self.data)

    @override
    async def advance(self, seconds: float) -> None:
        self.now += seconds

    @override
    async def fail_over(self, keep: int | None) -> None:
        self.data.fail_over(keep)

"""How a mutant is made: one part of the memory backend is broken on purpose, the others are whole."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from typing_extensions import override

from holdfast.backends.memory import MemoryBackend, MemoryData
from holdfast.backends.memory.broadcast_log import MemoryBroadcastLog
from holdfast.backends.memory.bus import MemoryBus
from holdfast.backends.memory.event_log import MemoryEventLog
from holdfast.backends.memory.inbox import MemoryInbox
from holdfast.backends.memory.replicas import MemoryReplicaDirectory
from holdfast.backends.memory.session_log import SessionLog
from holdfast.backends.memory.session_store import MemorySessionStore
from holdfast.backends.memory.subscription_index import MemorySubscriptionIndex
from holdfast.backends.memory.transfer import MemoryTransfer
from holdfast.backends.memory.trim_order import TrimOrder
from holdfast.sessions.protocols import Backend
from holdfast.sessions.types import SessionFacts
from tests.conformance.memory_store import MemoryStore

T = TypeVar("T", bound=type)


@dataclass(frozen=True)
class Mutant:
    """One broken part and the suite that must notice."""

    part: type
    suite: type

    @property
    def name(self) -> str:
        return self.part.__name__

    def store(self) -> "MutantStore":
        return MutantStore(self.part)


MUTANTS: list[Mutant] = []


def must_fail(suite: type) -> Callable[[T], T]:
    """Register a broken part."""

    def register(part: T) -> T:
        MUTANTS.append(Mutant(part, suite))
        return part

    return register


class MutantStore(MemoryStore):
    """A memory store of which one part is broken."""

    def __init__(self, part: type) -> None:
        super().__init__()
        self._part = part
        if issubclass(part, (SessionLog, TrimOrder)):
            self.data = _DataWithLogs(part, self.max_events, self.max_bytes, clock=lambda: self.now)
        elif issubclass(part, MemoryData):
            self.data = part(max_events=self.max_events, max_bytes=self.max_bytes, clock=lambda: self.now)

    @override
    def replica(self) -> Backend:
        return _BackendWithPart(self.data, self._part)


class _DataWithLogs(MemoryData):
    def __init__(
        self,
        part: type[SessionLog | TrimOrder],
        max_events: int,
        max_bytes: int,
        *,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(max_events=max_events, max_bytes=max_bytes, clock=clock)
        self._part = part

    @override
    def add(self, facts: SessionFacts) -> None:
        super().add(facts)
        part = self._part(max_events=self._max_events, max_bytes=self._max_bytes)
        if isinstance(part, SessionLog):
            self._sessions[facts.id].log = part
        else:
            self._sessions[facts.id].log._trim_order = part  # pyright: ignore[reportPrivateUsage]


class _BackendWithPart(MemoryBackend):
    def __init__(self, data: MemoryData, part: type) -> None:
        super().__init__(data)
        if issubclass(part, MemoryEventLog):
            self._log = part(data, self.replica)
        elif issubclass(part, MemoryBroadcastLog):
            self._broadcasts = part(data)
        elif issubclass(part, MemorySessionStore):
            self._sessions = part(data)
        elif issubclass(part, MemoryInbox):
            self._inbox = part(data, self.replica)
        elif issubclass(part, MemoryBus):
            self._bus = part(data)
        elif issubclass(part, MemorySubscriptionIndex):
            self._subscriptions = part(data)
        elif issubclass(part, MemoryReplicaDirectory):
            self._replicas = part(data, self.replica)
        elif issubclass(part, MemoryTransfer):
            self._transfer = part(data)

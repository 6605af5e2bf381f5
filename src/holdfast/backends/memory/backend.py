"""One replica's view of a memory store."""

from secrets import token_hex
from typing import Self

from typing_extensions import override

from holdfast.backends.memory.broadcast_log import MemoryBroadcastLog
from holdfast.backends.memory.bus import MemoryBus
from holdfast.backends.memory.data import MemoryData
from holdfast.backends.memory.diagnosis import MemoryDiagnosis
from holdfast.backends.memory.event_log import MemoryEventLog
from holdfast.backends.memory.inbox import MemoryInbox
from holdfast.backends.memory.replicas import MemoryReplicaDirectory
from holdfast.backends.memory.session_store import MemorySessionStore
from holdfast.backends.memory.subscription_index import MemorySubscriptionIndex
from holdfast.backends.memory.transfer import MemoryTransfer
from holdfast.sessions.diagnosis import Diagnosis
from holdfast.sessions.protocols import (
    Backend,
    BroadcastLog,
    Bus,
    EventLog,
    Inbox,
    ReplicaDirectory,
    SessionStore,
    SubscriptionIndex,
    Transfer,
)
from holdfast.sessions.types import ReplicaId

__all__ = ["MemoryBackend"]


class MemoryBackend(Backend):
    """Sessions in the memory of this process: the default, and the model that other backends are held to.

    Needs no connection, so entering it is not needed either. What it holds ends with the process.

    Args:
        data: the store; several backends with the same one are replicas of one fleet. None: a new one.
        replica: the id of this replica. None: a new one.
    """

    def __init__(self, data: MemoryData | None = None, *, replica: ReplicaId | None = None) -> None:
        self.data = MemoryData() if data is None else data
        self._replica = ReplicaId(f"m{token_hex(8)}") if replica is None else replica
        self._log = MemoryEventLog(self.data, self._replica)
        self._broadcasts = MemoryBroadcastLog(self.data)
        self._sessions = MemorySessionStore(self.data)
        self._inbox = MemoryInbox(self.data, self._replica)
        self._bus = MemoryBus(self.data)
        self._subscriptions = MemorySubscriptionIndex(self.data)
        self._replicas = MemoryReplicaDirectory(self.data, self._replica)
        self._transfer = MemoryTransfer(self.data)
        self._diagnosis = MemoryDiagnosis(self.data, self._replica)

    @property
    @override
    def replica(self) -> ReplicaId:
        return self._replica

    @property
    @override
    def log(self) -> EventLog:
        return self._log

    @property
    @override
    def broadcasts(self) -> BroadcastLog:
        return self._broadcasts

    @property
    @override
    def sessions(self) -> SessionStore:
        return self._sessions

    @property
    @override
    def inbox(self) -> Inbox:
        return self._inbox

    @property
    @override
    def bus(self) -> Bus:
        return self._bus

    @property
    @override
    def subscriptions(self) -> SubscriptionIndex:
        return self._subscriptions

    @property
    @override
    def replicas(self) -> ReplicaDirectory:
        return self._replicas

    @property
    @override
    def transfer(self) -> Transfer:
        return self._transfer

    @property
    @override
    def diagnosis(self) -> Diagnosis:
        return self._diagnosis

    @override
    async def __aenter__(self) -> Self:
        return self

    @override
    async def __aexit__(self, *exc_info: object) -> None:
        """There is nothing to close: the data may be shared."""

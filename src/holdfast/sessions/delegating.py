"""A backend in front of another one: the base of those that change what passes through."""

from typing import Self

from typing_extensions import override

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

__all__ = ["DelegatingBackend"]


class DelegatingBackend(Backend):
    """Passes everything on. A subclass puts parts of its own in the place of some.

    Attributes:
        inner: the backend behind it.
    """

    def __init__(self, inner: Backend) -> None:
        self.inner = inner
        self._log = inner.log
        self._broadcasts = inner.broadcasts
        self._sessions = inner.sessions
        self._inbox = inner.inbox
        self._bus = inner.bus
        self._subscriptions = inner.subscriptions
        self._replicas = inner.replicas
        self._transfer = inner.transfer
        self._diagnosis = inner.diagnosis

    @property
    @override
    def replica(self) -> ReplicaId:
        return self.inner.replica

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
        await self.inner.__aenter__()
        return self

    @override
    async def __aexit__(self, *exc_info: object) -> None:
        await self.inner.__aexit__(*exc_info)

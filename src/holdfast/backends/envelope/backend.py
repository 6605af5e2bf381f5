"""Any backend, with what clients say and hear compressed or encrypted on its way to the store."""

from typing import Self

from typing_extensions import override

from holdfast.backends.envelope.broadcast_log import EnvelopeBroadcastLog
from holdfast.backends.envelope.codec import Codec
from holdfast.backends.envelope.event_log import EnvelopeEventLog
from holdfast.backends.envelope.inbox import EnvelopeInbox
from holdfast.backends.envelope.session_store import EnvelopeSessionStore
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

__all__ = ["EnvelopeBackend"]


class EnvelopeBackend(Backend):
    """Another backend whose payloads are wrapped by a `Codec`.

    Payloads are the messages to clients, their answers and the params of `initialize`. What the store itself
    works with stays readable in it: ids, owners' digests, log levels, URIs of subscriptions, sizes and times.
    """

    def __init__(self, inner: Backend, codec: Codec) -> None:
        self.inner = inner
        self._log = EnvelopeEventLog(inner.log, codec)
        self._broadcasts = EnvelopeBroadcastLog(inner.broadcasts, codec)
        self._sessions = EnvelopeSessionStore(inner.sessions, codec)
        self._inbox = EnvelopeInbox(inner.inbox, codec)

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
        return self.inner.bus

    @property
    @override
    def subscriptions(self) -> SubscriptionIndex:
        return self.inner.subscriptions

    @property
    @override
    def replicas(self) -> ReplicaDirectory:
        return self.inner.replicas

    @property
    @override
    def transfer(self) -> Transfer:
        """Moves what is stored as it is stored: what was encrypted stays so on its way."""
        return self.inner.transfer

    @override
    async def __aenter__(self) -> Self:
        await self.inner.__aenter__()
        return self

    @override
    async def __aexit__(self, *exc_info: object) -> None:
        await self.inner.__aexit__(*exc_info)

"""Any backend, with what clients say and hear compressed or encrypted on its way to the store."""

from holdfast.backends.envelope.broadcast_log import EnvelopeBroadcastLog
from holdfast.backends.envelope.codec import Codec
from holdfast.backends.envelope.event_log import EnvelopeEventLog
from holdfast.backends.envelope.inbox import EnvelopeInbox
from holdfast.backends.envelope.session_store import EnvelopeSessionStore
from holdfast.sessions.delegating import DelegatingBackend
from holdfast.sessions.protocols import Backend

__all__ = ["EnvelopeBackend"]


class EnvelopeBackend(DelegatingBackend):
    """Another backend whose payloads are wrapped by a `Codec`.

    Payloads are the messages to clients, their answers and the params of `initialize`. What the store itself
    works with stays readable in it: ids, owners' digests, log levels, URIs of subscriptions, sizes and times.
    A transfer moves what is stored as it is stored: what was encrypted stays so on its way.
    """

    def __init__(self, inner: Backend, codec: Codec) -> None:
        super().__init__(inner)
        self._log = EnvelopeEventLog(inner.log, codec)
        self._broadcasts = EnvelopeBroadcastLog(inner.broadcasts, codec)
        self._sessions = EnvelopeSessionStore(inner.sessions, codec)
        self._inbox = EnvelopeInbox(inner.inbox, codec)

"""The seam to a framework: how the edge hands it a message, and how it speaks to the client.

A backend has no part in it. `holdfast.sessions.protocols` names these protocols beside those of a store.
"""

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, Protocol

from holdfast.sessions.types import AskOptions, Initialized, Outcome, RequestId, Session, SessionId, Settings

__all__ = ["Channel", "Exchange", "Kernel"]


class Channel(Protocol):
    """A way to the client of one session, as the framework that runs a handler sees it.

    Methods raise `SessionGone` once the session ended and `StoreError` when the store fails: one message is
    not sent, the handler may go on.
    """

    async def emit(self, payload: bytes) -> None:
        """Send a notification."""
        ...

    async def ask(self, method: str, params: Mapping[str, Any] | None, options: AskOptions = ...) -> bytes:
        """Send a request to the client and wait for its answer, on whichever replica that is posted.

        Returns:
            The client's JSON-RPC response, as it was posted.

        Raises:
            TimeoutError: `options.timeout_seconds` ran out. The client has been told.
        """
        ...


class Exchange(Channel, Protocol):
    """One message of a client and the way back. The edge implements it, a `Kernel` uses it.

    As a `Channel` it is the stream of this very request: what is sent after the answer is dropped.
    """

    @property
    def session(self) -> SessionId:
        """The session that the message belongs to."""
        ...

    @property
    def request_id(self) -> RequestId | None:
        """Id of the request; None for a notification."""
        ...

    @property
    def scope(self) -> MutableMapping[str, Any]:
        """The ASGI scope of the HTTP request that carried the message."""
        ...

    @property
    def body(self) -> bytes:
        """The body of that HTTP request."""
        ...

    @property
    def standalone(self) -> Channel:
        """The session's standalone stream."""
        ...

    @property
    def can_ask(self) -> bool:
        """Whether `ask` can reach the client: not for notifications, not after the answer."""
        ...

    @property
    def can_close_stream(self) -> bool:
        """Whether the client can resume, so that its streams may be closed in mid-request (>= 2025-11-25)."""
        ...

    async def close_stream(self) -> None:
        """End the HTTP response of this request; the client resumes later. Nothing is lost meanwhile."""
        ...

    async def close_standalone(self) -> None:
        """End the HTTP response of the session's standalone stream, on whichever replica it is."""
        ...


class Kernel(Protocol):
    """How the edge hands one decoded message of one session to a framework, and gets bytes back.

    Nothing outside `holdfast.integrations` may assume how a kernel works inside. The edge runs every call
    in the task of its HTTP request, in a scope that it cancels when the client cancels the request or the
    session ends. What a handler does wrong never raises here: it becomes a JSON-RPC error.
    """

    async def initialize(self, exchange: Exchange, params: Mapping[str, Any] | None) -> Initialized:
        """Handle `initialize`. The session exists only after the edge has opened it."""
        ...

    async def request(
        self, exchange: Exchange, session: Session, method: str, params: Mapping[str, Any] | None
    ) -> Outcome:
        """Handle a request of a session that any replica may have opened."""
        ...

    async def notify(
        self, exchange: Exchange, session: Session, method: str, params: Mapping[str, Any] | None
    ) -> None:
        """Handle a notification."""
        ...

    async def configure(self, session: SessionId, settings: Settings) -> None:
        """The session's settings changed on another replica. Does nothing for a session not known here."""
        ...

    async def forget(self, session: SessionId) -> None:
        """The session ended, or has been idle here: release what this replica keeps for it."""
        ...

    def idle(self, seconds: float) -> Sequence[SessionId]:
        """Sessions that this replica keeps something for and that did nothing here for `seconds`."""
        ...

"""One message of a client and the ways back to that client, as a framework's handler sees them."""

import contextlib
from collections.abc import Mapping
from typing import Any, Final, Protocol

import anyio
from typing_extensions import override

from holdfast.asgi.guards import Scope
from holdfast.asgi.jsonrpc import encode_notification, encode_request
from holdfast.errors import HoldfastError, StreamError
from holdfast.sessions.relay import LoggedStream, Outlet
from holdfast.sessions.replica import Replica
from holdfast.sessions.types import STANDALONE, AskOptions, RequestId, SessionId

__all__ = ["HttpExchange", "OpeningExchange", "StandaloneChannel", "primes"]

_PRIMED_SINCE: Final = "2025-11-25"
_WITHDRAW_SECONDS: Final = 2.0
_NO_OPTIONS: Final = AskOptions()


def primes(protocol_version: str) -> bool:
    """Whether clients of this version understand events without a message, and resume closed streams."""
    return protocol_version >= _PRIMED_SINCE


class _Sender(Protocol):
    """Sends a message on the chosen stream; `expects` makes it a request that waits for an answer."""

    async def __call__(self, payload: bytes, *, expects: str | None = None) -> None: ...


class _Asker:
    """Asks the client something on one stream, and waits."""

    def __init__(self, replica: Replica, session: SessionId, send: _Sender) -> None:
        self._replica = replica
        self._session = session
        self._send = send

    async def ask(self, method: str, params: Mapping[str, Any] | None, options: AskOptions) -> bytes:
        with (
            self._replica.running.asking(self._session),
            self._replica.waiting.waiting(self._session, options.on_progress) as waiter,
        ):
            if options.on_progress is not None:
                given = dict(params or {})
                meta: dict[str, Any] = given.get("_meta") or {}
                params = given | {"_meta": meta | {"progressToken": waiter.request_id}}
            try:
                await self._send(encode_request(waiter.request_id, method, params), expects=waiter.request_id)
                with anyio.fail_after(options.timeout_seconds):
                    return await waiter.answer(self._replica.backend.inbox)
            except BaseException:
                await self._give_up(waiter.request_id)
                raise

    async def _give_up(self, request_id: str) -> None:
        """Nobody waits any more: take the request back, and tell the client so."""
        cancelled = encode_notification("notifications/cancelled", {"requestId": request_id})
        with anyio.move_on_after(_WITHDRAW_SECONDS, shield=True), contextlib.suppress(HoldfastError):
            await self._replica.backend.inbox.withdraw(self._session, request_id)
            await self._send(cancelled)


class StandaloneChannel:
    """The session's standalone stream: a `Channel`."""

    def __init__(self, replica: Replica, session: SessionId) -> None:
        self._session = session
        self._relay = replica.relay
        self._asker = _Asker(replica, session, self._send)

    async def emit(self, payload: bytes) -> None:
        """Append to the standalone stream, whoever reads it, now or later."""
        await self._send(payload)

    async def ask(
        self, method: str, params: Mapping[str, Any] | None, options: AskOptions = _NO_OPTIONS
    ) -> bytes:
        """Ask on the standalone stream."""
        return await self._asker.ask(method, params, options)

    async def _send(self, payload: bytes, *, expects: str | None = None) -> None:
        await self._relay.send_standalone(self._session, payload, expects=expects)


class HttpExchange:
    """A POSTed message of an open session: an `Exchange`. Without an outlet it is a notification."""

    def __init__(
        self,
        replica: Replica,
        session: SessionId,
        scope: Scope,
        body: bytes,
        *,
        request_id: RequestId | None = None,
        outlet: Outlet | None = None,
        may_ask: bool = False,
        may_close: bool = False,
    ) -> None:
        self.session = session
        self.scope = scope
        self.body = body
        self.request_id = request_id
        self.answered = False
        self._replica = replica
        self._outlet = outlet
        self._may_ask = may_ask
        self._may_close = may_close

    @property
    def standalone(self) -> StandaloneChannel:
        """The session's standalone stream."""
        return StandaloneChannel(self._replica, self.session)

    @property
    def can_ask(self) -> bool:
        """Whether a question on this request's stream can reach the client."""
        return self._may_ask and not self.answered

    @property
    def can_close_stream(self) -> bool:
        """Whether the client can resume what is closed."""
        return self._may_close

    async def emit(self, payload: bytes) -> None:
        """Send on this request's stream; a notification has none."""
        if self._outlet is not None and not self.answered:
            await self._outlet.emit(payload)

    async def ask(
        self, method: str, params: Mapping[str, Any] | None, options: AskOptions = _NO_OPTIONS
    ) -> bytes:
        """Ask on this request's stream.

        Raises:
            StreamError: there is no such stream, or it has ended; see `can_ask`.
        """
        if self._outlet is None or not self.can_ask:
            raise StreamError("this request has no stream on which the client could be asked")
        return await _Asker(self._replica, self.session, self._outlet.emit).ask(method, params, options)

    async def close_stream(self) -> None:
        """Make this request a stream if it is none yet, and end the response that carries it."""
        if isinstance(self._outlet, LoggedStream):
            await self._outlet.open()
            await self._replica.close_stream(self.session, self._outlet.stream)

    async def close_standalone(self) -> None:
        """End the response that carries the standalone stream."""
        await self._replica.close_stream(self.session, STANDALONE)


class OpeningExchange(HttpExchange):
    """The `initialize` request: no session exists yet, so what is emitted is kept for its response."""

    def __init__(
        self, replica: Replica, session: SessionId, scope: Scope, body: bytes, request_id: RequestId
    ) -> None:
        super().__init__(replica, session, scope, body, request_id=request_id)
        self.emitted: list[bytes] = []

    @override
    async def emit(self, payload: bytes) -> None:
        """Keep a notification, to be sent before the response."""
        self.emitted.append(payload)

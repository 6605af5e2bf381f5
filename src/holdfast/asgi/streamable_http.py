"""Streamable HTTP of the handshake era (2024-11-05 to 2025-11-25): POST, GET and DELETE, on any replica."""

from collections.abc import Awaitable, Callable
from typing import Final, TypeAlias

from holdfast.asgi.exchange import HttpExchange, OpeningExchange, primes
from holdfast.asgi.guards import (
    Http,
    Receive,
    Refusal,
    Scope,
    Send,
    accepts,
    is_json,
    read_body,
    read_headers,
)
from holdfast.asgi.jsonrpc import (
    Answer,
    InvalidMessageError,
    Notification,
    Request,
    decode,
)
from holdfast.asgi.messages import (
    LARGEST_CLIENT_BYTES,
    open_session,
    refusing,
    take_answer,
    take_notification,
)
from holdfast.asgi.options import EdgeOptions, new_session_id
from holdfast.asgi.reply import Reply
from holdfast.asgi.request import run_request
from holdfast.asgi.responses import send_json, send_status
from holdfast.asgi.sse import frame
from holdfast.asgi.streaming import Streaming
from holdfast.errors import SessionGone
from holdfast.sessions.registry import HOLD_LISTENER_SECONDS, HOLD_SECONDS
from holdfast.sessions.relay import LoggedStream, Outlet, UnloggedStream
from holdfast.sessions.replica import Replica
from holdfast.sessions.types import Session, SessionFacts, SessionId

__all__ = ["HANDSHAKE_VERSIONS", "ModernApp", "StreamableHttp"]

HANDSHAKE_VERSIONS: Final = frozenset({"2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"})
"""Versions whose sessions begin with `initialize`. Everything else belongs to the sessionless era."""

_HANDSHAKE: Final = frozenset(version.encode() for version in HANDSHAKE_VERSIONS)

ModernApp: TypeAlias = Callable[[Scope, Receive, Send], Awaitable[None]]


class StreamableHttp:
    """The ASGI application that serves sessions over Streamable HTTP."""

    def __init__(
        self,
        replica: Replica,
        options: EdgeOptions,
        *,
        modern: ModernApp,
        principal: Callable[[Scope], str | None] = lambda _scope: None,
    ) -> None:
        """Serve the sessions of `replica`.

        Args:
            replica: this process's part of the fleet; it must be running.
            options: how.
            modern: serves requests of every other protocol version, the sessionless era's among them.
            principal: a digest of who sends a request; None without authentication.
        """
        self._replica = replica
        self._options = options
        self._modern = modern
        self._principal = principal
        self._streaming = Streaming(replica, options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        scope, headers = read_headers(scope)
        version = headers.get(b"mcp-protocol-version")
        if version is not None and _first(version, scope) not in _HANDSHAKE:
            await self._modern(scope, receive, send)
            return
        await refusing(self._replica, Http(scope, headers, receive, send), self._serve)

    async def _serve(self, http: Http) -> None:
        self._options.guards.check(http.headers)
        match http.scope["method"]:
            case "POST":
                await self._post(http)
            case "GET" if not self._options.disable_sse:
                await self._get(http)
            case "DELETE":
                session = await self._find(http)
                await self._replica.end_session(session.facts.id)
                await send_status(http.send, 200)
            case method:
                allowed = b"POST, DELETE" if self._options.disable_sse else b"GET, POST, DELETE"
                raise Refusal(405, f"Method {method} not allowed", headers=((b"allow", allowed),))

    async def _find(self, http: Http, hold_seconds: float = HOLD_SECONDS) -> Session:
        session = http.headers.get(b"mcp-session-id")
        if session is None:
            raise Refusal(400, "Bad Request: Missing session ID")
        found = await self._replica.registry.find(
            session.decode("latin-1"), self._principal(http.scope), hold_seconds=hold_seconds
        )
        if found.facts.protocol_version not in HANDSHAKE_VERSIONS:
            raise SessionGone("another transport's")
        return found

    async def _post(self, http: Http) -> None:
        json, sse = accepts(http.headers)
        if not json or not (sse or self._options.json_response):
            raise Refusal(
                406, "Not Acceptable: Client must accept both application/json and text/event-stream"
            )
        if not is_json(http.headers):
            raise Refusal(415, "Unsupported Media Type: Content-Type must be application/json")
        body = await read_body(http, self._options.guards.max_body_bytes)
        if body is None:
            return
        try:
            message = decode(body)
        except InvalidMessageError as error:
            raise Refusal(400, str(error), code=error.code) from None
        if isinstance(message, Request) and message.method == "initialize":
            await self._initialize(http, body, message)
            return
        session = await self._find(http)
        match message:
            case Request() if self._replica.drain.over:
                raise _leaving()
            case Request():
                await self._request(http, body, message, session)
            case Notification():
                await take_notification(self._replica, http.scope, body, message, session)
                await send_status(http.send, 202, session=session.facts.id)
            case Answer():
                await take_answer(self._replica, session.facts.id, message, body)
                await send_status(http.send, 202, session=session.facts.id)

    async def _initialize(self, http: Http, body: bytes, message: Request) -> None:
        """Open a session. What the client sends as a session id is ignored: ids are minted here."""
        if self._replica.drain.begun:
            raise _leaving()
        session = new_session_id(self._options)
        exchange = OpeningExchange(self._replica, session, http.scope, body, message.id)
        initialized = await self._replica.kernel.initialize(exchange, message.params)
        if initialized.protocol_version is None:
            await send_json(http.send, initialized.response, status=400)
            return
        if len(initialized.client) > LARGEST_CLIENT_BYTES:
            await self._replica.kernel.forget(session)
            raise Refusal(413, f"The params of initialize are larger than {LARGEST_CLIENT_BYTES} bytes")
        await open_session(
            self._replica,
            SessionFacts(
                id=session,
                owner=self._principal(http.scope),
                protocol_version=initialized.protocol_version,
                client=initialized.client,
                ttl_seconds=self._options.ttl_seconds,
            ),
        )
        if not exchange.emitted:
            await send_json(http.send, initialized.response, session=session)
            return
        frames = b"".join(map(frame, [*exchange.emitted, initialized.response]))
        await send_json(http.send, frames, session=session, content_type=b"text/event-stream")

    async def _request(self, http: Http, body: bytes, message: Request, session: Session) -> None:
        facts = session.facts
        outlet = self._outlet(facts.id, message)
        logged = isinstance(outlet, LoggedStream)
        exchange = HttpExchange(
            self._replica,
            facts.id,
            http.scope,
            body,
            request_id=message.id,
            outlet=outlet,
            may_ask=not self._options.json_response,
            may_close=logged and primes(facts.protocol_version),
        )
        reply = Reply(self._replica, self._streaming, outlet, facts, http)
        try:
            if logged and self._options.resumable == "always":
                await outlet.open()
            elif not self._options.json_response:
                self._replica.alarms.set(self._options.stream_after_seconds, reply.late)
            await run_request(self._replica, exchange, session, message, outlet)
            await reply.complete()
        finally:
            reply.leave()

    def _outlet(self, session: SessionId, message: Request) -> Outlet:
        if self._options.json_response or self._options.resumable == "never":
            return UnloggedStream(self._replica.relay, session, json_only=self._options.json_response)
        return LoggedStream(self._replica.relay, session, message.id)

    async def _get(self, http: Http) -> None:
        if not accepts(http.headers)[1]:
            raise Refusal(406, "Not Acceptable: Client must accept text/event-stream")
        session = await self._find(http, HOLD_LISTENER_SECONDS)
        await self._streaming.serve_get(session.facts, http)


def _first(version: bytes, scope: Scope) -> bytes:
    """Of several versions the first counts, as for the SDK: what goes there must be of its era to it, too."""
    if b"," not in version:
        return version
    first: bytes = next(value for name, value in scope["headers"] if name == b"mcp-protocol-version")
    return first


def _leaving() -> Refusal:
    return Refusal(503, "This replica is shutting down", headers=((b"retry-after", b"1"),))

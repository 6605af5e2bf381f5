"""HTTP+SSE (2024-11-05): one GET carries everything to the client, who POSTs all its messages to an endpoint.

Any replica takes any of the POSTs, and the answer finds the connection wherever it is. As an extension, a
client that was cut off comes back to its session with `Last-Event-ID`, as browsers do by themselves.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Final
from urllib.parse import parse_qs, quote

import pydantic_core

from holdfast.asgi.exchange import HttpExchange, OpeningExchange
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
from holdfast.asgi.http_sse_cursor import Cursor
from holdfast.asgi.http_sse_stream import Carrying, encode_opening
from holdfast.asgi.jsonrpc import (
    INTERNAL_ERROR,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    Answer,
    InvalidMessageError,
    Notification,
    Request,
    decode,
    encode_error,
)
from holdfast.asgi.messages import (
    LARGEST_CLIENT_BYTES,
    open_session,
    refusing,
    take_answer,
    take_notification,
)
from holdfast.asgi.options import EdgeOptions, new_session_id
from holdfast.asgi.request import finish, run_request
from holdfast.asgi.responses import send_status
from holdfast.errors import StoreError
from holdfast.sessions.relay import LoggedStream
from holdfast.sessions.replica import Replica
from holdfast.sessions.types import Session, SessionFacts, SessionId

__all__ = ["HttpSse"]

_KIND: Final = "sse:"
"""Stands before the negotiated version of these sessions: no other transport serves them."""

_LONGEST_LAST_EVENT_ID: Final = 32 * 1024
_LONGEST_QUERY: Final = 4096


class HttpSse:
    """The ASGI application that serves sessions over HTTP+SSE: GET for the stream, POST for messages."""

    def __init__(
        self,
        replica: Replica,
        options: EdgeOptions,
        *,
        endpoint: str,
        principal: Callable[[Scope], str | None] = lambda _scope: None,
    ) -> None:
        """Serve the sessions of `replica`.

        Args:
            replica: this process's part of the fleet; it must be running.
            options: how.
            endpoint: the path below the application's root to which clients POST.
            principal: a digest of who sends a request; None without authentication.
        """
        self._replica = replica
        self._options = options
        self._endpoint = endpoint
        self._principal = principal
        self._carrying = Carrying(replica, options)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        scope, headers = read_headers(scope)
        await refusing(self._replica, Http(scope, headers, receive, send), self._serve)

    async def _serve(self, http: Http) -> None:
        self._options.guards.check(http.headers)
        match http.scope["method"]:
            case "GET":
                await self._get(http)
            case "POST":
                await self._post(http)
            case "DELETE":
                session = await self._find(http)
                await self._replica.end_session(session.facts.id)
                await send_status(http.send, 200)
            case method:
                raise Refusal(
                    405, f"Method {method} not allowed", headers=((b"allow", b"GET, POST, DELETE"),)
                )

    async def _get(self, http: Http) -> None:
        if b"accept" in http.headers and not accepts(http.headers)[1]:
            raise Refusal(406, "Not Acceptable: Client must accept text/event-stream")
        last_event_id = http.headers.get(b"last-event-id", b"")
        cursor, facts = await (self._resume(http, last_event_id) if last_event_id else self._open(http))
        root: str = http.scope.get("root_path", "")
        path = quote(root.rstrip("/") + self._endpoint)
        endpoint = f"{path}?session_id={quote(cursor.session, safe='')}"
        await self._carrying.carry(cursor, facts, endpoint, http)

    async def _resume(self, http: Http, last_event_id: bytes) -> tuple[Cursor, SessionFacts]:
        try:
            cursor = Cursor.decode(last_event_id[:_LONGEST_LAST_EVENT_ID].decode("ascii"))
        except ValueError:
            raise Refusal(400, "Bad Request: Last-Event-ID is not an event id of this server") from None
        found = await self._look_up(cursor.session, http)
        return cursor, found.facts

    async def _open(self, http: Http) -> tuple[Cursor, SessionFacts]:
        """Open a session. It gets its version from the `initialize` that comes, to whichever replica."""
        if self._replica.drain.begun:
            raise Refusal(503, "This replica is shutting down", headers=((b"retry-after", b"1"),))
        facts = SessionFacts(
            id=new_session_id(self._options),
            owner=self._principal(http.scope),
            protocol_version="",
            client=b"{}",
            ttl_seconds=self._options.ttl_seconds,
        )
        facts = await open_session(self._replica, facts)
        return Cursor(facts.id), facts

    async def _find(self, http: Http) -> Session:
        """The session that the query names, or else the header."""
        query = parse_qs(http.scope.get("query_string", b"")[:_LONGEST_QUERY].decode("latin-1"))
        named = query.get("session_id")
        session = named[0] if named else http.headers.get(b"mcp-session-id", b"").decode("latin-1")
        if not session:
            raise Refusal(400, "Bad Request: session_id is required")
        return await self._look_up(session, http)

    async def _look_up(self, session: str, http: Http) -> Session:
        found = await self._replica.registry.find(session, self._principal(http.scope))
        kind, _, version = found.facts.protocol_version.rpartition(":")
        if kind + ":" != _KIND and found.facts.protocol_version:
            raise Refusal(404, "Session not found")
        return replace(found, facts=replace(found.facts, protocol_version=version))

    async def _post(self, http: Http) -> None:
        if not is_json(http.headers):
            raise Refusal(415, "Unsupported Media Type: Content-Type must be application/json")
        session = await self._find(http)
        body = await read_body(http, self._options.guards.max_body_bytes)
        if body is None:
            return
        try:
            message = decode(body)
        except InvalidMessageError as error:
            raise Refusal(400, str(error), code=error.code) from None
        session_id = session.facts.id
        match message:
            case Request() if message.method == "initialize":
                await self._initialize(http, body, message, session.facts)
            case Request() if not session.facts.protocol_version:
                await self._tell(session_id, _too_early(message))
            case Request():
                await self._request(http, body, message, session)
            case Notification() if session.facts.protocol_version:
                await take_notification(self._replica, http.scope, body, message, session)
            case Notification():
                pass
            case Answer():
                await take_answer(self._replica, session_id, message, body)
        await send_status(http.send, 202)

    async def _initialize(self, http: Http, body: bytes, message: Request, facts: SessionFacts) -> None:
        if facts.protocol_version:
            await self._tell(facts.id, _again(message))
            return
        kernel = self._replica.kernel
        exchange = OpeningExchange(self._replica, facts.id, http.scope, body, message.id)
        initialized = await kernel.initialize(exchange, message.params)
        if len(initialized.client) > LARGEST_CLIENT_BYTES:
            await kernel.forget(facts.id)
            raise Refusal(413, f"The params of initialize are larger than {LARGEST_CLIENT_BYTES} bytes")
        if initialized.protocol_version is not None and not await self._replica.registry.settle(
            facts.id, protocol_version=_KIND + initialized.protocol_version, client=initialized.client
        ):
            await kernel.forget(facts.id)  # another one was faster, maybe elsewhere: that one counts
            await self._tell(facts.id, _again(message))
            return
        await self._tell(facts.id, *exchange.emitted, initialized.response)

    async def _request(self, http: Http, body: bytes, message: Request, session: Session) -> None:
        """Accept a request: from then on it has an answer, whatever happens to this replica."""
        outlet = LoggedStream(self._replica.relay, session.facts.id, message.id)
        await outlet.open()
        _, start = outlet.opened()
        outlet.leave()  # this response carries nothing
        try:
            await self._tell(session.facts.id, encode_opening(outlet.stream, start))
        except BaseException as error:
            # It may be stored all the same, and then somebody waits for the end of this stream.
            why = f"The session store failed: {error}" if isinstance(error, StoreError) else "Internal error"
            if not self._replica.ending:  # else this replica is dead soon, and others say so
                refusal = encode_error(message.id, INTERNAL_ERROR, why)
                self._replica.start(finish, self._replica, outlet, refusal)
            raise
        exchange = HttpExchange(
            self._replica,
            session.facts.id,
            http.scope,
            body,
            request_id=message.id,
            outlet=outlet,
            may_ask=True,
        )
        self._replica.start(run_request, self._replica, exchange, session, message, outlet)

    async def _tell(self, session: SessionId, *messages: bytes) -> None:
        for message in messages:
            await self._replica.relay.send_standalone(session, message, though_unstored=False)


def _too_early(message: Request) -> bytes:
    if message.method == "ping":
        return pydantic_core.to_json({"jsonrpc": "2.0", "id": message.id, "result": {}})
    if message.method == "server/discover":  # how newer clients ask whether there is a handshake here
        return encode_error(message.id, METHOD_NOT_FOUND, "Method not found: send initialize first")
    return encode_error(message.id, INVALID_REQUEST, "Invalid Request: send initialize first")


def _again(message: Request) -> bytes:
    return encode_error(message.id, INVALID_REQUEST, "Invalid Request: the session is initialized already")

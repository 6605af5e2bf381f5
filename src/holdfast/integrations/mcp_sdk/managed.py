"""A user's own session manager in the place of the log, for what belongs to no request."""

from collections.abc import Callable

from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.applications import Starlette
from starlette.types import ASGIApp, Receive, Scope, Send
from typing_extensions import override

from holdfast.asgi.guards import Guards, Http, read_headers
from holdfast.asgi.messages import refusing
from holdfast.asgi.sse import frame
from holdfast.integrations.mcp_sdk.app import guards_of, principal_of
from holdfast.integrations.mcp_sdk.endpoints import streamable_endpoints
from holdfast.integrations.plain.controllers import SseResponse
from holdfast.sessions.manager import SessionManager, settled
from holdfast.sessions.registry import session_exists
from holdfast.sessions.relay import Relay
from holdfast.sessions.replica import Replica
from holdfast.sessions.types import SessionId

__all__ = ["ManagedRelay", "ManagedStandalone"]


class ManagedRelay(Relay):
    """Sends what belongs to no request through a session manager: nothing of it is stored here."""

    def __init__(self, replica: Replica, streams: SessionManager) -> None:
        super().__init__(replica.backend, replica.hub, spooler=replica.spooler)
        self._streams = streams

    @override
    async def send_standalone(
        self,
        session: SessionId,
        payload: bytes,
        *,
        expects: str | None = None,
        though_unstored: bool = True,
    ) -> None:
        if expects is not None:
            await self.backend.inbox.expect(session, expects)
        await settled(self._streams.send([session], frame(payload).decode()))


class ManagedStandalone:
    """Serves standalone streams from a session manager, and all else as ever.

    Such a stream has no event ids, so it cannot be resumed: what is sent while nobody is connected is lost,
    unless the manager keeps it. Streams of requests have ids, and are resumed by the log.
    """

    def __init__(
        self, app: ASGIApp, *, streams: SessionManager, guards: Guards, replica: Callable[[], Replica]
    ) -> None:
        self._app = app
        self._streams = streams
        self._guards = guards
        self._replica = replica
        self._newest: dict[str, SseResponse] = {}

    @staticmethod
    def guards(app: Starlette) -> Guards:
        """What the application refuses by itself, before it is attached."""
        for endpoint in streamable_endpoints(app.routes):
            if isinstance(endpoint.session_manager, StreamableHTTPSessionManager):
                return guards_of(endpoint.session_manager)
        return Guards()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        cleaned, headers = read_headers(scope)
        method, session = scope["method"], headers.get(b"mcp-session-id", b"").decode("latin-1")
        if method == "GET" and session and b"last-event-id" not in headers:
            await refusing(self._replica(), Http(cleaned, headers, receive, send), self._get)
            return
        await self._app(scope, receive, send)
        if method == "DELETE" and session and not await session_exists(self._replica().backend.log, session):
            await settled(self._streams.delete(session))

    async def _get(self, http: Http) -> None:
        self._guards.check(http.headers)
        session = http.headers[b"mcp-session-id"].decode("latin-1")
        await self._replica().registry.find(session, principal_of(http.scope))
        response = self._newest[session] = SseResponse(headers={"mcp-session-id": session})
        try:
            await settled(self._streams.create(session, response))
            await response(http.scope, http.receive, http.send)
        finally:
            # A client that has come back has another one, and this one may be noticed to be gone only now.
            if self._newest.get(session) is response:
                del self._newest[session]
                await settled(self._streams.delete(session))

"""Transports as ASGI applications: an MCP server, a session manager, and what is usual around them."""

from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

from mcp.server import MCPServer
from mcp.server.lowlevel.server import Server
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from holdfast.asgi.guards import Guards, Refusal, read_headers
from holdfast.asgi.responses import send_refusal
from holdfast.backends.memory import MemoryBackend
from holdfast.errors import ConfigurationError
from holdfast.integrations.mcp_sdk.app import Attached, attach
from holdfast.integrations.mcp_sdk.managed import ManagedRelay, ManagedStandalone
from holdfast.integrations.plain.manager import InMemorySessionManager, LogSessionManager
from holdfast.observe import Observer
from holdfast.sessions.manager import SessionManager
from holdfast.sessions.replica import Replica

__all__ = ["HttpTransport", "SseTransport"]

_MESSAGES: Final = "/messages/"
_ANY_PATH: Final = "/{path:path}"
_CORS: Final[dict[str, Any]] = {
    "allow_origins": ["*"],
    "allow_methods": ["GET", "POST", "DELETE"],
    "allow_headers": ["*"],
    "expose_headers": ["Mcp-Session-Id", "Mcp-Resume-From"],
}


class _Transport:
    """An ASGI application. Mounted below another one, enter its `lifespan` in that one's lifespan.

    Attributes:
        session_manager: reaches the sessions of this transport, from its start to its end.
        attached: for those who want to drain it.
    """

    def __init__(
        self,
        app: Starlette,
        session_manager: SessionManager | None,
        guards: Guards,
        cors: bool | Mapping[str, Any],
        context: Callable[[Request], Any] | None,
        observer: Observer | None,
        options: dict[str, Any],
    ) -> None:
        manager = InMemorySessionManager() if session_manager is None else session_manager
        self.session_manager = manager
        store = manager.store if isinstance(manager, LogSessionManager) else MemoryBackend()
        self._app = app
        if not isinstance(manager, LogSessionManager):
            own = ManagedStandalone.guards(app)
            app.user_middleware.append(
                Middleware(ManagedStandalone, streams=manager, guards=own, replica=self._replica)
            )
        self.attached: Attached = attach(app, store=store, observer=observer, **options)
        self._starting = app.router.lifespan_context
        app.router.lifespan_context = self._serving
        outside: ASGIApp = app if context is None else _WithContext(app, context)
        if guards != Guards():
            outside = _Guarded(outside, guards)
        if cors is not False:
            outside = CORSMiddleware(outside, **(_CORS if cors is True else {**_CORS, **cors}))
        self._outside = outside

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve a request, or the application's lifespan."""
        await self._outside(scope, receive, send)

    def lifespan(self, _parent: object = None) -> AbstractAsyncContextManager[Any]:
        """What has to be entered while this serves."""
        return self._app.router.lifespan_context(self._app)

    @asynccontextmanager
    async def _serving(self, app: Any) -> AsyncGenerator[Any, None]:
        async with self._starting(app) as state:
            replica = self._replica()
            if isinstance(self.session_manager, LogSessionManager):
                with self.session_manager.joined(replica):
                    yield state
            else:
                replica.relay = ManagedRelay(replica, self.session_manager)
                yield state

    def _replica(self) -> Replica:
        if self.attached.replica is None:
            raise RuntimeError("the transport is not running: its lifespan was not entered")
        return self.attached.replica


class _Guarded:
    """Checks Host and Origin of every request, whatever its era."""

    def __init__(self, app: ASGIApp, guards: Guards) -> None:
        self._app = app
        self._guards = guards

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                self._guards.check(read_headers(scope)[1])
            except Refusal as refusal:
                await send_refusal(send, refusal)
                return
        await self._app(scope, receive, send)


class _WithContext:
    """Puts what `context` makes of each request where handlers find it: `request.state.custom`."""

    def __init__(self, app: ASGIApp, context: Callable[[Request], Any]) -> None:
        self._app = app
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            scope = {**scope, "state": {**scope.get("state", {}), "custom": self._context(Request(scope))}}
        await self._app(scope, receive, send)


class HttpTransport(_Transport):
    """Streamable HTTP: `app = HttpTransport(server, session_manager=RedisSessionManager(url))`.

    The server's own authentication applies, as does all that `holdfast.attach` says.
    """

    def __init__(
        self,
        server: Any,
        *,
        session_manager: SessionManager | None = None,
        path: str | None = "/mcp",
        cors: bool | Mapping[str, Any] = False,
        allowed_hosts: Sequence[str] | None = None,
        allowed_origins: Sequence[str] | None = None,
        context: Callable[[Request], Any] | None = None,
        observer: Observer | None = None,
        **options: Any,
    ) -> None:
        """Serve `server`.

        Args:
            server: an `MCPServer`, a low-level `Server` or a `FastMCP`.
            session_manager: one of ours: its store holds the sessions. One of your own (four methods): it
                carries the standalone streams, which then cannot be resumed; sessions are in memory.
                Default: in memory.
            path: where to serve; None: on every path.
            cors: True, or arguments of Starlette's `CORSMiddleware` that differ from: every origin,
                `Mcp-Session-Id` and `Mcp-Resume-From` exposed.
            allowed_hosts: `Host` headers that are served, `name:*` for any port. Default: the server's own.
            allowed_origins: `Origin` headers that are served. Default: the server's own; with `allowed_hosts`
                none.
            context: called for each request; handlers find the result in `request.state.custom`.
            observer: as in `attach`.
            options: of `attach`, such as `disable_sse`, `get_session_id`, `ttl_seconds`.

        Raises:
            ConfigurationError: a setting is wrong.
        """
        where = _ANY_PATH if path is None else path
        guards = _guards(allowed_hosts, allowed_origins)
        if isinstance(server, MCPServer | Server):
            app = server.streamable_http_app(streamable_http_path=where, **_own_checks(guards))
        elif callable(getattr(server, "http_app", None)):
            app = server.http_app(path=where)
        else:
            raise _unknown(server)
        super().__init__(app, session_manager, guards, cors, context, observer, options)


class SseTransport(_Transport):
    """HTTP+SSE of 2024-11-05, for clients that know no other: `app = SseTransport(server, ...)`."""

    def __init__(
        self,
        server: Any,
        *,
        session_manager: SessionManager | None = None,
        path: str = "/sse",
        endpoint: str = _MESSAGES,
        cors: bool | Mapping[str, Any] = False,
        allowed_hosts: Sequence[str] | None = None,
        allowed_origins: Sequence[str] | None = None,
        context: Callable[[Request], Any] | None = None,
        observer: Observer | None = None,
        **options: Any,
    ) -> None:
        """Serve `server`.

        Args:
            server: an `MCPServer` or a `FastMCP`.
            session_manager: one of ours. This transport has no other way to a client than the log.
            path: where clients open the stream.
            endpoint: where they POST.
            cors: as in `HttpTransport`.
            allowed_hosts: as in `HttpTransport`.
            allowed_origins: as in `HttpTransport`.
            context: as in `HttpTransport`.
            observer: as in `attach`.
            options: of `attach`.

        Raises:
            ConfigurationError: a setting is wrong.
        """
        if session_manager is not None and not isinstance(session_manager, LogSessionManager):
            raise ConfigurationError(
                f"session_manager: got {type(session_manager).__name__}, expected one of ours: this "
                "transport has no way to a client but the log"
            )
        guards = _guards(allowed_hosts, allowed_origins)
        if isinstance(server, MCPServer):
            app = server.sse_app(sse_path=path, message_path=endpoint, **_own_checks(guards))
        elif callable(getattr(server, "http_app", None)):
            if endpoint != _MESSAGES:
                raise ConfigurationError("endpoint: FastMCP takes it from FASTMCP_MESSAGE_PATH")
            app = server.http_app(path=path, transport="sse")
        else:
            raise _unknown(server)
        super().__init__(app, session_manager, guards, cors, context, observer, options)


def _guards(hosts: Sequence[str] | None, origins: Sequence[str] | None) -> Guards:
    return Guards(
        allowed_hosts=None if hosts is None else tuple(hosts),
        allowed_origins=None if origins is None else tuple(origins),
    )


def _own_checks(guards: Guards) -> dict[str, Any]:
    """What keeps the SDK's checks away where others were asked for."""
    if guards == Guards():
        return {}
    return {"transport_security": TransportSecuritySettings(enable_dns_rebinding_protection=False)}


def _unknown(server: object) -> ConfigurationError:
    return ConfigurationError(
        f"server: got {type(server).__name__}, expected an MCPServer, a Server or a FastMCP"
    )

"""Making the sessions of a finished application shared, or building such an application."""

import hashlib
import json
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any, Final, cast

from mcp.server import MCPServer
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser, authorization_context
from mcp.server.lowlevel.server import Server
from mcp.server.streamable_http_manager import DEFAULT_SESSION_IDLE_TIMEOUT, StreamableHTTPSessionManager
from starlette.applications import Starlette

from holdfast.asgi.guards import Guards, Receive, Refusal, Scope, Send
from holdfast.asgi.http_sse import HttpSse
from holdfast.asgi.jsonrpc import INTERNAL_ERROR
from holdfast.asgi.options import EdgeOptions
from holdfast.asgi.responses import send_refusal
from holdfast.asgi.streamable_http import StreamableHttp
from holdfast.backends import backend_of
from holdfast.errors import ConfigurationError
from holdfast.integrations.mcp_sdk.endpoints import (
    SSE_DEFAULTS,
    Endpoint,
    SseEndpoint,
    sse_endpoints,
    streamable_endpoints,
)
from holdfast.integrations.mcp_sdk.kernel import SdkKernel
from holdfast.integrations.mcp_sdk.termination import Ending, Termination
from holdfast.observe import Observer
from holdfast.sessions.protocols import Backend
from holdfast.sessions.replica import Replica
from holdfast.settings import StoreOptions, StoreSettings

__all__ = ["Attached", "attach", "guards_of", "principal_of", "streamable_http_app"]

logger = logging.getLogger("holdfast")

_STORE_OPTIONS: Final = frozenset(StoreOptions.__annotations__)
_OPTIONS: Final = frozenset(EdgeOptions.__dataclass_fields__) | _STORE_OPTIONS


class _ManagerInPlace:
    """What an endpoint calls instead of the SDK's session manager while Holdfast is attached.

    FastMCP's shutdown looks at `_server_instances` of whatever manager it finds; ours has no such thing to
    close, so it is empty.
    """

    def __init__(self, app: StreamableHttp | HttpSse, server: Server[Any]) -> None:
        self.asgi_app = app
        self.handle_request = app
        self.app = server
        self._server_instances: dict[str, Any] = {}


class _NotServing:
    """What an endpoint calls after `attach` and before the application's lifespan was entered.

    A mounted application's lifespan is not entered by its parent. Serving it all the same, from the original
    manager, would silently give sessions that are not shared.
    """

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        del scope, receive
        message = (
            "Holdfast is attached but not serving: the lifespan of the application was not entered. If it is "
            "mounted, enter `app.router.lifespan_context(app)` in the lifespan of its parent"
        )
        logger.error(message)
        await send_refusal(send, Refusal(503, message, code=INTERNAL_ERROR))

    asgi_app = handle_request = __call__


class Attached:
    """An application whose sessions are shared, for those who want to look at it or to drain it."""

    def __init__(
        self,
        app: Starlette,
        endpoint: Endpoint,
        store: str | Backend | None,
        observer: Observer | None,
        ending: Ending,
        options: dict[str, Any],
    ) -> None:
        self.app = app
        self.replica: Replica | None = None
        self.termination: Termination | None = None
        self._ending = ending
        self._endpoint = endpoint
        self._store = store
        self._observer = observer
        self._options = {name: value for name, value in options.items() if name not in _STORE_OPTIONS}
        self._store_options = {name: value for name, value in options.items() if name in _STORE_OPTIONS}
        self._entered: Any = None
        self._manager: StreamableHTTPSessionManager | None = None
        if isinstance(endpoint.session_manager, StreamableHTTPSessionManager):
            self._manager = endpoint.session_manager
            _check(self._manager)
            self._capture_lifespan(self._manager.app)
            endpoint.session_manager = _NotServing()
        elif isinstance(endpoint, SseEndpoint):
            endpoint.session_manager = _NotServing()

    def drain(
        self, retry_milliseconds: int = 1000, *, seconds: float | None = None, pause_seconds: float = 0.0
    ) -> None:
        """Get this replica ready to end: open no session, send streams elsewhere, cut off what takes long.

        A signal to end does this by itself; see `attach`. To be called on the event loop.

        Args:
            retry_milliseconds: how long clients that are sent away should at least stay away.
            seconds: how long requests may take to finish, connected or not. Default: that of `attach`.
            pause_seconds: go on serving for so long before that, so that the balancer can notice.
        """
        if self.replica is not None:
            plan = self._ending.plan(self.replica.backend.inner)
            plan = replace(plan, retry_milliseconds=retry_milliseconds, pause_seconds=pause_seconds)
            self.replica.drain.begin(plan if seconds is None else replace(plan, seconds=seconds))

    @asynccontextmanager
    async def serving(self) -> AsyncGenerator[None, None]:
        """Serve with shared sessions. The application's own lifespan must be entered around this."""
        before = self._endpoint.session_manager
        manager = self._manager or before
        _check(manager)
        async with AsyncExitStack() as stack:
            state = await self._state(manager, stack)
            backend = backend_of(self._store, serving=True, **cast("StoreOptions", self._store_options))
            await stack.enter_async_context(backend)
            kernel = SdkKernel(manager.app, state)
            stack.push_async_callback(kernel.aclose)
            options = _edge_options(manager, self._options)
            _warn_of_local_state(self.app)
            replica = Replica(
                backend,
                kernel,
                max_sessions=options.max_sessions,
                ttl_seconds=options.ttl_seconds,
                observer=self._observer,
            )
            self.termination = Termination(replica.drain, self._ending.plan(backend))
            if self._ending.handle_signals:
                stack.enter_context(self.termination.chained())
            await stack.enter_async_context(replica.run())
            edge = self._edge(replica, options, manager)
            self._endpoint.session_manager = _ManagerInPlace(edge, manager.app)
            self.replica = replica
            try:
                yield
            finally:
                self._endpoint.session_manager = before
                self.replica = None

    def _edge(
        self, replica: Replica, options: EdgeOptions, manager: StreamableHTTPSessionManager
    ) -> StreamableHttp | HttpSse:
        if isinstance(self._endpoint, SseEndpoint):
            return HttpSse(replica, options, endpoint=self._endpoint.path, principal=principal_of)
        return StreamableHttp(replica, options, modern=manager.handle_request, principal=principal_of)

    async def _state(self, manager: StreamableHTTPSessionManager, stack: AsyncExitStack) -> Any:
        """What the server's lifespan yielded.

        It was captured if the manager was there when we were attached. FastMCP makes its manager only when
        it starts; its lifespan is counted, and entering it again yields what the first entry did.
        """
        if self._entered is not None:
            return self._entered[0]
        return await stack.enter_async_context(manager.app.lifespan(manager.app))

    def _capture_lifespan(self, server: Server[Any]) -> None:
        """Remember what the server's lifespan yields when its manager enters it."""
        original: Callable[[Any], AbstractAsyncContextManager[Any]] = server.lifespan

        @asynccontextmanager
        async def capture(entered: Server[Any]) -> AsyncGenerator[Any, None]:
            async with original(entered) as state:
                self._entered = (state,)
                yield state

        server.lifespan = capture


def attach(
    app: Starlette,
    *,
    store: str | Backend | None = None,
    observer: Observer | None = None,
    drain_seconds: float = 10.0,
    drain_pause_seconds: float | None = None,
    handle_signals: bool = True,
    **options: Any,
) -> Attached:
    """Make the sessions of a finished application shared: any replica then serves any of its requests.

    Takes what `MCPServer.streamable_http_app()`, `Server.streamable_http_app()` or `FastMCP.http_app()`
    returned, with its auth, routes and middleware, before it is started; or, for clients of the HTTP+SSE
    transport of 2024-11-05, `MCPServer.sse_app()` or `FastMCP.http_app(transport="sse")`.

    Args:
        app: the application.
        store: a URL (`memory://`, `redis://…`, `rediss://…`, `valkey://…`) or a backend. Default: the
            environment's `HOLDFAST_STORE`, then `REDIS_URL`, then memory.
        observer: is told of appends, resumes, gaps, takeovers, store errors and more as they happen.
        drain_seconds: how long requests may take to finish when the process is told to end.
        drain_pause_seconds: how long everything is served as before, from that signal on, so that a balancer
            can notice. Default: 5 s if somebody asks for the readiness of this replica (see
            `holdfast.ops.health`), else none; none for SIGINT.
        handle_signals: notice SIGTERM and SIGINT before the server does: its own waiting for open streams
            would else have no end. Its handlers are called all the same. A second signal ends the drain.
        options: see `EdgeOptions`, and unless `store` is a backend `StoreOptions`. What is not given is taken
            from the environment (`StoreSettings`), then from what the application itself was told.

    Raises:
        ConfigurationError: the application has no endpoint of these, or is stateless; an unknown option.
    """
    unknown = sorted(set(options) - _OPTIONS)
    if unknown:
        raise ConfigurationError(
            f"attach: unknown option {unknown[0]!r}, expected one of {', '.join(sorted(_OPTIONS))}"
        )
    options = _checked(options, of_a_backend=not (store is None or isinstance(store, str)))
    ending = Ending(drain_seconds, drain_pause_seconds, handle_signals)
    if hasattr(app.state, "holdfast"):
        raise ConfigurationError("attach: this application is attached already")
    endpoints = [*streamable_endpoints(app.routes), *sse_endpoints(app)]
    if len(endpoints) > 1:
        raise ConfigurationError(
            "attach: this application has several MCP endpoints; attach each one before they are combined"
        )
    if not endpoints:
        raise ConfigurationError(
            "attach: this application has no Streamable HTTP or HTTP+SSE endpoint; expected the result of "
            "MCPServer.streamable_http_app(), Server.streamable_http_app(), FastMCP.http_app() or "
            "MCPServer.sse_app()"
        )
    if isinstance(endpoints[0], SseEndpoint):
        options = SSE_DEFAULTS | options
    attached = Attached(app, endpoints[0], store, observer, ending, options)
    app.state.holdfast = attached
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(started: Any) -> AsyncGenerator[Any, None]:
        async with inner(started) as state, attached.serving():
            yield state

    app.router.lifespan_context = lifespan
    return attached


def _checked(options: dict[str, Any], *, of_a_backend: bool) -> dict[str, Any]:
    """The options, with what the environment says. What is wrong is refused here, not at the start.

    Raises:
        ConfigurationError: a value is wrong, or cannot be honoured.
    """
    settings = StoreSettings.from_environment()
    of_store = {name: value for name, value in options.items() if name in _STORE_OPTIONS}
    if of_store and of_a_backend:
        raise ConfigurationError(
            f"attach: {min(of_store)}: got it together with a backend as store, expected a URL: a backend "
            "was told such things when it was made"
        )
    settings.overridden(**of_store)
    if settings.ttl_seconds is not None:
        options = {"ttl_seconds": settings.ttl_seconds} | options
    EdgeOptions(**{name: value for name, value in options.items() if name not in of_store})
    return options


def streamable_http_app(
    server: Any,
    *,
    store: str | Backend | None = None,
    observer: Observer | None = None,
    **options: Any,
) -> Starlette:
    """An application that serves `server` with shared sessions.

    Args:
        server: an `MCPServer`, a low-level `Server` or a `FastMCP`.
        store: as in `attach`.
        observer: as in `attach`.
        options: those of `attach`; all others go to the server's own `streamable_http_app` or `http_app`.

    Raises:
        ConfigurationError: `server` is none of these.
    """
    ours = {name: options.pop(name) for name in list(options) if name in _OPTIONS | Ending.names()}
    if isinstance(server, MCPServer | Server):
        app = cast("Any", server).streamable_http_app(**options)
    elif callable(getattr(server, "http_app", None)):
        app = server.http_app(**options)
    else:
        raise ConfigurationError(
            f"server: got {type(server).__name__}, expected an MCPServer, a Server or a FastMCP"
        )
    attach(app, store=store, observer=observer, **ours)
    return cast("Starlette", app)


def principal_of(scope: Scope) -> str | None:
    """A digest of the principal, as the SDK tells principals apart; None without authentication."""
    user = scope.get("user")
    if not isinstance(user, AuthenticatedUser):
        return None
    identity = json.dumps(authorization_context(user), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(identity.encode()).hexdigest()[:32]


def _warn_of_local_state(app: Starlette) -> None:
    """Say which known parts of a FastMCP server keep something per connection, and so per replica."""
    for middleware in getattr(getattr(app.state, "fastmcp_server", None), "middleware", ()):
        if type(middleware).__name__ == "PingMiddleware":
            logger.warning(
                "FastMCP's PingMiddleware pings each session once from every replica that serves it; leave "
                "it out: Holdfast keeps streams alive itself (keepalive_seconds)"
            )


def _check(manager: StreamableHTTPSessionManager) -> None:
    if manager.stateless:
        raise ConfigurationError(
            "attach: the application is stateless (stateless_http=True), so there are no sessions to share; "
            "leave that option out"
        )


def _edge_options(manager: StreamableHTTPSessionManager, given: dict[str, Any]) -> EdgeOptions:
    """The application's own settings, overridden by what was given to `attach`."""
    inherited: dict[str, Any] = {
        "json_response": manager.json_response,
        "max_sessions": manager.max_sessions,
        "guards": guards_of(manager),
    }
    if manager.session_idle_timeout not in (None, DEFAULT_SESSION_IDLE_TIMEOUT):  # somebody chose it
        inherited["ttl_seconds"] = manager.session_idle_timeout
    if manager.retry_interval is not None:
        inherited["retry_milliseconds"] = manager.retry_interval
    return EdgeOptions(**(inherited | given))


def guards_of(manager: StreamableHTTPSessionManager) -> Guards:
    """What the application itself refuses."""
    settings = manager.security_settings
    if settings is None or not settings.enable_dns_rebinding_protection:
        return Guards(max_body_bytes=manager.max_request_body_size)
    return Guards(
        allowed_hosts=tuple(settings.allowed_hosts),
        allowed_origins=tuple(settings.allowed_origins),
        max_body_bytes=manager.max_request_body_size,
    )

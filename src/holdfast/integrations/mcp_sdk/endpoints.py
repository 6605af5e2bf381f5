"""Finding what an application serves sessions with, by public names only."""

import inspect
import secrets
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, Protocol

from mcp.server import MCPServer
from mcp.server.lowlevel.server import Server
from mcp.server.sse import SseServerTransport
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.applications import Starlette
from starlette.routing import BaseRoute, Mount, Route

from holdfast.asgi.guards import Receive, Scope, Send
from holdfast.errors import ConfigurationError

__all__ = ["SSE_DEFAULTS", "Endpoint", "SseEndpoint", "sse_endpoints", "streamable_endpoints"]

SSE_DEFAULTS: Final[dict[str, Any]] = {"ttl_seconds": 120.0}
"""Most clients of HTTP+SSE never come back to a session whose connection broke."""

_REMEMBERED_CHECKS: Final = 256
_UNKNOWN_SESSION: Final = 404


class Endpoint(Protocol):
    """What both the SDK and FastMCP put behind the route: an ASGI app that calls its `session_manager`."""

    session_manager: Any


def streamable_endpoints(routes: Sequence[BaseRoute]) -> Iterator[Endpoint]:
    """The endpoints that have a session manager, behind whatever middleware wraps them."""
    for route in routes:
        found: Any = getattr(route, "endpoint", None)
        while found is not None and not hasattr(found, "session_manager"):
            found = getattr(found, "app", None)
        if found is not None:
            yield found
        elif isinstance(route, Mount):
            yield from streamable_endpoints(route.routes)


class SseEndpoint:
    """An `Endpoint` in the place of the SDK's HTTP+SSE transport: behind the same routes, auth and checks.

    Attributes:
        path: where clients POST, below the application's root.
        session_manager: serves the requests.
    """

    def __init__(self, path: str, checks: Callable[[Scope, Receive, Send], Any] | None) -> None:
        self.path = path
        self.session_manager: Any = None
        self._checks = checks
        self._passed: set[tuple[bytes, bytes]] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one HTTP request, if the original transport would not refuse it."""
        if self._checks is None or await self._passes(self._checks, scope, send):
            await self.session_manager.handle_request(scope, receive, send)

    async def _passes(self, checks: Callable[[Scope, Receive, Send], Any], scope: Scope, send: Send) -> bool:
        """Ask the original about Host and Origin: what it thinks of them cannot be read, only tried.

        It gets a message for a session that does not exist, which it looks for after these checks.
        """
        headers = dict(scope["headers"])
        origin = (headers.get(b"host", b""), headers.get(b"origin", b""))
        if origin in self._passed:
            return True
        asked = [(name, value) for name, value in scope["headers"] if name in {b"host", b"origin"}]
        probe = {
            **scope,
            "method": "POST",
            "query_string": b"session_id=" + secrets.token_hex(16).encode(),
            "headers": [*asked, (b"content-type", b"application/json")],
        }
        answer: list[Any] = []

        async def keep(message: Any) -> None:
            answer.append(message)

        await checks(probe, _no_body, keep)
        if answer[0]["status"] != _UNKNOWN_SESSION:
            for message in answer:
                await send(message)
            return False
        if len(self._passed) < _REMEMBERED_CHECKS:
            self._passed.add(origin)
        return True


async def _no_body() -> dict[str, Any]:
    return {"type": "http.request", "body": b"", "more_body": False}


def sse_endpoints(app: Starlette) -> Iterator[SseEndpoint]:
    """Put an endpoint of ours in the place of each HTTP+SSE transport of an application, and return those."""
    for mount in [route for route in app.routes if isinstance(route, Mount)]:
        transport = getattr(_innermost(mount.app), "__self__", None)
        if not isinstance(transport, SseServerTransport):
            continue
        for route in [route for route in app.routes if isinstance(route, Route)]:
            reachable = list(_closure(_innermost(route.endpoint)))
            if any(value is transport for value in reachable):
                fastmcp = getattr(app.state, "fastmcp_server", None)
                # FastMCP checks in a middleware, and has switched the transport's own checks off.
                endpoint = SseEndpoint(mount.path + "/", None if fastmcp else transport.handle_post_message)
                if fastmcp is None:
                    endpoint.session_manager = StreamableHTTPSessionManager(app=_server(reachable))
                else:
                    _start_with(app, fastmcp, endpoint)
                _put_in_place(route, route.endpoint, endpoint)
                _put_in_place(mount, mount.app, endpoint)
                yield endpoint


def _innermost(app: Any) -> Any:
    """What is behind the middleware of a route."""
    while hasattr(app, "app"):
        app = app.app
    return app


def _put_in_place(route: Any, outermost: Any, endpoint: SseEndpoint) -> None:
    holder = outermost if hasattr(outermost, "app") else route
    while hasattr(holder.app, "app"):
        holder = holder.app
    holder.app = endpoint


def _closure(function: Any, depth: int = 3) -> Iterator[Any]:
    """What a function, and the functions in it, were made with."""
    if not inspect.isfunction(function) or not depth:
        return
    for value in inspect.getclosurevars(function).nonlocals.values():
        yield value
        yield from _closure(value, depth - 1)


def _server(reachable: Sequence[Any]) -> Server[Any]:
    """The low-level server among what an endpoint was made with."""
    for value in reachable:
        if isinstance(value, MCPServer):
            try:
                return value.session_manager.app
            except RuntimeError:  # it has none before this
                value.streamable_http_app()
                return value.session_manager.app
    raise ConfigurationError(
        "attach: no server was found behind the HTTP+SSE endpoint; expected the result of "
        "MCPServer.sse_app() or FastMCP.http_app(transport='sse')"
    )


def _start_with(app: Starlette, fastmcp: Any, endpoint: SseEndpoint) -> None:
    """FastMCP shows its low-level server in a Streamable HTTP application that has started: start one."""
    hidden: Starlette = fastmcp.http_app(transport="http", stateless_http=False, json_response=False)
    inner = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(started: Any) -> AsyncGenerator[Any, None]:
        async with inner(started) as state, hidden.router.lifespan_context(hidden):
            (behind,) = streamable_endpoints(hidden.routes)
            endpoint.session_manager = StreamableHTTPSessionManager(app=behind.session_manager.app)
            yield state

    app.router.lifespan_context = lifespan

"""The servers that can be served, and the application that each of them makes. Needs the extra `mcp`."""

import inspect
import sys
from typing import Any, Final, TypeAlias, TypeGuard, cast

from mcp.server import MCPServer
from mcp.server.lowlevel.server import Server
from mcp.server.transport_security import TransportSecuritySettings
from starlette.applications import Starlette

from holdfast.ops.cli.errors import FAILED, CliError
from holdfast.ops.cli.options import ServeOptions

__all__ = ["build_app", "is_server", "server_from"]

_AnyServer: TypeAlias = Any
"""An MCPServer, a low-level Server or a FastMCP (which may not be installed)."""

_EVERY_HOST: Final = "*"
_LOCAL_NAMES: Final = ("127.0.0.1", "localhost", "[::1]")
_SERVER: Final = "an MCPServer, a low-level Server or a FastMCP"
_EXPECTED: Final = f"{_SERVER}, or a function without arguments that returns one"
_OLDEST_FASTMCP: Final = 4


def is_server(candidate: object) -> TypeGuard[_AnyServer]:
    """Whether `build_app` can make an application of it."""
    return isinstance(candidate, MCPServer | Server) or _is_fastmcp(candidate)


async def server_from(loaded: object, target: str) -> _AnyServer:
    """What was loaded, or what it returns if it is a function.

    Raises:
        CliError: that is no server.
    """
    if is_server(loaded):
        return loaded
    if isinstance(loaded, Starlette) or not callable(loaded):
        raise CliError(f"{target!r} is {_described(loaded)}, expected {_EXPECTED}")
    try:
        inspect.signature(loaded).bind()
    except (TypeError, ValueError) as error:
        raise CliError(f"{target!r} is {_described(loaded)} ({error}), expected {_EXPECTED}") from error
    server = await _returned(loaded, target)
    if not is_server(server):
        raise CliError(f"{target!r} returned {_described(server)}, expected {_SERVER}")
    return server


def build_app(server: _AnyServer, options: ServeOptions) -> Starlette:
    """The server's own application, with the path and the protection that the options ask for.

    Raises:
        CliError: the options contradict each other.
    """
    if options.allowed_origins and not (options.is_local or options.allowed_hosts):
        raise CliError(
            f"--allowed-origin: with --host {options.host} it needs --allowed-host too, which says by what "
            "names clients know this server"
        )
    if _is_fastmcp(server):
        return cast("Starlette", server.http_app(path=options.path, **_fastmcp_protection(options)))
    app = server.streamable_http_app(
        streamable_http_path=options.path, host=options.host, transport_security=_sdk_protection(options)
    )
    return cast("Starlette", app)


def _is_fastmcp(candidate: object) -> TypeGuard[Any]:
    """By the class that is loaded: what has not been imported has no instances."""
    fastmcp = sys.modules.get("fastmcp")
    if fastmcp is None or not isinstance(candidate, getattr(fastmcp, "FastMCP", ())):
        return False
    return int(str(fastmcp.__version__).partition(".")[0]) >= _OLDEST_FASTMCP


async def _returned(function: Any, target: str) -> object:
    try:
        result: object = function()
        return await result if inspect.isawaitable(result) else result
    except Exception as error:
        raise CliError(f"{target!r} failed: {type(error).__name__}: {error}", status=FAILED) from error


def _described(thing: object) -> str:
    """What it is, and what to do about things that are nearly right."""
    kind = type(thing)
    if isinstance(thing, Starlette):
        return "an application; name its server instead, or holdfast.attach() it and serve it with uvicorn"
    if kind.__name__ == "FastMCP":
        return "a FastMCP of an old version (Holdfast serves fastmcp>=4.1.2,<5 and mcp>=2.3,<3)"
    if inspect.ismodule(thing):
        return f"a module ({thing.__name__})"
    if inspect.isroutine(thing):
        return "a function that needs arguments"
    return (
        f"of type {kind.__module__}.{kind.__qualname__}"
        if kind.__module__ != "builtins"
        else f"{thing!r:.40}"
    )


def _sdk_protection(options: ServeOptions) -> TransportSecuritySettings | None:
    """None: as the SDK decides by the host."""
    if _EVERY_HOST in options.allowed_hosts:
        return TransportSecuritySettings(enable_dns_rebinding_protection=False)
    if not options.allowed_hosts and not options.allowed_origins:
        return None
    local = _LOCAL_NAMES if options.is_local else ()
    return TransportSecuritySettings(
        enable_dns_rebinding_protection=True,
        allowed_hosts=[f"{name}:*" for name in local] + _any_port(options.allowed_hosts),
        allowed_origins=[f"http://{name}:*" for name in local] + list(options.allowed_origins),
    )


def _fastmcp_protection(options: ServeOptions) -> dict[str, Any]:
    """Empty: as FastMCP's own settings say. It adds the local names by itself."""
    if _EVERY_HOST in options.allowed_hosts:
        return {"host_origin_protection": False}
    if not options.allowed_hosts and not options.is_local:
        return {}
    return {
        "host_origin_protection": "auto",
        "allowed_hosts": _any_port(options.allowed_hosts) or None,
        "allowed_origins": list(options.allowed_origins) or None,
    }


def _any_port(hosts: tuple[str, ...]) -> list[str]:
    """The hosts; those without a port also with any port."""
    listed = list(hosts)
    listed.extend(f"{host}:*" for host in hosts if ":" not in host.rpartition("]")[2])
    return listed

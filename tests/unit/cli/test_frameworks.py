"""What can be served, and how it is protected."""

from __future__ import annotations

from typing import Any

import pytest
from fastmcp import FastMCP
from mcp.server import MCPServer
from mcp.server.lowlevel.server import Server
from starlette.applications import Starlette

from holdfast.ops.cli.errors import CliError
from holdfast.ops.cli.frameworks import build_app, is_server, server_from
from holdfast.ops.cli.options import ServeOptions

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])


def security(**options: Any) -> Any:
    """What the SDK was told about hosts and origins."""
    server = MCPServer("x")
    build_app(server, ServeOptions(target="x", **options))
    return server.session_manager.security_settings


def test_servers_of_both_frameworks_are_servers(anyio_backend: str) -> None:
    assert all(map(is_server, [MCPServer("x"), Server("x"), FastMCP("x")]))
    assert not any(map(is_server, [Starlette(), MCPServer, "x", None]))


async def test_a_function_may_make_the_server(anyio_backend: str) -> None:
    made = MCPServer("x")

    async def later() -> MCPServer:
        return made

    assert await server_from(made, "m:x") is made
    assert await server_from(lambda: made, "m:x") is made
    assert await server_from(later, "m:x") is made


@pytest.mark.parametrize(
    ("loaded", "said"),
    [
        (5, "'m:x' is 5, expected an MCPServer"),
        (Starlette(), "holdfast.attach()"),
        (is_server, "a function that needs arguments"),
        (lambda: "text", "returned 'text', expected an MCPServer, a low-level Server or a FastMCP"),
        (pytest, "is a module (pytest)"),
    ],
)
async def test_what_is_no_server_is_said(anyio_backend: str, loaded: object, said: str) -> None:
    with pytest.raises(CliError) as refused:
        await server_from(loaded, "m:x")
    assert said in str(refused.value)
    assert refused.value.status == 2


async def test_a_function_that_fails_is_said(anyio_backend: str) -> None:
    def fails() -> MCPServer:
        raise LookupError("no database")

    with pytest.raises(CliError, match=r"'m:x' failed: LookupError: no database") as refused:
        await server_from(fails, "m:x")
    assert refused.value.status == 1


def test_a_local_server_is_protected_and_any_other_as_the_sdk_decides(anyio_backend: str) -> None:
    assert security().enable_dns_rebinding_protection
    assert security(host="0.0.0.0") is None  # noqa: S104 - nothing listens


def test_a_listed_host_protects_a_server_that_is_not_local(anyio_backend: str) -> None:
    settings = security(host="0.0.0.0", allowed_hosts=("a.example", "b.example:1"))  # noqa: S104
    assert settings.enable_dns_rebinding_protection
    assert settings.allowed_hosts == ["a.example", "b.example:1", "a.example:*"]
    assert settings.allowed_origins == []


def test_local_names_stay_allowed_on_a_local_server(anyio_backend: str) -> None:
    settings = security(allowed_origins=("https://a.example",))
    assert "localhost:*" in settings.allowed_hosts
    assert settings.allowed_origins[-1] == "https://a.example"


def test_every_host_may_be_let_in(anyio_backend: str) -> None:
    assert not security(allowed_hosts=("*",)).enable_dns_rebinding_protection


@pytest.mark.parametrize("server", [MCPServer("x"), FastMCP("x")])
def test_an_origin_alone_does_not_protect_and_is_refused(anyio_backend: str, server: object) -> None:
    options = ServeOptions(target="x", host="0.0.0.0", allowed_origins=("https://a",))  # noqa: S104
    with pytest.raises(CliError, match=r"--allowed-origin: .* needs --allowed-host"):
        build_app(server, options)

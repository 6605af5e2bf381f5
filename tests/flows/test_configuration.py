"""Settings of the guide, as its readers give them: `.env`, a client's `mcp.json`, options, arguments."""

from __future__ import annotations

import json
import logging
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, cast

import anyio
import httpx2
import pytest
from mcp.server import MCPServer

import holdfast
from holdfast.errors import ConfigurationError, HoldfastError
from holdfast.integrations.mcp_sdk.event_store import EventStore
from tests.flows.command import PATIENCE_SECONDS, Client, Command, refused, serving
from tests.flows.conftest import Setup
from tests.servers import RunningServer, free_port, start_server
from tests.topologies import ClusterSetup, SentinelSetup

SERVER: Final = """
from mcp.server import MCPServer
from mcp.server.mcpserver import Context
mcp = MCPServer("configured")

@mcp.tool()
async def count(to: int, ctx: Context) -> str:
    for step in range(to):
        await ctx.report_progress(step)
        await ctx.info(str(step))
    return "counted"
"""
GUIDE: Final = """
# Redis Configuration
REDIS_URL={url}        # Redis connection URL
REDIS_PASSWORD=                          # Redis password (if required)

# Session Settings
SESSION_TTL=7200                         # Session TTL in seconds
MAX_EVENTS_PER_SESSION=64               # Max events per session
SESSION_COMPRESSION=true                 # Enable data compression
SESSION_KEY_PREFIX=team:session:
"""
SECRET: Final = "hunter2-never-shown"


@pytest.fixture
def setup() -> Setup:
    return Setup("valkey", sockets=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "configured.py").write_text(SERVER)
    return tmp_path


Give = Callable[[Path, str, pytest.MonkeyPatch], list[str]]


def by_dotenv(folder: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The guide's own lines, with their comments."""
    (folder / ".env").write_text(GUIDE.format(url=url))
    return []


def by_mcp_json(folder: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A client starts the server with the `env` block of its `mcp.json`."""
    variables = dict(
        line.split("#")[0].strip().split("=", 1) for line in GUIDE.format(url=url).splitlines() if "=" in line
    )
    entry = {"mcpServers": {"configured": {"command": "holdfast", "env": variables}}}
    (folder / "mcp.json").write_text(json.dumps(entry))
    block = json.loads((folder / "mcp.json").read_text())["mcpServers"]["configured"]["env"]
    for name, value in block.items():
        monkeypatch.setenv(name, value)
    return []


def by_options(folder: Path, url: str, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """They go before the environment."""
    monkeypatch.setenv("SESSION_TTL", "60")
    monkeypatch.setenv("SESSION_KEY_PREFIX", "other:session:")
    return [
        *("--store", url, "--session-ttl", "7200", "--max-events", "64", "--no-compression"),
        *("--key-prefix", "team:session:", "--answer-timeout", "4", "--connect-timeout", "3"),
        *("--probe-interval", "1"),
    ]


@pytest.mark.guarantee("G13")
@pytest.mark.parametrize("give", [by_dotenv, by_mcp_json, by_options])
async def test_what_was_said_is_what_is_done(
    folder: Path, store: str, redis_server: RunningServer, monkeypatch: pytest.MonkeyPatch, give: Give
) -> None:
    arguments = give(folder, store, monkeypatch)
    async with serving(folder, "configured:mcp", *arguments) as command:
        session = await counted(command)
    keys = {cast("bytes", key).decode() for key in cast("list[Any]", redis_server.cli("KEYS", "*"))}
    assert f"{{team:session:{session}}}:log" in keys
    assert not [key for key in keys if "mcp" in key or "other" in key]
    lifetime = cast("int", redis_server.cli("PTTL", f"{{team:session:{session}}}:meta"))
    assert 7_200_000 * 0.9 < lifetime <= 7_200_000 * 17 / 16  # extended once for many touches
    kept = cast("int", redis_server.cli("XLEN", f"{{team:session:{session}}}:log"))
    assert 60 <= kept <= 64


async def counted(command: Command) -> str:
    """Run a call that emits 100 events; the session."""
    async with httpx2.AsyncClient(timeout=PATIENCE_SECONDS) as http:
        client = Client(http, command.url)
        assert (await client.initialize()).status_code == 200
        params = {"name": "count", "arguments": {"to": 50}, "_meta": {"progressToken": "t"}}
        assert "counted" in (await client.post("tools/call", params)).text
        return client.headers["mcp-session-id"]


@pytest.mark.guarantee("G16")
async def test_without_a_word_a_session_lives_for_an_hour(
    folder: Path, store: str, redis_server: RunningServer
) -> None:
    async with serving(folder, "configured:mcp", store=store) as command:
        session = await counted(command)
    lifetime = cast("int", redis_server.cli("PTTL", f"{{mcp:session:{session}}}:meta"))
    assert 3_600_000 * 0.9 < lifetime <= 3_600_000 * 17 / 16


async def test_the_environment_goes_before_dotenv_and_what_is_wrong_in_it_ends_the_start(
    folder: Path, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / ".env").write_text("SESSION_TTL=soon\n")
    status, said = await refused(folder, "configured:mcp", store=store)
    assert (status, said) == (
        2,
        "holdfast serve: SESSION_TTL: got 'soon', expected seconds above 0 and up to 315,360,000\n",
    )
    monkeypatch.setenv("SESSION_TTL", "60")
    async with serving(folder, "configured:mcp", store=store):
        pass


@pytest.mark.parametrize(
    ("flag", "value", "said"),
    [
        ("--session-ttl", "0", "got '0', expected seconds above 0"),
        ("--max-events", "7", "got '7', expected a whole number from 8 to 1,000,000"),
        ("--key-prefix", "mcp:", "got 'mcp:', expected visible ASCII"),
        ("--answer-timeout", "x", "got 'x', expected seconds above 0"),
        ("--connect-timeout", "-1", "got '-1', expected seconds above 0"),
        ("--probe-interval", "inf", "got 'inf', expected seconds above 0"),
        ("--encryption-keys-file", "/nowhere", "got '/nowhere', expected a file to read"),
    ],
)
async def test_a_wrong_option_is_named_with_what_is_allowed(
    folder: Path, flag: str, value: str, said: str
) -> None:
    from holdfast.ops.cli.__main__ import main  # noqa: PLC0415 - as the command does

    with pytest.raises(SystemExit) as ended:
        main(["serve", "configured:mcp", f"{flag}={value}"])
    assert ended.value.code == 2
    with pytest.raises(SystemExit):
        main(["sessions", "list", f"{flag}={value}"])


@pytest.mark.parametrize(
    ("option", "value", "allowed"),
    [
        ("max_events", 7, "a whole number from 8 to 1,000,000"),
        ("max_events", True, "a whole number"),
        ("compression", "gzip", "true, 1, yes, on"),
        ("key_prefix", "{mcp}:session:", "visible ASCII without braces"),
        ("answer_seconds", 0, "seconds above 0"),
        ("connect_seconds", float("nan"), "seconds above 0"),
        ("probe_seconds", -2, "seconds above 0"),
        ("debug_logging", "maybe", "true, 1, yes, on"),
    ],
)
def test_each_setting_is_an_argument_and_a_wrong_one_is_refused_where_it_is_given(
    option: str, value: Any, allowed: str
) -> None:
    given: dict[str, Any] = {option: value}
    for take in (
        lambda: holdfast.open_store("memory://", **given),
        lambda: holdfast.attach(MCPServer("x").streamable_http_app(), store="memory://", **given),
        lambda: holdfast.streamable_http_app(MCPServer("x"), **given),
        lambda: holdfast.Publisher("memory://", **given),
        lambda: holdfast.InMemorySessionManager(**given),
        lambda: holdfast.RedisSessionManager("redis://localhost", **given),
        lambda: EventStore("memory://", **given),
    ):
        with pytest.raises(ConfigurationError, match=rf"^{option}: got .*, expected .*{allowed}"):
            take()


def test_options_of_a_store_do_not_change_a_backend_that_is_made() -> None:
    backend = holdfast.open_store("memory://")
    with pytest.raises(ConfigurationError, match="max_events: got it together with a backend"):
        holdfast.attach(MCPServer("x").streamable_http_app(), store=backend, max_events=100)
    with pytest.raises(ConfigurationError, match="max_events: got it together with a backend"):
        holdfast.Publisher(backend, max_events=100)


def test_an_error_in_a_url_names_the_variable_that_it_was_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REDIS_URL", f"redis://user:{SECRET}@localhost/first")
    with pytest.raises(ConfigurationError, match=r"^REDIS_URL: the database is 'first'; allowed: ") as error:
        holdfast.open_store()
    assert SECRET not in str(error.value)


# Passwords


def _urls(redis: RunningServer, sentinels: SentinelSetup, cluster: ClusterSetup) -> dict[str, list[str]]:
    """For each topology: nobody there, a wrong password, a URL that is wrong behind its password."""
    who, port = f"{SECRET}-user:{SECRET}", free_port()
    tls = "?ssl_ca_certs=/nowhere"
    return {
        "one server": [
            f"redis://{who}@127.0.0.1:{port}",
            redis.url.replace("redis://", f"redis://{who}@"),
            f"redis://{who}@127.0.0.1:{port}/x",
        ],
        "TLS": [f"rediss://{who}@127.0.0.1:{redis.port}", f"rediss://{who}@127.0.0.1:{port}{tls}"],
        "sentinels": [
            f"redis-sentinel://{who}@127.0.0.1:{port}/mymaster",
            sentinels.url.replace("://", f"://{who}@"),
            f"redis-sentinel://{who}@127.0.0.1:{port}/mymaster?sentinel_password={SECRET}&nonsense=1",
        ],
        "cluster": [
            f"redis-cluster://{who}@127.0.0.1:{port}",
            cluster.url.replace("://", f"://{who}@"),
            f"redis-cluster://{who}@127.0.0.1:{port}/7",
        ],
        "socket": [f"unix://{who}@/nowhere/redis.sock"],
    }


@pytest.mark.guarantee("G12")
@pytest.mark.parametrize("topology", ["one server", "TLS", "sentinels", "cluster", "socket"])
async def test_a_password_is_in_no_log_no_repr_and_no_error(
    topology: str,
    redis: RunningServer,
    sentinels: SentinelSetup,
    cluster: ClusterSetup,
    caplog: pytest.LogCaptureFixture,
) -> None:
    shown: list[str] = []
    for url in _urls(redis, sentinels, cluster)[topology]:
        with caplog.at_level(logging.DEBUG):
            try:
                backend = holdfast.open_store(url, answer_seconds=1, connect_seconds=0.5)
                shown.append(repr(backend))
                with anyio.fail_after(20):
                    async with backend:
                        pass
            except (HoldfastError, TimeoutError) as error:
                shown += [repr(error), *traceback.format_exception(error)]
                continue
            shown.append("it let us in")
    assert "it let us in" not in shown
    assert SECRET not in "\n".join(shown) + caplog.text


@pytest.mark.parametrize("command", [["serve", "configured:mcp"], ["sessions", "list"], ["export", "file"]])
async def test_a_password_is_in_no_output_of_a_command(folder: Path, command: list[str]) -> None:
    with start_server("valkey", password="right") as server:
        url = f"redis://:{SECRET}@127.0.0.1:{server.port}"
        with anyio.fail_after(PATIENCE_SECONDS):
            done = await anyio.run_process(
                [sys.executable, "-m", "holdfast.ops.cli", *command],
                cwd=folder,
                env={**os.environ, "REDIS_URL": url, "SESSION_DEBUG_LOGGING": "true"},
                check=False,
            )
    said = (done.stdout + done.stderr).decode()
    assert done.returncode == 1
    assert "REDIS_URL" in said
    assert SECRET not in said
    files = [file async for file in anyio.Path(folder).rglob("*") if await file.is_file()]
    assert not [file for file in files if SECRET.encode() in await file.read_bytes()]

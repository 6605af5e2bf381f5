"""Servers that load, forget who we are, or turn deaf: what each costs, and that it heals by itself."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import cast

import anyio
import pytest

from holdfast.backends.redis import RedisBackend, RedisOptions
from holdfast.errors import StoreRefused, StoreUnavailable
from holdfast.sessions.types import STANDALONE, AppendKey
from holdfast.testing.conformance.harness import Heard, new_session
from holdfast.testing.fault_proxy import FaultProxy
from tests.backends.redis.everything import everything
from tests.backends.redis.waiting import again, connections, for_ever, until
from tests.servers import Flavour, RunningServer, start_server

pytestmark = pytest.mark.anyio


@pytest.fixture
def server(redis_flavour: Flavour) -> Iterator[RunningServer]:
    """A server of the test's own, that can be made to load slowly."""
    extra = ["--enable-debug-command", "yes", "--loading-process-events-interval-bytes", "1024"]
    with start_server(redis_flavour, extra=extra) as server:
        yield server


async def test_a_server_that_loads_its_data_is_waited_for(server: RunningServer) -> None:
    async with RedisBackend(server.url) as a, RedisBackend(server.url) as b:
        session = await new_session(a)
        server.pipeline([("SET", f"filler-{n}", "x" * 1000, "PX", 60_000) for n in range(1000)])
        server.cli("CONFIG", "SET", "key-load-delay", 1000)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, server.cli, "DEBUG", "RELOAD")
            await until(lambda: b"\nloading:1\r" in cast("bytes", server.cli("INFO", "persistence")))
            event = await a.log.append(session, STANDALONE, b"x")  # no key: it was not carried out before
            assert event.position.offset == 1
            async with RedisBackend(server.url) as c:
                assert await c.sessions.find(session, owner=None, with_facts=True)
        assert await b.sessions.find(session, owner=None, with_facts=True)


async def test_a_server_that_loads_for_long_is_unavailable_and_then_used_again(server: RunningServer) -> None:
    async with RedisBackend(server.url, options=RedisOptions(retry_seconds=0.3)) as a:
        session = await new_session(a)
        server.pipeline([("SET", f"filler-{n}", "x" * 1000, "PX", 60_000) for n in range(1000)])
        server.cli("CONFIG", "SET", "key-load-delay", 2000)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.to_thread.run_sync, server.cli, "DEBUG", "RELOAD")
            with pytest.raises(StoreUnavailable, match="LOADING"):
                await for_ever(a.sessions.count)
            with pytest.raises(StoreUnavailable, match=r"not ready|did not answer"):
                await RedisBackend(
                    server.url, options=RedisOptions(start_wait=0.1, connect_timeout=0.1)
                ).__aenter__()
        await a.log.append(session, STANDALONE, b"x", key=AppendKey("w", 1))


async def test_a_user_whose_password_changes_is_refused_and_then_let_in_again(
    redis_server: RunningServer,
) -> None:
    def allow(password: str) -> None:
        redis_server.cli("ACL", "DELUSER", "app")
        redis_server.cli("ACL", "SETUSER", "app", "on", f">{password}", "allkeys", "allchannels", "+@all")

    allow("secret")
    try:
        async with RedisBackend(redis_server.url.replace("127", "app:secret@127")) as a:
            session = await new_session(a)
            allow("other")
            with pytest.raises(StoreRefused, match="user or password in the URL is wrong") as no:
                await for_ever(lambda: a.log.append(session, STANDALONE, b"x"), but_for=StoreUnavailable)
            assert "secret" not in str(no.value)
            allow("secret")
            key = AppendKey("w", 1)
            await again(
                lambda: a.log.append(session, STANDALONE, b"x", key=key), StoreRefused, StoreUnavailable
            )
    finally:
        redis_server.cli("ACL", "DELUSER", "app")


async def test_a_name_that_points_elsewhere_now_is_noticed_though_the_old_server_answers(
    valkey: RunningServer, redis: RunningServer
) -> None:
    """Managed failovers change what a name means. Only the data connection broke: the other one is deaf."""
    options = RedisOptions(probe_seconds=0.3)
    async with FaultProxy("127.0.0.1", valkey.port) as proxy:
        url = f"redis://127.0.0.1:{proxy.port}/0?prefix=moved"
        async with RedisBackend(url, options=options) as a:
            proxy.server = ("127.0.0.1", redis.port)
            for number in connections(valkey, a, "normal"):
                valkey.cli("CLIENT", "KILL", "ID", number)
            async with RedisBackend(f"{redis.url}?prefix=moved") as b:
                await until(lambda: connections(redis, a, "pubsub"))
                session = await new_session(b)
                woken = Heard()
                async with a.log.watch(session, woken):
                    await b.log.append(session, STANDALONE, b"x")
                    await woken.once()
                await b.sessions.close(session)
            redis.cli("FLUSHALL")


async def test_announcements_that_arrive_keep_their_connection(redis_server: RunningServer) -> None:
    redis_server.cli("CONFIG", "RESETSTAT")
    async with RedisBackend(redis_server.url, options=RedisOptions(probe_seconds=0.2)) as a:
        before = connections(redis_server, a, "pubsub")
        published = b"cmdstat_publish:calls=%d,"
        await until(lambda: published % 5 in cast("bytes", redis_server.cli("INFO", "commandstats")))
        assert connections(redis_server, a, "pubsub") == before


async def test_a_unix_socket(redis_flavour: Flavour, tmp_path: Path) -> None:
    socket = tmp_path / "redis.sock"
    with start_server(redis_flavour, password="secret", extra=["--unixsocket", str(socket)]) as server:
        url = f"unix://:secret@{socket}?db=3"
        async with RedisBackend(url) as a, RedisBackend(url) as b:
            await everything(a, b)
            await new_session(a)
            assert server.pipeline([("SELECT", 3), ("DBSIZE",)])[1]
        with pytest.raises(StoreUnavailable, match=r"unix:///no/such\.sock"):
            await RedisBackend("unix:///no/such.sock", options=RedisOptions(start_wait=0.1)).__aenter__()


async def test_options_of_the_url_count(redis_server: RunningServer) -> None:
    url = f"{redis_server.url}?client_name=tools&prefix=tools&timeout=0.2&connect_timeout=0.2"
    async with RedisBackend(url) as a:
        await new_session(a)
        assert f"name=tools-{a.replica}" in str(redis_server.cli("CLIENT", "LIST"))
        keys = redis_server.cli("KEYS", "*")
        assert isinstance(keys, list)
        assert all(isinstance(key, bytes) and key.lstrip(b"{").startswith(b"tools:") for key in keys)

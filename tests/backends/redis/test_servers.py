"""Servers as they are found: passwords, permissions, TLS, full, read-only, cluster nodes, other loops."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import cast

import anyio
import pytest

from holdfast.backends.redis import RedisBackend, RedisOptions, link
from holdfast.backends.redis.location import Endpoint
from holdfast.backends.redis.scripts import ALL
from holdfast.errors import ConfigurationError, SessionExists, StoreRefused, StoreUnavailable
from holdfast.sessions.types import STANDALONE, AppendKey, SessionId
from holdfast.testing.conformance.harness import (
    new_facts,
    new_session,
    top_of,
)
from tests.backends.redis.conftest import Connect
from tests.backends.redis.everything import everything
from tests.servers import Flavour, RunningServer, free_port, start_server

pytestmark = pytest.mark.anyio

PERMISSIONS = (
    "on >secret ~mcp:* ~{mcp:* resetchannels &mcp:* -@all +@read +@write -@dangerous +evalsha +script|load "
    "+hello +auth +ping +time +publish +subscribe +unsubscribe"
)
"""What an operator has to grant. With `+info` on top, lost data is recognised."""


@pytest.fixture(scope="module")
def locked() -> Iterator[RunningServer]:
    with start_server("redis", tls=True, password="secret") as server:
        yield server


@pytest.mark.parametrize(
    ("user", "said"), [("", "wants a password"), (":wrong@", "is wrong"), ("nobody:secret@", "is wrong")]
)
async def test_a_wrong_password_is_refused_at_once_and_not_repeated(
    locked: RunningServer, user: str, said: str
) -> None:
    url = f"rediss://{user}127.0.0.1:{locked.port}?ssl_ca_certs={locked.ca_file}"
    with pytest.raises(StoreRefused, match=said) as refused:
        async with RedisBackend(url):
            pass
    assert "wrong@" not in str(refused.value)
    assert ":secret" not in str(refused.value)


async def test_a_server_that_is_not_there_is_said_in_time() -> None:
    options = RedisOptions(start_wait=0.5)
    backend = RedisBackend(f"redis://:hunter2@127.0.0.1:{free_port()}", options=options)
    with anyio.fail_after(20), pytest.raises(StoreUnavailable, match="cannot connect") as unavailable:
        await backend.__aenter__()
    assert "hunter2" not in str(unavailable.value)


async def test_a_server_that_starts_a_moment_later_is_waited_for() -> None:
    with start_server("valkey") as server:
        server.kill()
        async with anyio.create_task_group() as tasks:

            async def come_up() -> None:
                await anyio.sleep(0.3)
                await anyio.to_thread.run_sync(server.restart)

            tasks.start_soon(come_up)
            async with RedisBackend(server.url, options=RedisOptions(start_wait=30)) as a:
                await new_session(a)


async def test_a_server_that_accepts_and_says_nothing_is_given_up(redis_server: RunningServer) -> None:
    redis_server.pause()
    options = RedisOptions(start_wait=0.5, connect_timeout=0.3)
    with anyio.fail_after(20), pytest.raises(StoreUnavailable, match="did not answer"):
        await RedisBackend(redis_server.url, options=options).__aenter__()


@pytest.mark.guarantee("G19")
async def test_few_permissions_are_enough(
    redis_server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    redis_server.cli("ACL", "SETUSER", "holdfast", *PERMISSIONS.split())
    url = redis_server.url.replace("127", "holdfast:secret@127")
    try:
        link.reset_warnings()
        with caplog.at_level(logging.WARNING):
            async with RedisBackend(url) as a, RedisBackend(url) as b:
                await everything(a, b)
        told = [record for record in caplog.records if "INFO" in record.getMessage()]
        assert len(told) == 1
        with pytest.raises(StoreRefused, match="permission"):
            await RedisBackend(url, prefix="other").__aenter__()
    finally:
        redis_server.cli("ACL", "DELUSER", "holdfast")


async def test_replicas_that_may_not_ask_for_the_incarnation_end_no_epoch(
    redis_server: RunningServer, connect: Connect
) -> None:
    redis_server.cli("ACL", "SETUSER", "blind", "on", ">secret", "allkeys", "allchannels", "+@all", "-info")
    try:
        async with connect(redis_server.url.replace("127", "blind:secret@127")) as blind, connect() as seeing:
            session = await new_session(blind)
            epochs: set[str] = set()
            for backend in (blind, seeing, blind, seeing):
                epochs.add((await backend.log.append(session, STANDALONE, b"x")).position.epoch)
            assert len(epochs) == 1
    finally:
        redis_server.cli("ACL", "DELUSER", "blind")


async def test_a_full_server_refuses_what_grows_and_lets_sessions_end(
    redis_server: RunningServer, connect: Connect
) -> None:
    async with connect() as a:
        facts = new_facts()
        await a.sessions.open(facts, limit=None)
        before = await a.log.append(facts.id, STANDALONE, b"x")
        redis_server.cli("CONFIG", "SET", "maxmemory", 1)
        try:
            with pytest.raises(StoreRefused, match="OOM"):
                await a.log.append(facts.id, STANDALONE, b"x")
            with pytest.raises(StoreRefused, match="OOM"):
                await new_session(a)
            assert await a.sessions.find(facts.id, owner=None, with_facts=True)
            assert await top_of(a, facts.id) == before.position
            assert await a.sessions.close(facts.id)
        finally:
            redis_server.cli("CONFIG", "SET", "maxmemory", 0)
        assert await a.sessions.find(facts.id, owner=None, with_facts=True) is None
        await new_session(a)


async def test_a_server_that_became_a_replica_is_unavailable_until_it_is_master_again(
    redis_server: RunningServer, connect: Connect
) -> None:
    async with connect(retry_seconds=1.0) as a:
        session = await new_session(a)
        redis_server.cli("REPLICAOF", "127.0.0.1", free_port())
        try:
            with pytest.raises(StoreUnavailable):
                await a.log.append(session, STANDALONE, b"x", key=AppendKey("w", 1))
        finally:
            redis_server.cli("REPLICAOF", "NO", "ONE")
        with anyio.fail_after(5):
            while True:
                try:
                    event = await a.log.append(session, STANDALONE, b"x", key=AppendKey("w", 1))
                except StoreUnavailable:
                    continue
                break
        assert event.position.offset == 1


async def test_a_password_that_changes_is_said_and_healed(
    redis_server: RunningServer, connect: Connect
) -> None:
    async with connect() as a:
        try:
            redis_server.cli("CONFIG", "SET", "requirepass", "new")
            redis_server.password = "new"
            redis_server.cli("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
            with pytest.raises(StoreRefused, match="wants a password"):  # noqa: PT012 - the kill takes a moment
                while True:
                    await a.sessions.count()
        finally:
            redis_server.cli("CONFIG", "SET", "requirepass", "")
            redis_server.password = None
        with anyio.fail_after(5):
            while True:
                try:
                    await a.sessions.count()
                except StoreRefused:
                    await anyio.sleep(0.01)
                    continue
                break


async def test_all_keys_of_a_script_are_declared_and_in_one_slot(redis_flavour: Flavour) -> None:
    with start_server(redis_flavour, extra=["--cluster-enabled", "yes"]) as server:
        server.cli("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        with anyio.fail_after(10):
            while b"cluster_state:ok" not in cast("bytes", server.cli("CLUSTER", "INFO")):
                await anyio.lowlevel.checkpoint()
        async with (
            RedisBackend(f"redis-cluster://127.0.0.1:{server.port}") as a,
            RedisBackend(f"redis-cluster://127.0.0.1:{server.port}") as b,
        ):
            await everything(a, b)


async def test_databases_are_apart(redis_server: RunningServer) -> None:
    async with RedisBackend(f"{redis_server.url[:-1]}5") as a, RedisBackend(redis_server.url) as b:
        facts = new_facts()
        await a.sessions.open(facts, limit=None)
        assert await b.sessions.find(facts.id, owner=None, with_facts=True) is None
        await a.sessions.close(facts.id)


async def test_prefixes_are_apart(redis_server: RunningServer) -> None:
    async with (
        RedisBackend(redis_server.url, prefix="one") as a,
        RedisBackend(redis_server.url, prefix="two") as b,
    ):
        session = await new_session(a)
        assert await b.sessions.find(session, owner=None, with_facts=True) is None
        assert await b.sessions.count() == 0
        keys = redis_server.cli("KEYS", "*")
        assert isinstance(keys, list)
        assert all(isinstance(key, bytes) and key.lstrip(b"{").startswith(b"one:") for key in keys)


async def test_an_id_that_would_break_the_slot_is_refused(connect: Connect) -> None:
    async with connect() as a:
        for bad in ("{a}", "a b", "", "é"):
            with pytest.raises(ValueError, match="session id"):
                await a.sessions.open(new_facts(id=SessionId(bad)), limit=None)
        assert await a.sessions.count() == 0


async def test_an_id_in_use_is_not_listed_for_whoever_asked_for_it_too(connect: Connect) -> None:
    async with connect() as a:
        session = await new_session(a, owner="alice")
        for owner in ("mallory", None):
            with pytest.raises(SessionExists):
                await new_session(a, id=session, owner=owner)
        assert list(await a.sessions.list(owner="mallory")) == []
        assert list(await a.sessions.list(owner="alice")) == [session]
        assert list(await a.sessions.list()) == [session]


@pytest.mark.parametrize("anyio_backend", ["trio"])
async def test_another_event_loop_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="asyncio"):
        await RedisBackend("redis://").__aenter__()


@pytest.mark.parametrize(
    ("greeting", "error"),
    [
        (
            {b"server": b"redis", b"version": b"6.0.20", b"mode": b"standalone", b"role": b"master"},
            StoreRefused,
        ),
        ({b"server": b"redis", b"version": b"7.0.0", b"mode": b"sentinel", b"role": b"master"}, StoreRefused),
        ({b"server": b"redis", b"version": b"7.0.0", b"mode": b"x", b"role": b"replica"}, StoreUnavailable),
    ],
)
def test_greetings_of_servers_that_will_not_do(greeting: dict[bytes, bytes], error: type[Exception]) -> None:
    with pytest.raises(error):
        link.check_server(greeting, Endpoint("host"))


def test_no_script_walks_the_keyspace() -> None:
    for script in ALL:
        assert "SCAN'" not in script.source
        assert "'KEYS'" not in script.source

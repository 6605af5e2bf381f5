"""Behind sentinels: whoever is the master is used, and nobody else, without a restart."""

from __future__ import annotations

from collections.abc import Iterator
from typing import cast

import anyio
import pytest

from holdfast.backends.redis import RedisBackend, RedisOptions
from holdfast.backends.redis.keys import Keys
from holdfast.backends.redis.single import SingleTopology
from holdfast.errors import StoreRefused, StoreUnavailable
from holdfast.sessions.types import STANDALONE, AppendKey
from holdfast.testing.conformance.harness import Heard, new_session, read_all
from tests.backends.redis.everything import everything
from tests.backends.redis.load import Load, read_on
from tests.backends.redis.waiting import PATIENCE_SECONDS, again, connections, until
from tests.servers import RunningServer
from tests.topologies import SERVICE, SentinelSetup, start_sentinels

pytestmark = pytest.mark.anyio

OPTIONS = RedisOptions(max_events=100_000)


def _named(backend: RedisBackend) -> int | None:
    """The port of the master, as far as a backend has heard: nothing public says so this early."""
    topology = backend._client._topology  # pyright: ignore[reportPrivateUsage]
    assert isinstance(topology, SingleTopology)
    sentinels = topology._sentinels  # pyright: ignore[reportPrivateUsage]
    assert sentinels is not None
    named = sentinels._named  # pyright: ignore[reportPrivateUsage]
    return None if named is None else named.port


async def promoted(setup: SentinelSetup, old: RunningServer) -> None:
    await until(lambda: setup.master() is not old)


async def test_a_killed_master_is_replaced_and_everything_goes_on(sentinels: SentinelSetup) -> None:
    async with RedisBackend(sentinels.url, options=OPTIONS) as a, RedisBackend(sentinels.url) as b:
        load = Load(a)
        await load.open(4)
        woken, heard = Heard(), Heard()
        async with b.log.watch(load.sessions[0], woken), b.bus.subscribe("topic", heard):
            async with anyio.create_task_group() as tasks:
                for session in load.sessions:
                    tasks.start_soon(load.write, session)
                await load.more(50)
                sentinels.master().kill()
                await load.more(50)
                load.ending = True
            await load.check_losses_are_told(b)
            woken.calls.clear()
            await load.append(load.sessions[0], 10_000)
            await woken.once()
            await a.bus.publish("topic", b"hello")
            await heard.told(b"hello")


@pytest.fixture
def deaf_master(sentinels: SentinelSetup) -> Iterator[RunningServer]:
    """A master that can be made not to answer sentinels, and goes on answering everybody else."""
    for server in sentinels.servers:
        server.cli("ACL", "SETUSER", "app", "on", "nopass", "allkeys", "allchannels", "+@all")
    master = sentinels.master()
    yield master
    master.cli("ACL", "SETUSER", "default", "+@all")
    for server in sentinels.servers:
        server.cli("ACL", "DELUSER", "app")


@pytest.mark.guarantee("G12")
async def test_a_zombie_that_still_answers_is_left(
    sentinels: SentinelSetup, deaf_master: RunningServer
) -> None:
    """What it took after its replacement was promoted is lost, and whoever saw it is told."""
    url = sentinels.url.replace("://", "://app:app@")
    async with RedisBackend(url, options=OPTIONS) as a, RedisBackend(url) as b:
        load = Load(a)
        await load.open(2)
        first = load.sessions[0]
        woken = Heard()
        async with b.log.watch(first, woken):
            async with anyio.create_task_group() as tasks:
                for session in load.sessions:
                    tasks.start_soon(load.write, session)
                await load.more(20)
                deaf_master.cli("ACL", "SETUSER", "default", "-ping", "-info", "-publish", "-subscribe")
                await promoted(sentinels, deaf_master)
                await until(lambda: load.stored[first][-1].position.epoch != load.starts[first].epoch)
                role = cast("list[bytes]", deaf_master.cli("ROLE"))
                assert role[0] == b"master", "it was demoted: this was no zombie"
                await load.more(20)
                load.ending = True
            await load.check_losses_are_told(b)
            woken.calls.clear()
            await load.append(load.sessions[0], 10_000)
            await woken.once()


async def test_a_master_that_is_replaced_while_we_connect_to_it_is_not_used(
    sentinels: SentinelSetup, deaf_master: RunningServer
) -> None:
    """It froze, and wakes up as a zombie: whoever had begun to connect to it must not end up with it."""
    url = sentinels.url.replace("://", "://app:app@")
    patient = RedisOptions(connect_timeout=PATIENCE_SECONDS, start_wait=PATIENCE_SECONDS)
    deaf_master.cli("ACL", "SETUSER", "default", "-ping", "-info", "-publish", "-subscribe", "-replicaof")
    deaf_master.pause()
    backend = RedisBackend(url, options=patient)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(backend.__aenter__)
        await promoted(sentinels, deaf_master)
        await until(lambda: _named(backend) == sentinels.master().port)
        deaf_master.resume()
    try:
        session = await new_session(backend)
        role = cast("list[bytes]", deaf_master.cli("ROLE"))
        assert role[0] == b"master", "it was demoted: this was no zombie"
        assert not connections(deaf_master, backend, "normal")
        assert not connections(deaf_master, backend, "pubsub")
        assert sentinels.master().cli("EXISTS", Keys("mcp").session(session).meta)
    finally:
        await backend.__aexit__(None, None, None)


async def test_a_frozen_master_is_left_and_not_gone_back_to(sentinels: SentinelSetup) -> None:
    async with RedisBackend(sentinels.url, options=OPTIONS) as a, RedisBackend(sentinels.url) as b:
        load = Load(a)
        await load.open(2)
        frozen = sentinels.master()
        async with anyio.create_task_group() as tasks:
            for session in load.sessions:
                tasks.start_soon(load.write, session)
            await load.more(20)
            frozen.pause()
            await promoted(sentinels, frozen)
            await load.more(20)
            frozen.resume()
            await load.more(20)
            load.ending = True
        await load.check_losses_are_told(b)
        assert sentinels.master() is not frozen


async def test_a_fresh_reader_finds_what_the_old_master_left(sentinels: SentinelSetup) -> None:
    async with RedisBackend(sentinels.url) as a:
        session = await new_session(a)
        event = await a.log.append(session, STANDALONE, b"x")
        old = sentinels.master()
        old.cli("WAIT", 1, 5000)
        old.kill()
        await promoted(sentinels, old)
        async with RedisBackend(sentinels.url) as b:
            new = await again(lambda: b.log.append(session, STANDALONE, b"y", key=AppendKey("w", 1)))
            assert new.position.epoch != event.position.epoch
            events, gaps = await read_on(b, session, event.position)
            assert ([each.payload for each in events], gaps) == ([b"y"], 0)
            assert [each.payload for each in await read_all(b, session, STANDALONE)] == [b"x", b"y"]


async def test_one_sentinel_that_answers_is_enough_to_start(sentinels: SentinelSetup) -> None:
    sentinels.sentinels[0].kill()
    sentinels.sentinels[1].pause()
    async with RedisBackend(sentinels.url) as a:
        await new_session(a)


async def test_without_any_sentinel_a_connected_backend_goes_on(sentinels: SentinelSetup) -> None:
    async with RedisBackend(sentinels.url) as a:
        for sentinel in sentinels.sentinels:
            sentinel.kill()
        await new_session(a)
        with pytest.raises(StoreUnavailable, match="no sentinel answers"):
            await RedisBackend(
                sentinels.url, options=RedisOptions(start_wait=0.5, connect_timeout=0.5)
            ).__aenter__()


async def test_a_service_that_no_sentinel_knows_is_refused_at_once(sentinels: SentinelSetup) -> None:
    with anyio.fail_after(20), pytest.raises(StoreRefused, match="'another'"):
        await RedisBackend(sentinels.url.replace(SERVICE, "another")).__aenter__()


async def test_wrong_places_are_named(sentinels: SentinelSetup) -> None:
    master, sentinel = sentinels.master(), sentinels.sentinels[0]
    with pytest.raises(StoreRefused, match="is a server by itself"):
        await RedisBackend(f"redis-sentinel://127.0.0.1:{master.port}/{SERVICE}").__aenter__()
    with pytest.raises(StoreRefused, match="redis-sentinel://"):
        await RedisBackend(f"redis://127.0.0.1:{sentinel.port}").__aenter__()


async def test_servers_and_sentinels_have_passwords_of_their_own() -> None:
    with start_sentinels("redis", password="secret", sentinel_password="other") as setup:
        async with RedisBackend(setup.url) as a, RedisBackend(setup.url) as b:
            await everything(a, b)
        for wrong, said in (
            (setup.url.replace("sentinel_password=other", ""), "sentinel_password"),
            (setup.url.replace("=other", "=wrong"), "sentinel_password"),
            (setup.url.replace(":secret", ":wrong"), "user or password"),
        ):
            with pytest.raises(StoreRefused, match=said) as refused:
                await RedisBackend(wrong).__aenter__()
            assert not {"secret", "other", "wrong"} & set(str(refused.value).replace(":", " ").split())

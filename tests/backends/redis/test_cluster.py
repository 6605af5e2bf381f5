"""On a cluster: slots move and masters die while everything goes on, without a restart."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import anyio
import pytest

from holdfast.backends.redis import RedisBackend, RedisOptions
from holdfast.backends.redis.keys import Keys
from holdfast.backends.redis.slots import slot_of
from holdfast.errors import StoreRefused, StoreUnavailable
from holdfast.sessions.types import STANDALONE, AppendKey, SessionId
from holdfast.testing.conformance.harness import Heard, new_session, read_all
from tests.backends.redis.everything import everything
from tests.backends.redis.load import Load
from tests.backends.redis.waiting import again, for_ever, listening_post, until
from tests.servers import RunningServer
from tests.topologies import ClusterSetup, node_id, start_cluster

pytestmark = pytest.mark.anyio

OPTIONS = RedisOptions(max_events=100_000)
KEYS = Keys("mcp")


def home_of(session: SessionId) -> int:
    return slot_of(KEYS.session(session).meta)


def another(cluster: ClusterSetup, than: RunningServer) -> RunningServer:
    return next(server for server in cluster.masters if server is not than)


@pytest.mark.parametrize(
    "key", ["mcp:session:s-1", "{mcp:session:s-1}:meta", "a{b}c", "{}a", "{a", "a}{b}", "é{ü}", "{{a}}", ""]
)
def test_slots_are_those_of_the_server(key: str, cluster: ClusterSetup) -> None:
    assert slot_of(key) == cluster.servers[0].cli("CLUSTER", "KEYSLOT", key)


def moved(cluster: ClusterSetup, slot: int, to: RunningServer) -> Callable[[], bool]:
    return lambda: cluster.owner_of(slot) is to


async def sessions_on_each_master(cluster: ClusterSetup, backend: RedisBackend) -> dict[int, SessionId]:
    found: dict[int, SessionId] = {}
    while len(found) < 3:
        session = await new_session(backend)
        found.setdefault(cluster.owner_of(home_of(session)).port, session)
    return found


async def test_announcements_arrive_from_every_master(cluster: ClusterSetup) -> None:
    """Each process listens on one node only: what a script publishes on another one has to get there."""
    async with RedisBackend(cluster.url) as a, RedisBackend(cluster.url) as b:
        for session in (await sessions_on_each_master(cluster, a)).values():
            woken, arrived = Heard(), Heard()
            async with b.log.watch(session, woken), b.inbox.listen(arrived):
                await b.inbox.expect(session, "q")
                await a.log.append(session, STANDALONE, b"x")
                await woken.once()
                assert await a.inbox.put(session, "q", b"!")
                await arrived.told(session, "q")


async def test_a_slot_that_moved_is_followed_at_the_first_redirection(cluster: ClusterSetup) -> None:
    async with RedisBackend(cluster.url) as a:
        session = await new_session(a)
        first = await a.log.append(session, STANDALONE, b"x")
        slot = home_of(session)
        cluster.move_slot(slot, another(cluster, cluster.owner_of(slot)))
        second = await a.log.append(session, STANDALONE, b"y")  # no key: it cannot be repeated after a loss
        assert second.position.offset == 2
        assert [e.payload for e in await read_all(a, session, STANDALONE, after=first.position)] == [b"y"]


async def test_a_slot_on_its_way_is_followed_to_where_the_keys_are(cluster: ClusterSetup) -> None:
    """ASK for what is there already; what the cluster calls unstable waits for the end of the move."""
    async with RedisBackend(cluster.url) as a:
        session = await new_session(a)
        await a.subscriptions.add(session, "r:1", ttl_seconds=60)
        slot = home_of(session)
        target = another(cluster, cluster.owner_of(slot))
        source = cluster.begin_move(slot, target)
        cluster.move_keys(slot, source, target)
        assert list(await a.subscriptions.uris(session)) == ["r:1"]
        done = anyio.Event()

        async def append() -> None:
            event = await a.log.append(session, STANDALONE, b"x")
            assert event.position.offset == 1
            done.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(append)
            await anyio.sleep(0.3)
            assert not done.is_set()
            cluster.end_move(slot, target)
            with anyio.fail_after(5):
                await done.wait()
        assert [e.payload for e in await read_all(a, session, STANDALONE)] == [b"x"]


async def test_a_slot_that_stays_on_its_way_is_unavailable_in_bounded_time(cluster: ClusterSetup) -> None:
    async with RedisBackend(cluster.url, options=RedisOptions(retry_seconds=0.5)) as a:
        session = await new_session(a)
        slot = home_of(session)
        target = another(cluster, cluster.owner_of(slot))
        source = cluster.begin_move(slot, target)
        cluster.move_keys(slot, source, target)
        try:
            with anyio.fail_after(20), pytest.raises(StoreUnavailable, match=r"TRYAGAIN|ASK"):
                await a.log.append(session, STANDALONE, b"x")
            await new_session(a)  # others take no notice
        finally:
            cluster.end_move(slot, target)


@pytest.mark.guarantee("G12")
async def test_slots_that_move_under_load_lose_and_double_nothing(cluster: ClusterSetup) -> None:
    async with RedisBackend(cluster.url, options=OPTIONS) as a, RedisBackend(cluster.url) as b:
        load = Load(a)
        await load.open(6)
        woken = Heard()
        async with b.log.watch(load.sessions[0], woken):
            async with anyio.create_task_group() as tasks:
                for session in load.sessions:
                    tasks.start_soon(load.write, session)
                await load.more(20)
                for _ in range(2):
                    for session in load.sessions[:4]:
                        slot = home_of(session)
                        to = another(cluster, cluster.owner_of(slot))
                        await anyio.to_thread.run_sync(cluster.move_slot, slot, to)
                    await load.more(20)
                load.ending = True
            assert load.refusals == 0
            await load.check_nothing_lost(a)
            await load.check_nothing_lost(b)
            woken.calls.clear()
            await load.append(load.sessions[0], 10_000)
            await woken.once()


async def test_a_killed_master_is_replaced_and_everything_goes_on(cluster: ClusterSetup) -> None:
    async with RedisBackend(cluster.url, options=OPTIONS) as a, RedisBackend(cluster.url) as b:
        load = Load(a)
        await load.open(4)
        first = load.sessions[0]
        woken, heard = Heard(), Heard()
        async with b.log.watch(first, woken), b.bus.subscribe("topic", heard):
            async with anyio.create_task_group() as tasks:
                for session in load.sessions:
                    tasks.start_soon(load.write, session)
                await load.more(50)
                cluster.owner_of(home_of(first)).kill()
                await load.more(50)
                load.ending = True
            await load.check_losses_are_told(b)
            woken.calls.clear()
            await load.append(first, 10_000)
            await woken.once()
            await a.bus.publish("topic", b"hello")
            await heard.told(b"hello")


async def test_announcements_are_heard_elsewhere_when_their_node_dies(cluster: ClusterSetup) -> None:
    """Whichever node that is: it is not the one of the session."""
    async with RedisBackend(cluster.url) as a, RedisBackend(cluster.url) as b:
        post = listening_post(cluster.servers, b)
        assert post is not None
        sessions = await sessions_on_each_master(cluster, a)
        session = next(session for port, session in sessions.items() if port != post.port)
        woken = Heard()
        async with b.log.watch(session, woken):
            post.kill()
            await until(lambda: listening_post(cluster.servers, b))
            await until_stored(a, session, 1)
            await woken.once()
            woken.calls.clear()
            await until_stored(a, session, 2)
            await woken.once()


async def until_stored(backend: RedisBackend, session: SessionId, counter: int) -> None:
    await again(lambda: backend.log.append(session, STANDALONE, b"x", key=AppendKey("w", counter)))


async def test_a_frozen_master_costs_its_own_sessions_only_and_is_replaced(cluster: ClusterSetup) -> None:
    async with RedisBackend(cluster.url) as a:
        sessions = await sessions_on_each_master(cluster, a)
        port, session = next(iter(sessions.items()))
        frozen = next(server for server in cluster.servers if server.port == port)
        frozen.pause()
        await until_stored(a, session, 1)
        frozen.resume()
        await until_stored(a, session, 2)
        assert len(await read_all(a, session, STANDALONE)) == 2


async def test_a_node_that_no_longer_belongs_to_it_is_forgotten(cluster: ClusterSetup) -> None:
    """It answers every PING, and would never announce anything again."""
    options = RedisOptions(probe_seconds=0.5)
    async with RedisBackend(cluster.url) as a, RedisBackend(cluster.url, options=options) as b:
        leaver = listening_post(cluster.servers, b)
        assert leaver is not None
        heir = next(
            server
            for server in cluster.servers
            if f"master_port:{leaver.port}\r".encode() in cast("bytes", server.cli("INFO", "replication"))
        )
        heir.cli("CLUSTER", "FAILOVER")
        await until(lambda: heir in cluster.masters and leaver not in cluster.masters)
        me = cast("bytes", leaver.cli("CLUSTER", "MYID"))
        for server in cluster.servers:
            if server is not leaver:
                server.cli("CLUSTER", "FORGET", me)
        leaver.cli("CLUSTER", "RESET", "SOFT")
        try:
            session = await new_session(a)
            others = [server for server in cluster.servers if server is not leaver]
            await until(lambda: listening_post(others, b))
            woken = Heard()
            async with b.log.watch(session, woken):
                await a.log.append(session, STANDALONE, b"x")
                await woken.once()
        finally:
            cluster.rejoin(leaver, heir)


async def test_a_cluster_that_does_not_serve_everything_is_unavailable_and_comes_back(
    cluster: ClusterSetup,
) -> None:
    async with RedisBackend(cluster.url, options=RedisOptions(retry_seconds=0.5)) as a:
        session = await new_session(a)
        slot = home_of(session)
        owner = cluster.owner_of(slot)
        for server in cluster.servers:
            if server in cluster.masters:
                server.cli("CLUSTER", "DELSLOTS", slot)
        try:
            with pytest.raises(StoreUnavailable):
                await for_ever(lambda: a.log.append(session, STANDALONE, b"x"))
        finally:
            owner.cli("CLUSTER", "ADDSLOTS", slot)
        await until_stored(a, session, 1)


async def test_wrong_places_are_named(cluster: ClusterSetup, valkey: RunningServer) -> None:
    with pytest.raises(StoreRefused, match="redis-cluster://"):
        await RedisBackend(f"redis://127.0.0.1:{cluster.servers[0].port}").__aenter__()
    with pytest.raises(StoreRefused, match="redis://host:port is right"):
        await RedisBackend(f"redis-cluster://127.0.0.1:{valkey.port}").__aenter__()


async def test_one_node_of_the_url_is_enough(cluster: ClusterSetup) -> None:
    async with RedisBackend(f"redis-cluster://127.0.0.1:1,127.0.0.1:{cluster.servers[4].port}") as a:
        await new_session(a)


async def test_valkey_moves_a_slot_in_one_step() -> None:
    """CLUSTER MIGRATESLOTS of Valkey 9: no ASK, but a pause and then MOVED."""
    with start_cluster("valkey", password="secret") as setup:
        async with RedisBackend(setup.url, options=OPTIONS) as a, RedisBackend(setup.url) as b:
            await everything(a, b)
            load = Load(a)
            await load.open(3)
            async with anyio.create_task_group() as tasks:
                for session in load.sessions:
                    tasks.start_soon(load.write, session)
                await load.more(20)
                for session in load.sessions:
                    slot = home_of(session)
                    source = setup.owner_of(slot)
                    to = another(setup, source)
                    source.cli("CLUSTER", "MIGRATESLOTS", "SLOTSRANGE", slot, slot, "NODE", node_id(to))
                    await until(moved(setup, slot, to))
                    await load.more(20)
                load.ending = True
            assert load.refusals == 0
            await load.check_nothing_lost(b)


async def test_what_can_be_renewed_is_renewed_although_a_node_is_away(cluster: ClusterSetup) -> None:
    async with RedisBackend(cluster.url, options=RedisOptions(retry_seconds=0.5)) as a:
        (gone, lost), (there, living), _ = (await sessions_on_each_master(cluster, a)).items()
        owner = next(server for server in cluster.servers if server.port == there)
        meta = KEYS.session(living).meta
        async with a.log.watch(living, Heard()):
            owner.cli("HDEL", meta, "w")
            next(server for server in cluster.servers if server.port == gone).kill()
            with pytest.raises(StoreUnavailable):
                await a.log.renew([lost, living])
            assert owner.cli("HGET", meta, "w")

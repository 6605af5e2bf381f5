"""Broken connections heal, nothing is stored twice, and nobody waits for ever."""

from __future__ import annotations

import asyncio
import time
from typing import Any, cast

import anyio
import pytest

from holdfast.backends.redis import RedisBackend
from holdfast.backends.redis.link import Link
from holdfast.backends.redis.scripts import Script
from holdfast.errors import SessionGone, StoreUnavailable
from holdfast.sessions.types import STANDALONE, AppendKey, Event
from holdfast.testing.conformance.harness import Heard, new_facts, new_session, read_all, top_of
from holdfast.testing.fault_proxy import FaultProxy
from tests.backends.redis.conftest import Connect
from tests.servers import RunningServer, start_server

pytestmark = pytest.mark.anyio


@pytest.mark.guarantee("G2")
async def test_an_append_with_a_key_whose_reply_is_lost_is_stored_once(
    redis_server: RunningServer, connect: Connect
) -> None:
    async with (
        FaultProxy("127.0.0.1", redis_server.port) as proxy,
        connect(f"redis://127.0.0.1:{proxy.port}") as a,
    ):
        session = await new_session(a)
        proxy.lose_reply_to(b"payload-1")
        event = await a.log.append(session, STANDALONE, b"payload-1", key=AppendKey("w", 1))
        assert proxy.cuts == 1
        assert await read_all(a, session, STANDALONE) == [event]


async def test_an_append_without_a_key_whose_reply_is_lost_is_not_repeated(
    redis_server: RunningServer, connect: Connect
) -> None:
    async with (
        FaultProxy("127.0.0.1", redis_server.port) as proxy,
        connect(f"redis://127.0.0.1:{proxy.port}") as a,
    ):
        session = await new_session(a)
        proxy.lose_reply_to(b"payload-1")
        with pytest.raises(StoreUnavailable, match="outcome unknown"):
            await a.log.append(session, STANDALONE, b"payload-1")
        assert proxy.cuts == 1
        assert len(await read_all(a, session, STANDALONE)) == 1


@pytest.mark.guarantee("G2")
async def test_whatever_reply_is_lost_each_call_has_its_one_effect(
    redis_server: RunningServer, connect: Connect
) -> None:
    async with (
        FaultProxy("127.0.0.1", redis_server.port) as proxy,
        connect(f"redis://127.0.0.1:{proxy.port}") as a,
    ):
        facts = new_facts()
        proxy.lose_reply_to(facts.id.encode())  # the reservation
        await a.sessions.open(facts, limit=1)
        session = facts.id
        for name in ("session.opened", "level-1"):
            proxy.lose_reply_to(name.encode())
            if name == "session.opened":
                other = new_facts()
                await a.sessions.open(other, limit=None)
                assert await a.sessions.close(other.id)
            else:
                assert (await a.sessions.configure(session, log_level=name)).version == 1
        await a.inbox.expect(session, "q")
        proxy.lose_reply_to(b"the answer")
        assert await a.inbox.put(session, "q", b"the answer")
        proxy.lose_reply_to(session.encode())
        assert await a.inbox.take(session, "q") == b"the answer"
        assert await a.inbox.take(session, "q") is None
        await a.log.append(session, STANDALONE, b"x")
        await a.log.claim(session, "one", after=None)
        proxy.lose_reply_to(b"reader-two")
        claim = await a.log.claim(session, "reader-two", after=None)
        assert (claim.displaced, claim.start.offset) == ((a.replica, "one"), 1)
        proxy.lose_reply_to(session.encode())
        assert await a.sessions.close(session)
        assert not await a.sessions.close(session)
        assert proxy.cuts == 7


@pytest.mark.guarantee("G12")
async def test_both_connections_come_back_when_they_are_killed(
    redis_server: RunningServer, connect: Connect
) -> None:
    async with connect() as a, connect() as b:
        session = await new_session(a)
        woken, arrived, heard = Heard(), Heard(), Heard()
        async with (
            b.log.watch(session, woken),
            b.inbox.listen(arrived),
            b.bus.subscribe("topic", heard),
        ):
            for kind in ("pubsub", "normal"):
                arrived.calls.clear()
                redis_server.cli("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
                await arrived.told(None, None)
                woken.calls.clear()
                await a.log.append(session, STANDALONE, b"x", key=AppendKey("w", 1 + (kind == "normal")))
                await woken.once()
                heard.calls.clear()
                await a.bus.publish("topic", b"hello")
                await heard.told(b"hello")


async def test_leases_that_were_lost_with_the_data_are_taken_again(
    redis_server: RunningServer, connect: Connect
) -> None:
    async with connect() as a, connect() as b:
        session = await new_session(a)
        woken = Heard()
        async with b.log.watch(session, woken):
            redis_server.cli("HDEL", f"{{mcp:session:{session}}}:meta", "w")
            redis_server.cli("CLIENT", "KILL", "TYPE", "pubsub")
            await woken.once()
            woken.calls.clear()
            await a.log.append(session, STANDALONE, b"x")
            await woken.once()
        await top_of(b, session)  # behind the lease's return, on the same connection
        assert redis_server.cli("HGET", f"{{mcp:session:{session}}}:meta", "w") == b""


@pytest.mark.guarantee("G12")
async def test_scripts_that_the_server_forgot_are_loaded_again(
    redis_server: RunningServer, connect: Connect
) -> None:
    async with connect() as a:
        session = await new_session(a)
        for _ in range(2):
            redis_server.cli("SCRIPT", "FLUSH")
            async with anyio.create_task_group() as tasks:
                for _ in range(20):
                    tasks.start_soon(a.log.append, session, STANDALONE, b"x")
        assert (await top_of(a, session)).offset == 40


async def test_a_caller_that_is_cancelled_while_a_forgotten_script_is_loaded_cancels_no_other(
    redis_server: RunningServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    load, loads, impatient = Link.load, 0, anyio.CancelScope()

    def cancel_the_first(link: Link, script: Script) -> asyncio.Future[Any]:
        nonlocal loads
        loading, loads = load(link, script), loads + 1
        if loads == 2:  # both wait for the same reply now
            impatient.cancel()
        return loading

    async with connect() as a:
        session = await new_session(a)

        async def append_impatiently() -> None:
            with impatient:
                await a.log.append(session, STANDALONE, b"x", key=AppendKey("impatient", 1))

        redis_server.cli("SCRIPT", "FLUSH")
        monkeypatch.setattr(Link, "load", cancel_the_first)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(append_impatiently)
            tasks.start_soon(a.log.append, session, STANDALONE, b"patient")
        assert loads == 2
        assert impatient.cancelled_caught
        assert [event.payload for event in await read_all(a, session, STANDALONE)] == [b"patient"]


async def test_a_server_that_stands_still_is_noticed_and_used_again(
    redis_server: RunningServer, connect: Connect
) -> None:
    woken = Heard()
    async with connect() as a, connect() as b, b.log.watch(session := await new_session(a), woken):
        redis_server.pause()
        began = time.monotonic()
        keyed, bare = await asyncio.gather(
            a.log.append(session, STANDALONE, b"x", key=AppendKey("w", 1)),
            a.log.append(session, STANDALONE, b"y"),
            return_exceptions=True,
        )
        waited = time.monotonic() - began
        assert isinstance(keyed, StoreUnavailable)
        assert isinstance(bare, StoreUnavailable)
        assert 4 < waited < 20  # five seconds of silence, or of trying again
        began = time.monotonic()
        with pytest.raises(StoreUnavailable):
            await a.sessions.count()
        assert time.monotonic() - began < 4  # a second of waiting, instead of another five
        await anyio.sleep(max(0.0, 8 - waited))  # as long as it takes: the old requests are in its buffers
        redis_server.resume()
        with anyio.fail_after(5):
            await until_back(a)
        await a.log.append(session, STANDALONE, b"x", key=AppendKey("w", 1))
        with anyio.fail_after(5):
            woken.calls.clear()
            await a.log.append(session, STANDALONE, b"z")
            await woken.once()
        payloads = [event.payload for event in await read_all(a, session, STANDALONE)]
        assert payloads.count(b"x") == 1
        assert payloads.count(b"y") <= 1


async def test_a_crash_under_load_loses_no_call_and_doubles_none(redis_server: RunningServer) -> None:
    """Without persistence the sessions are gone with the server: that is what each caller is told."""
    async with RedisBackend(redis_server.url) as a:
        session = await new_session(a)
        outcomes: list[str] = []

        async def write(number: int) -> None:
            for count in range(1, 400):
                try:
                    await a.log.append(session, STANDALONE, b"x", key=AppendKey(f"w{number}", count))
                    outcomes.append("ok")
                except StoreUnavailable:
                    outcomes.append("unavailable")
                except SessionGone:
                    outcomes.append("gone")
                    return

        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for number in range(20):
                    tasks.start_soon(write, number)
                await anyio.sleep(0.2)
                redis_server.kill()
                await anyio.sleep(0.3)
                await anyio.to_thread.run_sync(redis_server.restart)
        assert outcomes.count("gone") == 20
        assert (await a.sessions.find(session, owner=None, with_facts=True)) is None
        await new_session(a)


@pytest.mark.guarantee("G3")
async def test_a_crash_with_persistence_is_survived_by_every_append(connect: Connect) -> None:
    with start_server("valkey", extra=["--appendonly", "yes", "--appendfsync", "always"]) as server:
        async with connect(server.url) as a, connect(server.url) as b:
            session = await new_session(a)
            events: list[Event] = []
            hundred = anyio.Event()

            async def write(backend: RedisBackend, number: int) -> None:
                for count in range(1, 41):
                    key = AppendKey(f"w{number}", count)
                    payload = b"%d-%d" % (number, count)
                    events.append(await backend.log.append(session, STANDALONE, payload, key=key))
                    if len(events) == 100:
                        hundred.set()

            with anyio.fail_after(30):
                async with anyio.create_task_group() as tasks:
                    for number in range(10):
                        tasks.start_soon(write, (a, b)[number % 2], number)
                    await hundred.wait()
                    server.kill()
                    await anyio.to_thread.run_sync(server.restart)
            stored = await read_all(a, session, STANDALONE)
            assert [event.position.offset for event in stored] == list(range(1, 401))
            assert len({event.payload for event in stored}) == 400
            by_offset = {event.position.offset: event.payload for event in stored}
            assert all(by_offset[event.position.offset] == event.payload for event in events)


async def test_cancelled_callers_do_not_disturb_the_order_of_replies(connect: Connect) -> None:
    async with connect() as a:
        sessions = [await new_session(a, protocol_version=f"v{number}") for number in range(20)]

        async def look(number: int) -> None:
            found = await a.sessions.find(sessions[number], owner=None, with_facts=True)
            assert found is not None
            assert found.facts is not None
            assert found.facts.protocol_version == f"v{number}"

        for round_ in range(20):
            async with anyio.create_task_group() as tasks:
                for number in range(20):
                    tasks.start_soon(look, number)
                for _ in range(round_ % 4):
                    await asyncio.sleep(0)
                tasks.cancel_scope.cancel()
            await look(round_)


async def test_commands_beyond_the_bound_wait_for_their_turn(connect: Connect) -> None:
    async with connect(max_in_flight=4) as a:
        session = await new_session(a)
        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(a.log.append, session, STANDALONE, b"x")
        assert (await top_of(a, session)).offset == 100


async def test_commands_beyond_the_bound_wait_a_bounded_time(
    redis_server: RunningServer, connect: Connect
) -> None:
    async with connect(max_in_flight=2, connect_wait=0.2, silence_seconds=30.0) as a:
        session = await new_session(a)
        redis_server.pause()
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(a.sessions.count)
            await anyio.sleep(0.05)
            began = time.monotonic()
            with pytest.raises(StoreUnavailable, match="under way"):
                await a.log.append(session, STANDALONE, b"x")
            assert time.monotonic() - began < 10  # not the 30 of the silence
            redis_server.resume()


async def test_a_payload_larger_than_the_buffers_gets_through(connect: Connect) -> None:
    async with connect(max_unsent_bytes=100_000, max_bytes=2**28) as a:
        session = await new_session(a)
        payload = bytes(range(256)) * 2**14
        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(a.log.append, session, STANDALONE, payload)
        assert [event.payload for event in await read_all(a, session, STANDALONE)] == [payload] * 8


async def test_leaving_ends_every_task_and_connection(redis_server: RunningServer, connect: Connect) -> None:
    before = asyncio.all_tasks()
    async with connect() as a:
        await new_session(a)
        assert len(asyncio.all_tasks()) == len(before) + 3  # data, announcements, probe
    assert asyncio.all_tasks() == before
    with anyio.fail_after(5):
        while b"holdfast" in cast("bytes", redis_server.cli("CLIENT", "LIST")):
            await anyio.lowlevel.checkpoint()
    with pytest.raises(StoreUnavailable, match="not open"):
        await a.sessions.count()


async def test_callers_under_way_at_the_end_are_told(redis_server: RunningServer, connect: Connect) -> None:
    async with anyio.create_task_group() as tasks:
        async with connect() as a:
            redis_server.pause()

            async def wait() -> None:
                with pytest.raises(StoreUnavailable):
                    await a.sessions.count()

            for _ in range(3):
                tasks.start_soon(wait)
            await anyio.sleep(0.05)
        redis_server.resume()


async def until_back(backend: RedisBackend) -> None:
    while True:
        try:
            await backend.sessions.count()
        except StoreUnavailable:
            continue
        return


async def test_an_answer_whose_taking_was_carried_out_unheard_is_still_there_for_the_next_look(
    redis_server: RunningServer, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connect(redis_server.url) as a:
        session = await new_session(a)
        await a.inbox.expect(session, "r.token")
        assert await a.inbox.put(session, "r.token", b"answer")
        client = cast("Any", a.inbox)._client
        run = client.run

        async def run_unheard(*args: Any, **options: Any) -> Any:
            await run(*args, **options)
            raise StoreUnavailable("outcome unknown")

        with monkeypatch.context() as patched:
            patched.setattr(client, "run", run_unheard)
            for _ in range(2):
                with pytest.raises(StoreUnavailable):
                    await a.inbox.take(session, "r.token")
        assert await a.inbox.take(session, "r.token") == b"answer"
        assert await a.inbox.take(session, "r.token") is None

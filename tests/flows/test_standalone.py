"""The standalone GET stream: where it starts, who has it, and how it moves between replicas."""

import anyio
import pytest

from tests.flows.apps import Framework
from tests.flows.conftest import Wired
from tests.flows.wire import Stream, Wire, said

CHANGED = "notifications/tools/list_changed"
UPDATED = "notifications/resources/updated"


async def test_a_notification_reaches_the_stream_on_another_replica(
    wired: Wired, framework: Framework
) -> None:
    async with wired(framework) as wire, wire.open(on=2) as standalone:
        assert standalone.status == 200
        assert await wire.do("announce", on=0) == "announced"
        await standalone.method(CHANGED)
        assert await wire.do("announce", on=2) == "announced"
        await standalone.method(CHANGED)


async def test_the_first_get_begins_at_initialize(wired: Wired) -> None:
    async with wired() as wire:
        await wire.do("touch", "res://early", on=0)
        async with wire.open(on=1) as standalone:
            assert (await standalone.method(UPDATED))["params"]["uri"] == "res://early"


async def test_a_later_get_begins_at_the_present(wired: Wired) -> None:
    async with wired() as wire:
        async with wire.open(on=1):
            pass
        await wire.do("touch", "res://missed", on=0)
        await _wait_for_turn(wire)
        async with wire.open(on=2) as standalone:
            await wire.do("touch", "res://seen", on=0)
            assert (await standalone.method(UPDATED))["params"]["uri"] == "res://seen"


async def test_a_later_get_brings_the_questions_that_still_wait(wired: Wired) -> None:
    async with (
        wired() as wire,
        wire.open(on=1) as first,
        wire.calling("elicit_on_standalone", "name?", on=0) as stream,
    ):
        question = await first.method("elicitation/create")
        async with wire.open(on=2) as second:
            again = await second.method("elicitation/create")
            assert again == question
            await wire.answer(question, {"action": "accept", "content": {"name": "bob"}}, on=1)
            assert said(await stream.result()) == "0:accept:bob"
            await wire.do("announce", on=0)
            await second.method(CHANGED)


async def test_a_get_with_an_id_goes_on_behind_it(wired: Wired, framework: Framework) -> None:
    async with wired(framework) as wire:
        async with wire.open(on=1) as standalone:
            await wire.do("touch", "res://1", on=0)
            await standalone.method(UPDATED)
        await wire.do("touch", "res://2", on=0)
        await wire.do("touch", "res://3", on=2)
        async with wire.open(on=2, after=standalone.last_id) as resumed:
            uris = [(await resumed.method(UPDATED))["params"]["uri"] for _ in "23"]
            assert uris == ["res://2", "res://3"]
            await wire.do("touch", "res://4", on=1)
            assert (await resumed.method(UPDATED))["params"]["uri"] == "res://4"


async def test_the_stream_is_primed_so_that_nothing_is_lost_from_its_first_moment(wired: Wired) -> None:
    async with wired() as wire:
        async with wire.open(on=1) as standalone:
            priming = await standalone.next()
            assert priming is not None
            assert priming.id
        await wire.do("touch", "res://1", on=0)
        async with wire.open(on=2, after=priming.id) as resumed:
            assert (await resumed.method(UPDATED))["params"]["uri"] == "res://1"


@pytest.mark.parametrize("second", [1, 2])
async def test_the_newest_get_wins(wired: Wired, second: int) -> None:
    """On the same replica and on another one; the displaced one is told to stay away for long."""
    async with wired() as wire, wire.open(on=1) as old, wire.open(on=second) as new:
        assert new.status == 200
        left = await old.rest()
        assert left[-1].retry is not None
        assert left[-1].retry >= 10_000
        await wire.do("announce", on=0)
        await new.method(CHANGED)


async def test_a_reader_that_was_not_told_of_the_newer_one_finds_out(wired: Wired) -> None:
    async with wired(ttl_seconds=2.0) as wire, wire.open(on=1) as old:
        assert await old.next() is not None
        wire.fleet.replicas[1].store.lose_hints()
        async with wire.open(on=2) as new:
            assert new.status == 200
            wire.fleet.replicas[1].store.heal()
            left = await old.rest()
            assert left[-1].retry is not None
            assert left[-1].retry >= 10_000
            await wire.do("announce", on=0)
            await new.method(CHANGED)


async def test_two_clients_do_not_evict_each_other_at_once(wired: Wired) -> None:
    async with wired() as wire, wire.open(on=0), wire.open(on=1) as second:
        began = anyio.current_time()
        async with wire.open(on=2) as third:
            assert third.status == 200
            await second.rest()
            assert anyio.current_time() - began > 0.5


async def test_a_client_that_comes_back_at_once_is_served(wired: Wired) -> None:
    """Its old connection may still look alive on another replica."""
    async with wired() as wire:
        for n in (0, 1, 2):
            async with wire.open(on=n) as standalone:
                assert standalone.status == 200


async def test_requests_keep_their_events_off_the_standalone_stream(wired: Wired) -> None:
    async with wired() as wire, wire.open(on=1) as standalone:
        async with wire.calling("count", "5", on=0) as stream:
            await stream.rest()
        await wire.do("announce", on=0)
        await standalone.method(CHANGED)


async def test_a_handler_can_close_the_standalone_stream_on_any_replica(wired: Wired) -> None:
    async with wired() as wire:
        async with wire.open(on=2) as standalone:
            assert await wire.do("hang_up_standalone", on=0) == "closed"
            await standalone.rest()
        await wire.do("announce", on=1)
        async with wire.open(on=0, after=standalone.last_id) as resumed:
            await resumed.method(CHANGED)


async def test_many_events_arrive_in_order_from_all_replicas(wired: Wired) -> None:
    async with wired() as wire, wire.open(on=1) as standalone:
        for n in range(60):
            await wire.do("touch", f"res://{n}", on=n % 3)
        uris = [(await standalone.method(UPDATED))["params"]["uri"] for _ in range(60)]
        assert uris == [f"res://{n}" for n in range(60)]


@pytest.mark.guarantee("G1")
async def test_concurrent_writers_on_all_replicas_lose_nothing(wired: Wired) -> None:
    async with wired() as wire, wire.open(on=1) as standalone:
        async with anyio.create_task_group() as tasks:
            for n in range(45):
                tasks.start_soon(wire.do, "touch", f"res://{n}")
        seen = [(await standalone.method(UPDATED))["params"]["uri"] for _ in range(45)]
        assert sorted(seen) == sorted(f"res://{n}" for n in range(45))


async def _wait_for_turn(wire: Wire) -> None:
    """The stream changes hands at most once a second: let that second pass without waiting for it twice."""
    async with wire.open(on=0) as standalone:
        assert standalone.status == 200
        await _primed(standalone)


async def _primed(stream: Stream) -> None:
    event = await stream.next()
    assert event is not None
    assert event.id

"""What is said to all sessions: once for each client, wherever it reads and wherever it was said."""

import json
from contextlib import AsyncExitStack
from functools import partial

import anyio
import pytest

from holdfast.sessions.broadcasts import Broadcasts
from holdfast.sessions.types import AppendKey
from tests.flows.conftest import Start, Wired
from tests.flows.wire import Stream, Wire

SAID = "notifications/test/said"
LOST = "notifications/message"
UPDATED = "notifications/resources/updated"


def said(text: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": SAID, "params": {"text": text}}).encode()


def broadcasts(wire: Wire, on: int) -> Broadcasts:
    replica = wire.fleet.replicas[on].attached.replica
    assert replica is not None
    return replica.broadcasts


async def say(wire: Wire, text: object, *, on: int = 0) -> None:
    await broadcasts(wire, on).send(said(text))


async def heard(stream: Stream) -> object:
    return (await stream.method(SAID))["params"]["text"]


async def test_every_session_hears_it_on_every_replica(start: Start) -> None:
    async with start() as fleet, fleet.client() as client, AsyncExitStack() as stack:
        wires = [Wire(fleet, client) for _ in range(6)]
        streams: list[Stream] = []
        for number, wire in enumerate(wires):
            await wire.initialize(on=number % 3)
            streams.append(await stack.enter_async_context(wire.open(on=(number + 1) % 3)))
        for count in range(9):
            await say(wires[0], count, on=count % 3)
        for stream in streams:
            assert [await heard(stream) for _ in range(9)] == list(range(9))


async def test_the_first_get_brings_what_was_said_since_initialize(start: Start) -> None:
    async with start() as fleet, fleet.client() as client:
        early, late = Wire(fleet, client), Wire(fleet, client)
        await early.initialize(on=0)
        await say(early, "one", on=1)
        await late.initialize(on=1)
        await say(early, "two", on=2)
        async with early.open(on=2) as first, late.open(on=0) as second:
            assert [await heard(first) for _ in range(2)] == ["one", "two"]
            assert await heard(second) == "two"


async def test_a_client_that_was_away_gets_each_once(wired: Wired) -> None:
    async with wired() as wire:
        async with wire.open(on=1) as stream:
            await say(wire, 1)
            assert await heard(stream) == 1
        for number in (2, 3):
            await say(wire, number, on=number % 3)
            await wire.do("touch", f"res://{number}", on=0)
        got: list[object] = []
        after = stream.last_id
        for replica in (2, 0, 1, 2):  # a new connection for each
            async with wire.open(on=replica, after=after) as stream:
                message = await stream.message()
                got.append(message["params"].get("text") or message["params"]["uri"])
                after = stream.last_id
        assert sorted(map(str, got)) == ["2", "3", "res://2", "res://3"]
        assert [one for one in got if isinstance(one, int)] == [2, 3]
        async with wire.open(on=0, after=after) as stream:
            await say(wire, "last", on=1)
            assert await heard(stream) == "last"


async def test_resuming_from_any_id_gives_exactly_the_rest_of_both_logs(wired: Wired) -> None:
    async with wired() as wire:
        ids: list[str] = []
        got: list[str] = []
        async with wire.open(on=1) as stream:
            for number in range(12):
                if number % 3:
                    await wire.do("touch", f"res://{number}", on=number % 2)
                else:
                    await say(wire, f"all {number}", on=number % 2)
            while len(got) < 12:
                event = await stream.next()
                assert event is not None
                if event.data:
                    params = event.message["params"]
                    got.append(params.get("text") or params["uri"])
                    ids.append(event.id or "")
        assert sorted(got) == sorted([f"res://{n}" if n % 3 else f"all {n}" for n in range(12)])
        for index in (0, 5, 10):
            async with wire.open(on=index % 3, after=ids[index]) as stream:
                rest = [(await stream.message())["params"] for _ in range(11 - index)]
                assert sorted(p.get("text") or p["uri"] for p in rest) == sorted(got[index + 1 :])


async def test_a_later_get_begins_at_the_present(wired: Wired) -> None:
    async with wired() as wire:
        async with wire.open(on=1):
            pass
        await say(wire, "missed", on=0)
        async with wire.open(on=2) as stream:
            await say(wire, "heard", on=0)
            assert await heard(stream) == "heard"


async def test_an_id_of_the_release_before_names_no_broadcast(wired: Wired) -> None:
    """It delivered none, so whoever comes with such an id gets all since its `initialize`."""
    async with wired() as wire:
        async with wire.open(on=1) as stream:
            await wire.do("touch", "res://1", on=0)
            await stream.method(UPDATED)
        old = stream.last_id
        assert old is not None
        assert old.startswith("1.-.")
        await say(wire, "one", on=0)
        await say(wire, "two", on=1)
        async with wire.open(on=2, after=old) as stream:
            assert [await heard(stream) for _ in range(2)] == ["one", "two"]
            assert (stream.last_id or "").startswith("2.-.")


async def test_the_stream_of_a_request_hears_nothing(wired: Wired) -> None:
    async with wired() as wire, wire.calling("count", "3", on=0) as stream:
        await say(wire, "to all", on=1)
        for event in await stream.rest():
            assert SAID not in event.data
            assert event.id is None or event.id.startswith("1.")


@pytest.mark.guarantee("G4")
async def test_a_gap_is_told_and_what_is_kept_follows(wired: Wired) -> None:
    async with wired() as wire:
        await say(wire, "first")
        async with wire.open(on=1) as stream:
            assert await heard(stream) == "first"
        log = wire.fleet.replicas[0].store.broadcasts
        for number in range(1_100):  # more than any store keeps
            await log.append(said(number), key=AppendKey("w", number + 1))
        async with wire.open(on=2, after=stream.last_id) as stream:
            told = await stream.method(LOST)
            data = told["params"]["data"]
            assert (data["event"], data["reason"]) == ("events-lost", "trimmed")
            for kind in ("tools", "prompts", "resources"):
                await stream.method(f"notifications/{kind}/list_changed")
            first = await heard(stream)
            assert isinstance(first, int)
            rest = [await heard(stream) for _ in range(1_099 - first)]
            assert rest == list(range(first + 1, 1_100))


async def test_a_place_of_a_lost_log_is_a_gap_not_a_refusal(wired: Wired) -> None:
    async with wired() as wire:
        await say(wire, "first")
        async with wire.open(on=1) as stream:
            assert await heard(stream) == "first"
        assert stream.last_id is not None
        version, name, epoch, offset, _, place = stream.last_id.split(".")
        foreign = f"{version}.{name}.{epoch}.{offset}.another.{place}"
        async with wire.open(on=2, after=foreign) as stream:
            assert stream.status == 200
            assert (await stream.method(LOST))["params"]["data"]["reason"] == "epoch"


async def test_nobody_hears_what_was_said_before_its_session(start: Start) -> None:
    """An id whose broadcast part was set back is worth no more than one that was not."""
    async with start() as fleet, fleet.client() as client:
        early, late = Wire(fleet, client), Wire(fleet, client)
        await early.initialize(on=0)
        await say(early, "before", on=0)
        await late.initialize(on=1)
        async with late.open(on=0) as stream:
            await say(early, "after", on=0)
            assert await heard(stream) == "after"
        assert stream.last_id is not None
        *head, _ = stream.last_id.split(".")
        async with late.open(on=2, after=".".join([*head, "0"])) as stream:
            assert await heard(stream) == "after"


async def test_a_replica_that_missed_the_announcement_heals(wired: Wired) -> None:
    """As if the hint had been lost on its way: the replica compares tops, once for all of its readers."""
    async with wired() as wire, wire.open(on=1) as stream:
        wire.fleet.replicas[1].store.lose_hints()
        await say(wire, "missed", on=0)
        await say(wire, "missed too", on=2)
        assert (await broadcasts(wire, 1).top()).offset == 2
        assert [await heard(stream) for _ in range(2)] == ["missed", "missed too"]


async def test_big_messages_arrive_though_no_announcement_holds_them(wired: Wired) -> None:
    big = "x" * 100_000
    async with wired() as wire, wire.open(on=1) as stream:
        await say(wire, big, on=0)
        await say(wire, "small", on=2)
        assert [await heard(stream) for _ in range(2)] == [big, "small"]


@pytest.mark.guarantee("G15")
async def test_one_broadcast_is_read_once_by_a_process_with_many_readers(start: Start) -> None:
    """Whatever the number of its clients: the store does not notice them."""
    async with start(count=2) as fleet, fleet.client() as client, AsyncExitStack() as stack:
        wires = [Wire(fleet, client) for _ in range(20)]
        streams: list[Stream] = []
        for wire in wires:
            await wire.initialize(on=0)
            streams.append(await stack.enter_async_context(wire.open(on=1)))
        await say(wires[0], "small", on=0)
        for stream in streams:  # then each has had its first look at its own log
            await heard(stream)
        for store in (fleet.replicas[0].store, fleet.replicas[1].store):
            store.calls.clear()
        await say(wires[0], "x" * 10_000, on=0)  # too big for an announcement
        for stream in streams:
            await heard(stream)
        calls = [*fleet.replicas[0].store.calls, *fleet.replicas[1].store.calls]
        assert calls.count("broadcasts.append") == 1
        assert calls.count("broadcasts.read") <= 2
        assert "log.read" not in calls
        assert "log.append" not in calls


@pytest.mark.parametrize("clients", [40])
async def test_broadcasts_from_all_sides_at_once_lose_nothing(start: Start, clients: int) -> None:
    async with start() as fleet, fleet.client() as client, AsyncExitStack() as stack:
        wires = [Wire(fleet, client) for _ in range(clients)]
        streams: list[Stream] = []
        for number, wire in enumerate(wires):
            await wire.initialize(on=number % 3)
            streams.append(await stack.enter_async_context(wire.open(on=number % 3)))
        async with anyio.create_task_group() as tasks:
            for number in range(30):
                tasks.start_soon(partial(say, wires[0], number, on=number % 3))
        orders = [[await heard(stream) for _ in range(30)] for stream in streams]
        assert sorted(map(str, orders[0])) == sorted(map(str, range(30)))
        assert all(order == orders[0] for order in orders)

"""Any request of a session is served by any replica."""

import itertools
from typing import Any

import anyio
import pytest

from tests.flows.apps import Framework, Stage
from tests.flows.conftest import Start, Wired
from tests.flows.wire import Wire, call, payload, said


async def test_a_session_opened_on_one_replica_is_served_by_all(wired: Wired, framework: Framework) -> None:
    async with wired(framework) as wire:
        assert [await wire.do("echo", "x", on=n) for n in (0, 1, 2)] == ["0:x", "1:x", "2:x"]


async def test_requests_without_a_choice_go_round(wired: Wired) -> None:
    async with wired() as wire:
        wire.fleet.log.clear()
        for _ in range(6):
            await wire.do("echo", "x")
        assert all(one.replica != next_one.replica for one, next_one in itertools.pairwise(wire.fleet.log))


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_what_was_negotiated_is_known_on_every_replica(
    wired: Wired, framework: Framework, version: str
) -> None:
    async with wired(framework, version=version) as wire:
        assert wire.initialized["protocolVersion"] == version
        assert [await wire.do("client", on=n) for n in (0, 1, 2)] == [f"wire:{version}"] * 3


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
async def test_a_stream_is_primed_only_for_clients_that_understand_it(wired: Wired, version: str) -> None:
    async with wired(version=version) as wire, wire.calling("count", "2", on=1) as stream:
        events = await stream.rest()
    assert [event.message["params"]["progress"] for event in events if "progress" in event.data] == [1, 2]
    assert all(event.id for event in events)
    if version >= "2025-11-25":
        assert events[0].data == ""
        assert events[0].retry == 1000
    else:
        assert all(event.data for event in events)


async def test_a_client_without_the_version_header_is_served(wired: Wired) -> None:
    """Clients of 2024-11-05 and 2025-03-26 do not send it."""
    async with wired(version="2025-03-26") as wire:
        answer = await wire.request("ping", on=1, version=None)
        assert answer["result"] == {}


async def test_progress_arrives_in_order(wired: Wired, framework: Framework) -> None:
    async with wired(framework) as wire, wire.calling("count", "20", on=2) as stream:
        messages = [event.message for event in await stream.rest() if event.data]
    assert [message["params"]["progress"] for message in messages[:-1]] == list(range(1, 21))
    assert said(messages[-1]) == "2:counted"


async def test_concurrent_requests_keep_their_own_streams(wired: Wired, framework: Framework) -> None:
    async with wired(framework) as wire:
        seen: dict[int, list[dict[str, Any]]] = {}

        async def run(number: int) -> None:
            message = call("count", "5", id=number)
            message["params"]["_meta"]["progressToken"] = number
            async with wire.open(message) as stream:
                seen[number] = [event.message for event in await stream.rest() if event.data]

        async with anyio.create_task_group() as tasks:
            for number in range(12):
                tasks.start_soon(run, number)
    for number, messages in seen.items():
        assert [m["params"]["progressToken"] for m in messages[:-1]] == [number] * 5
        assert messages[-1]["id"] == number


@pytest.mark.filterwarnings("ignore:The logging capability is deprecated")
async def test_the_log_level_is_in_force_on_every_replica(wired: Wired, framework: Framework) -> None:
    async def levels(on: int) -> list[str]:
        async with wire.open(call("chatter"), on=on) as stream:
            messages = [event.message for event in await stream.rest() if event.data]
        return [message["params"]["level"] for message in messages if "params" in message]

    async with wired(framework) as wire:
        assert await levels(1) == ["debug", "info", "warning", "error"]
        assert "result" in await wire.request("logging/setLevel", {"level": "warning"}, on=0)
        assert [await levels(n) for n in (0, 1, 2)] == [["warning", "error"]] * 3
        assert "result" in await wire.request("logging/setLevel", {"level": "error"}, on=2)
        assert [await levels(n) for n in (0, 1, 2)] == [["error"]] * 3
        assert "result" in await wire.request("logging/setLevel", {"level": "debug"}, on=1)
        assert len(await levels(0)) == 4


async def test_a_log_level_that_the_server_refused_changes_nothing(wired: Wired) -> None:
    async with wired() as wire:
        assert "error" in await wire.request("logging/setLevel", {"level": "bogus"}, on=0)
        async with wire.open(call("chatter"), on=1) as stream:
            assert len([event for event in await stream.rest() if event.data]) == 5


async def test_a_failing_tool_answers_on_every_replica(wired: Wired, framework: Framework) -> None:
    async with wired(framework) as wire:
        for n in (0, 1, 2):
            answer = await wire.request("tools/call", call("fail", "broken")["params"], on=n)
            assert answer["result"]["isError"]


async def test_ids_of_requests_keep_their_type(wired: Wired) -> None:
    async with wired() as wire:
        for request_id in (7, "7", "with\nnewline", -1, 2**53):
            assert (await wire.request("ping", id=request_id))["id"] == request_id


async def test_notifications_are_accepted_without_a_body(wired: Wired) -> None:
    async with wired() as wire:
        for method in (
            "notifications/initialized",
            "notifications/roots/list_changed",
            "notifications/unknown",
        ):
            response = await wire.notify(method)
            assert (response.status_code, response.content) == (202, b"")


async def test_sessions_know_nothing_of_each_other(start: Start) -> None:
    async with start() as fleet, fleet.client() as client:
        one, other = Wire(fleet, client), Wire(fleet, client, version="2025-06-18")
        await one.initialize(on=0)
        await other.initialize(on=0)
        assert one.session != other.session
        await one.request("logging/setLevel", {"level": "error"}, on=0)
        async with other.open(call("chatter"), on=0) as stream:
            assert len([event for event in await stream.rest() if event.data]) == 5
        assert await other.do("client") == "wire:2025-06-18"


async def test_a_client_cannot_choose_its_session_id(start: Start) -> None:
    async with start() as fleet, fleet.client() as client:
        wire = Wire(fleet, client)
        wire.session = "mine"
        await wire.initialize()
        assert wire.session != "mine"


async def test_a_handler_goes_on_when_its_client_hangs_up(wired: Wired, stage: Stage) -> None:
    """A disconnect is no cancellation: whoever comes back finds the answer."""
    async with wired() as wire:
        async with wire.calling("report_and_wait", on=0) as stream:
            await stream.method("notifications/progress")
        stage.mark("go")
        stage.mark("end")
        async with wire.open(on=1, after=stream.last_id) as resumed:
            messages = [event.message for event in await resumed.rest() if event.data]
        assert said(messages[-1]) == "0:done"


async def test_a_tool_that_answers_at_once_is_answered_with_json(wired: Wired) -> None:
    async with wired() as wire:
        response = await wire.post(call("echo", "x"))
        assert response.headers["content-type"] == "application/json"
        assert response.headers["mcp-session-id"] == wire.session
        assert said(payload(response)).endswith(":x")

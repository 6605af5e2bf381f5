"""How requests and sessions end: cancelled, deleted, expired; and what is left of them on other replicas."""

from typing import Any

import anyio
import pytest

from holdfast.sessions.types import SessionId
from tests.flows.apps import Framework, Stage
from tests.flows.conftest import Start, Wired
from tests.flows.wire import ServerEvent, Wire, call, said, until

# Cancelling


@pytest.mark.parametrize("cancelled_on", [0, 1])
async def test_a_request_is_cancelled_from_any_replica_and_still_answered(
    wired: Wired, framework: Framework, stage: Stage, cancelled_on: int
) -> None:
    async with wired(framework) as wire, wire.calling("wait", on=0, id="mine") as stream:
        await stage.until("running")
        told = await wire.notify("notifications/cancelled", {"requestId": "mine"}, on=cancelled_on)
        assert told.status_code == 202
        answer = await stream.result()
        assert (answer["id"], answer["error"]["code"]) == ("mine", -32800)
        assert stage.marked("interrupted")


async def test_whoever_resumes_a_cancelled_request_gets_its_answer(wired: Wired, stage: Stage) -> None:
    async with wired() as wire:
        async with wire.calling("wait", on=0, id="mine") as stream:
            await stream.next()
            await stage.until("running")
        await wire.notify("notifications/cancelled", {"requestId": "mine"}, on=1)
        async with wire.open(on=2, after=stream.last_id) as resumed:
            assert (await resumed.result())["error"]["code"] == -32800


async def test_cancelling_distinguishes_a_number_from_a_text(wired: Wired, stage: Stage) -> None:
    async with wired() as wire, wire.calling("wait", on=0, id=7) as stream:
        await stage.until("running")
        for wrong in ("7", 8, 7.5, None, True, [7], {"id": 7}):
            await wire.notify("notifications/cancelled", {"requestId": wrong}, on=1)
        stage.mark("go")
        assert said(await stream.result()) == "0:waited"


async def test_another_session_cannot_cancel(wired: Wired, stage: Stage) -> None:
    async with wired() as wire, wire.calling("wait", on=0, id="mine") as stream:
        await stage.until("running")
        stranger = Wire(wire.fleet, wire.client)
        await stranger.initialize(on=1)
        for n in (0, 1, 2):
            await stranger.notify("notifications/cancelled", {"requestId": "mine"}, on=n)
        stage.mark("go")
        assert said(await stream.result()) == "0:waited"


async def test_cancelling_what_has_ended_changes_nothing(wired: Wired) -> None:
    async with wired() as wire:
        await wire.request("ping", id="done", on=0)
        told = await wire.notify("notifications/cancelled", {"requestId": "done"}, on=1)
        assert told.status_code == 202
        assert await wire.do("echo", "x", on=0) == "0:x"


@pytest.mark.parametrize("options", [{"resumable": "never"}, {"app": {"json_response": True}}])
async def test_requests_without_a_log_are_cancelled_as_well(
    wired: Wired, stage: Stage, options: dict[str, Any]
) -> None:
    async with wired(**options) as wire:
        answers: list[int] = []

        async def run() -> None:
            response = await wire.post(call("wait", id="mine"), on=0)
            answers.append(int(response.text.partition('"code":')[2].partition(",")[0]))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await stage.until("running")
            await wire.notify("notifications/cancelled", {"requestId": "mine"}, on=2)
        assert answers == [-32800]


# Deleting


@pytest.mark.guarantee("G8")
async def test_a_deleted_session_is_unknown_everywhere(wired: Wired, framework: Framework) -> None:
    async with wired(framework) as wire:
        assert await wire.delete(on=1) == 200
        for n in (0, 1, 2):
            assert (await wire.post(call("echo"), on=n)).status_code == 404
            assert await wire.delete(on=n) == 404
            async with wire.open(on=n) as stream:
                assert stream.status == 404


async def test_deleting_closes_streams_and_cancels_requests_on_other_replicas(
    wired: Wired, stage: Stage
) -> None:
    async with (
        wired() as wire,
        wire.open(on=1) as standalone,
        wire.calling("wait", on=0) as stream,
        wire.calling("report_and_wait", on=2) as other,
    ):
        await other.method("notifications/progress")
        await stage.until("running")
        assert await wire.delete(on=1) == 200
        assert [event for event in await standalone.rest() if event.data] == []
        assert (await stream.result())["error"]["data"] == {"reason": "session-ended"}
        assert (await other.result())["error"]["data"] == {"reason": "session-ended"}
        assert stage.marked("interrupted")


async def test_deleting_ends_a_stream_that_was_resumed_elsewhere(wired: Wired, stage: Stage) -> None:
    async with wired() as wire:
        async with wire.calling("wait", on=0) as stream:
            await stream.next()
        async with wire.open(on=1, after=stream.last_id) as resumed:
            assert await wire.delete(on=2) == 200
            await resumed.rest()
        with anyio.fail_after(5):
            await stage.until("interrupted")


@pytest.mark.guarantee("G16")
async def test_deleting_one_session_leaves_the_others(wired: Wired) -> None:
    async with wired() as wire:
        other = Wire(wire.fleet, wire.client)
        await other.initialize(on=1)
        assert await wire.delete() == 200
        assert await other.do("echo", "x", on=2) == "2:x"


async def test_a_late_handler_does_not_bring_a_deleted_session_back(wired: Wired, stage: Stage) -> None:
    async with wired() as wire, wire.open(on=1) as standalone:
        assert await wire.delete(on=1) == 200
        await standalone.rest()
        replica = wire.fleet.replicas[0].attached.replica
        assert replica is not None
        assert wire.session is not None
        from holdfast.errors import SessionGone  # noqa: PLC0415

        with pytest.raises(SessionGone):
            await replica.relay.send_standalone(SessionId(wire.session), b"{}")
        assert (await wire.post(call("echo"))).status_code == 404


# Expiring


@pytest.mark.guarantee("G16")
async def test_an_idle_session_ends(wired: Wired) -> None:
    async with wired(ttl_seconds=1.5) as wire:
        assert await wire.do("echo", "x", on=0) == "0:x"
        replica = wire.fleet.replicas[1].attached.replica
        assert replica is not None

        async def ended() -> bool:
            return wire.session not in await replica.backend.sessions.list()

        await until(ended)
        for n in (0, 1, 2):
            assert (await wire.post(call("echo"), on=n)).status_code == 404


async def test_activity_on_any_replica_keeps_a_session(wired: Wired) -> None:
    async with wired(ttl_seconds=2.0) as wire:
        until = anyio.current_time() + 4.0
        turns = 0
        while anyio.current_time() < until:
            turns += 1
            assert await wire.do("echo", "x", on=turns % 3) == f"{turns % 3}:x"
            await anyio.sleep(0.1)  # the passing of time is what this test is about


# Limits


async def test_max_sessions_counts_over_the_fleet(start: Start, framework: Framework) -> None:
    async with start(framework, max_sessions=2) as fleet, fleet.client() as client:
        wires = [Wire(fleet, client) for _ in range(3)]
        await wires[0].initialize(on=0)
        await wires[1].initialize(on=1)
        message = {
            "jsonrpc": "2.0",
            "id": 1,
            "method": "initialize",
            "params": {
                "protocolVersion": "2025-11-25",
                "capabilities": {},
                "clientInfo": {"name": "x", "version": "1"},
            },
        }
        for n in (0, 1, 2):
            refused = await wires[2].post(message, on=n)
            assert refused.status_code == 503
            assert int(refused.headers["retry-after"]) > 0
            assert "mcp-session-id" not in refused.headers
            assert refused.json()["error"]["message"]
        assert await wires[0].do("echo", "x", on=2) == "2:x"
        await wires[0].delete(on=1)
        await wires[2].initialize(on=0)
        assert await wires[2].do("echo", "x", on=1) == "1:x"


async def test_a_refused_handshake_opens_nothing(start: Start) -> None:
    async with start(max_sessions=1) as fleet, fleet.client() as client:
        wire = Wire(fleet, client)
        broken = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": 7}}
        for _ in range(3):
            response = await wire.post(broken)
            assert response.status_code == 400
            assert "error" in response.json()
            assert "mcp-session-id" not in response.headers
        await wire.initialize()


# Stopping and dying


async def test_a_replica_that_stops_answers_what_it_was_doing(wired: Wired, stage: Stage) -> None:
    async with wired() as wire, wire.calling("wait", on=0, id="mine") as stream:
        await stream.next()
        await stage.until("running")
        events: list[ServerEvent] = []
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wire.fleet.stop, 0)
            events += await stream.rest()
        messages = [event.message for event in events if event.data]
        if not messages:  # it hung up first: the answer is in the log
            async with wire.open(on=1, after=stream.last_id) as resumed:
                messages = [await resumed.result()]
        assert messages[-1]["id"] == "mine"
        assert messages[-1]["error"]["data"] == {"reason": "shutting-down", "retryable": True}
        assert await wire.do("echo", "x", on=1) == "1:x"


@pytest.mark.guarantee("G8")
async def test_the_session_outlives_every_replica(wired: Wired, stage: Stage) -> None:
    """A rolling restart: one after the other is replaced, and the client notices nothing."""
    async with wired() as wire:
        for old in (0, 1, 2):
            await wire.fleet.add()
            await wire.fleet.stop(old)
            assert (await wire.do("echo", "x")).endswith(":x")
        assert await wire.do("echo", "x", on=5) == "5:x"


async def test_a_killed_replica_takes_nothing_with_it_but_its_requests(wired: Wired) -> None:
    async with wired() as wire:
        await wire.fleet.kill(0)
        assert await wire.do("echo", "x", on=1) == "1:x"
        assert await wire.do("client", on=2) == "wire:2025-11-25"


@pytest.mark.guarantee("G7")
async def test_whoever_resumes_a_dead_replicas_stream_is_told(wired: Wired) -> None:
    """Its heartbeat must run out first, which takes some seconds."""
    async with wired() as wire:
        async with wire.calling("report_and_wait", on=0, id="mine") as stream:
            await stream.method("notifications/progress")
            await wire.fleet.kill(0)
        async with (
            wire.open(on=1, after=stream.last_id) as resumed,
            wire.open(on=2, after=stream.last_id) as other,
        ):
            with anyio.fail_after(20):
                answers = [await each.result() for each in (resumed, other)]
        assert answers[0] == answers[1]
        assert answers[0]["id"] == "mine"
        assert answers[0]["error"]["data"] == {"reason": "replica-died", "retryable": True}
        async with wire.open(on=1, after=stream.last_id) as again:
            assert await again.result() == answers[0]

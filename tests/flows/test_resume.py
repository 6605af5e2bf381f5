"""A stream that was cut off goes on, on any replica, while its handler runs elsewhere."""

import json

import pytest

from holdfast.sessions.event_id import decode_event_id
from holdfast.sessions.types import STANDALONE, SessionId
from tests.flows.apps import Framework, Stage
from tests.flows.conftest import Wired
from tests.flows.wire import call, said


@pytest.mark.guarantee("G7")
async def test_a_running_request_is_resumed_on_another_replica(
    wired: Wired, framework: Framework, stage: Stage
) -> None:
    async with wired(framework) as wire:
        async with wire.calling("report_and_wait", on=0) as stream:
            await stream.method("notifications/progress")
        async with wire.open(on=1, after=stream.last_id) as resumed:
            assert resumed.status == 200
            stage.mark("go")
            second = await resumed.method("notifications/progress")
            assert second["params"]["progress"] == 2
            stage.mark("end")
            third = await resumed.method("notifications/progress")
            assert third["params"]["progress"] == 3
            assert said(await resumed.result()) == "0:done"


@pytest.mark.guarantee("G6")
async def test_a_stream_goes_from_replica_to_replica_without_gap_or_duplicate(
    wired: Wired, stage: Stage
) -> None:
    async with wired() as wire:
        got: list[int] = []
        async with wire.calling("report_and_wait", on=0) as stream:
            got.append((await stream.method("notifications/progress"))["params"]["progress"])
        stage.mark("go")
        async with wire.open(on=1, after=stream.last_id) as stream:
            got.append((await stream.method("notifications/progress"))["params"]["progress"])
        stage.mark("end")
        async with wire.open(on=2, after=stream.last_id) as stream:
            got.append((await stream.method("notifications/progress"))["params"]["progress"])
        async with wire.open(on=1, after=stream.last_id) as stream:
            assert said(await stream.result()) == "0:done"
        assert got == [1, 2, 3]


async def test_a_finished_request_is_replayed_and_its_stream_ends(wired: Wired, framework: Framework) -> None:
    async with wired(framework) as wire:
        async with wire.calling("count", "3", on=0) as stream:
            events = await stream.rest()
        for n in (0, 1, 2):
            for index, event in enumerate(events[:-1]):
                async with wire.open(on=n, after=event.id) as resumed:
                    again = [each for each in await resumed.rest() if each.data]
                assert [each.id for each in again] == [each.id for each in events[index + 1 :]]
                assert [each.data for each in again] == [each.data for each in events[index + 1 :]]


async def test_the_end_of_a_finished_stream_can_be_asked_for_again(wired: Wired) -> None:
    """A client that has it all and asks still gets a stream that ends, not one that hangs."""
    async with wired() as wire:
        async with wire.calling("count", "1", on=0) as stream:
            events = await stream.rest()
        for n in (0, 1):
            async with wire.open(on=n, after=events[-1].id) as resumed:
                assert resumed.status == 200
                rest = [event for event in await resumed.rest() if event.data]
            assert [event.id for event in rest if event.id] == []


async def test_a_request_can_be_resumed_from_its_priming_event(wired: Wired, stage: Stage) -> None:
    async with wired() as wire:
        async with wire.calling("wait", on=0) as stream:
            priming = await stream.next()
            assert priming is not None
            assert (priming.data, priming.retry) == ("", 1000)
        stage.mark("go")
        async with wire.open(on=2, after=priming.id) as resumed:
            assert said(await resumed.result()) == "0:waited"


async def test_a_handler_can_hang_up_and_the_client_comes_back_elsewhere(
    wired: Wired, framework: Framework, stage: Stage
) -> None:
    async with wired(framework) as wire:
        async with wire.calling("hang_up_and_wait", on=0) as stream:
            events = await stream.rest()  # ends by itself
        assert events[0].id is not None
        assert all("result" not in event.data for event in events)
        await stage.until("hung up")
        async with wire.open(on=1, after=events[-1].id or events[0].id) as resumed:
            stage.mark("go")
            messages = [event.message for event in await resumed.rest() if event.data]
        seen = [e.message["params"]["progress"] for e in events if e.data] + [
            m["params"]["progress"] for m in messages[:-1]
        ]
        assert seen == [1, 2]
        assert said(messages[-1]) == "0:done"


async def test_a_handler_can_hang_up_on_a_stream_that_was_resumed_elsewhere(
    wired: Wired, stage: Stage
) -> None:
    async with wired() as wire:
        async with wire.calling("report_and_wait", on=0) as stream:
            await stream.method("notifications/progress")
        async with wire.open(on=1, after=stream.last_id) as resumed:
            replica = wire.fleet.replicas[2].attached.replica
            assert replica is not None
            assert wire.session is not None
            stream_id, *_ = decode_event_id(stream.last_id or "")
            await replica.close_stream(SessionId(wire.session), stream_id)
            assert [event for event in await resumed.rest() if event.data] == []
        stage.mark("go")
        stage.mark("end")
        async with wire.open(on=2, after=stream.last_id) as again:
            messages = [event.message for event in await again.rest() if event.data]
        assert said(messages[-1]) == "0:done"


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18"])
async def test_older_clients_keep_their_stream_when_the_handler_hangs_up(
    wired: Wired, version: str, stage: Stage
) -> None:
    """They would not come back."""
    async with wired(version=version) as wire, wire.calling("hang_up_and_wait", on=0) as stream:
        assert (await stream.method("notifications/progress"))["params"]["progress"] == 1
        stage.mark("go")
        assert (await stream.method("notifications/progress"))["params"]["progress"] == 2
        assert said(await stream.result()) == "0:done"


async def test_two_clients_may_read_one_stream(wired: Wired, stage: Stage) -> None:
    """A client that believes it was cut off may be wrong: both get everything."""
    async with wired() as wire, wire.calling("report_and_wait", on=0) as stream:
        await stream.method("notifications/progress")
        async with wire.open(on=1, after=stream.last_id) as other:
            stage.mark("go")
            stage.mark("end")
            for each in (stream, other):
                progress = [(await each.method("notifications/progress"))["params"]["progress"] for _ in "ab"]
                assert progress == [2, 3]
                assert said(await each.result()) == "0:done"


async def test_ids_of_one_stream_grow_and_are_never_used_twice(wired: Wired) -> None:
    async with wired() as wire:
        ids: list[str] = []
        for n in (0, 1, 2):
            async with wire.calling("count", "3", on=n) as stream:
                ids += [event.id for event in await stream.rest() if event.id]
        assert len(set(ids)) == len(ids)


# Which requests become streams


async def test_auto_makes_a_stream_of_what_takes_long(wired: Wired, stage: Stage) -> None:
    async with (
        wired(resumable="auto", stream_after_seconds=0.05) as wire,
        wire.calling("wait", on=0, progress=False) as stream,
    ):
        priming = await stream.next()
        assert priming is not None
        assert priming.id
        stage.mark("go")
        assert said(await stream.result()) == "0:waited"


async def test_auto_answers_with_json_what_is_quick(wired: Wired, framework: Framework) -> None:
    async with wired(framework, resumable="auto", stream_after_seconds=30) as wire:
        response = await wire.post(call("echo", "x"))
        assert response.headers["content-type"] == "application/json"


async def test_always_makes_a_stream_of_everything(wired: Wired, framework: Framework) -> None:
    async with wired(framework, resumable="always") as wire:
        async with wire.calling("echo", "x", on=0) as stream:
            events = await stream.rest()
        assert len(events) == 2
        async with wire.open(on=1, after=events[0].id) as resumed:
            assert said(await resumed.result()) == "0:x"


async def test_never_sends_no_ids_and_stores_nothing(wired: Wired, framework: Framework) -> None:
    async with wired(framework, resumable="never") as wire:
        for replica in wire.fleet.replicas:
            replica.store.calls.clear()
        async with wire.calling("count", "3", on=0) as stream:
            events = await stream.rest()
        assert [event.id for event in events] == [None] * 4
        assert said(events[-1].message) == "0:counted"
        assert "log.append" not in wire.fleet.replicas[0].store.calls


async def test_never_still_answers_questions_on_any_replica(wired: Wired) -> None:
    async with wired(resumable="never") as wire, wire.calling("elicit", "name?", on=0) as stream:
        question = await stream.method("elicitation/create")
        await wire.answer(question, {"action": "accept", "content": {"name": "bob"}}, on=1)
        assert said(await stream.result()) == "0:accept:bob"


async def test_never_does_not_hold_up_a_handler_whose_client_went(wired: Wired, stage: Stage) -> None:
    async with wired(resumable="never") as wire:
        async with wire.calling("report_and_wait", on=0) as stream:
            await stream.method("notifications/progress")
        stage.mark("go")
        stage.mark("end")
        assert await wire.do("echo", "x", on=0) == "0:x"


@pytest.mark.parametrize("version", ["2025-06-18", "2025-11-25"])
async def test_json_response_answers_with_json_only(wired: Wired, framework: Framework, version: str) -> None:
    async with wired(framework, version=version, app={"json_response": True}) as wire:
        for action, text in (("echo", "x"), ("count", "3")):
            response = await wire.post(call(action, text))
            assert response.headers["content-type"] == "application/json"
        response = await wire.post(call("echo", "x"), accept="application/json")
        assert response.status_code == 200


async def test_json_response_refuses_questions_instead_of_hanging(wired: Wired) -> None:
    async with wired(app={"json_response": True}) as wire:
        answer = await wire.request("tools/call", call("elicit", "name?")["params"], on=0)
        assert "error" in answer


async def test_the_default_answers_quick_calls_without_an_append(wired: Wired) -> None:
    async with wired() as wire:
        for replica in wire.fleet.replicas:
            replica.store.calls.clear()
        await wire.do("echo", "x", on=1)
        assert wire.fleet.replicas[1].store.calls == ["sessions.find"]


async def test_retry_is_what_was_chosen(wired: Wired) -> None:
    async with wired(retry_milliseconds=77) as wire, wire.calling("count", "1") as stream:
        assert (await stream.rest())[0].retry == 77


async def test_a_silent_stream_is_kept_alive_by_comments(wired: Wired, stage: Stage) -> None:
    async with (
        wired(keepalive_seconds=0.05) as wire,
        wire.calling("wait", on=0) as stream,
        wire.open(on=1) as standalone,
    ):
        for each in (stream, standalone):
            comments = 0
            while comments < 3:
                event = await each.next()
                assert event is not None
                comments += event.comment is not None
        async with wire.open(on=2, after=stream.last_id) as resumed:
            event = await resumed.next()
            while event is not None and event.comment is None:
                event = await resumed.next()
            assert event is not None
        stage.mark("go")


async def test_a_stream_with_many_events_is_replayed_whole(wired: Wired) -> None:
    """More than one page of the log."""
    async with wired() as wire:
        async with wire.calling("count", "700", on=0) as stream:
            events = await stream.rest()
        async with wire.open(on=1, after=events[0].id) as resumed:
            again = [event for event in await resumed.rest() if event.data]
        assert [event.id for event in again] == [event.id for event in events if event.data]


@pytest.mark.guarantee("G4")
async def test_what_was_trimmed_is_said(wired: Wired) -> None:
    """Complete or told: a client whose events are gone hears so, and still gets the answer."""
    async with wired() as wire:
        async with wire.calling("count", "1500", on=0) as stream:
            priming = await stream.next()
            assert priming is not None
            await stream.rest()
        async with wire.open(on=1, after=priming.id) as resumed:
            messages = [event.message for event in await resumed.rest() if event.data]
        assert messages[0]["method"] == "notifications/message"
        assert messages[0]["params"]["data"]["event"] == "events-lost"
        assert said(messages[-1]) == "0:counted"


@pytest.mark.guarantee("G4")
async def test_the_head_of_an_answer_says_behind_which_event_it_goes_on(wired: Wired) -> None:
    """So a client knows before the first event whether it gets all that it missed."""
    async with wired() as wire:
        async with wire.open(on=0) as standalone:
            priming = await standalone.next()
            assert priming is not None
            assert standalone.headers["mcp-resume-from"] == priming.id
        async with wire.calling("count", "5", on=0) as stream:
            await stream.next()
            step = await stream.next()
            assert step is not None
            assert "mcp-resume-from" not in stream.headers
        async with wire.open(on=1, after=step.id) as resumed:
            assert resumed.headers["mcp-resume-from"] == step.id
        async with wire.calling("count", "1500", on=1) as stream:
            priming = await stream.next()
            assert priming is not None
            await stream.rest()
        async with wire.open(on=2, after=priming.id) as resumed:
            assert resumed.headers["mcp-resume-from"] == "earliest"
            told = await resumed.message()
            assert told["params"]["data"]["requested"] == priming.id
            again = told["params"]["data"]["complete_again_after"]
        async with wire.open(on=0, after=again) as resumed:
            assert resumed.headers["mcp-resume-from"] == again


@pytest.mark.guarantee("G4")
async def test_whoever_missed_something_is_told_to_look_at_what_it_subscribed_to(wired: Wired) -> None:
    async with wired() as wire:
        for uri in ("res://one", "res://two"):
            await wire.request("resources/subscribe", {"uri": uri})
        async with wire.open(on=0) as standalone:
            priming = await standalone.next()
            assert priming is not None
        assert wire.session is not None
        session, log = SessionId(wire.session), wire.fleet.replicas[0].store.log
        for _ in range(1_100):  # more than any store keeps
            await log.append(session, STANDALONE, b'{"jsonrpc":"2.0","method":"notifications/flood"}')
        async with wire.open(on=1, after=priming.id) as resumed:
            assert (await resumed.message())["params"]["data"]["event"] == "events-lost"
            told = [await resumed.message() for _ in range(5)]
        assert [message["method"] for message in told[:3]] == [
            f"notifications/{kind}/list_changed" for kind in ("tools", "prompts", "resources")
        ]
        assert sorted(message["params"]["uri"] for message in told[3:]) == ["res://one", "res://two"]


async def test_a_question_that_a_gap_would_hide_is_asked_again(wired: Wired, stage: Stage) -> None:
    """It still waits, and is stored: the client gets it with what tells it of the gap."""
    question = {"jsonrpc": "2.0", "id": "q", "method": "elicitation/create", "params": {"message": "?"}}
    async with wired() as wire:
        async with wire.calling("report_and_wait", on=0) as stream:
            await stream.method("notifications/progress")
        assert wire.session is not None
        session, log = SessionId(wire.session), wire.fleet.replicas[0].store.log
        stream_id, *_ = decode_event_id(stream.last_id or "")
        await log.append(session, stream_id, json.dumps(question).encode(), expects="q")
        for _ in range(1_100):  # more than any store keeps
            await log.append(session, stream_id, b'{"jsonrpc":"2.0","method":"notifications/flood"}')
        async with wire.open(on=1, after=stream.last_id) as resumed:
            told = await resumed.method("notifications/message")
            assert told["params"]["data"]["event"] == "events-lost"
            assert await resumed.message() == question
            await resumed.method("notifications/flood")
        stage.mark("go")
        stage.mark("end")

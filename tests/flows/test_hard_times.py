"""What goes wrong at the worst moment, and what is promised all the same."""

import anyio
import pytest

from holdfast.errors import StoreUnavailable
from holdfast.sessions.types import SessionId
from tests.flows.apps import Stage
from tests.flows.conftest import Wired
from tests.flows.wire import said, until


async def test_an_answer_that_could_not_be_stored_is_stored_when_the_store_is_back(
    wired: Wired, stage: Stage
) -> None:
    """Nobody was connected when it was given: whoever resumes must get it, and not wait for ever."""
    async with wired() as wire:
        async with wire.calling("report_and_wait", on=0) as stream:
            await stream.method("notifications/progress")
        store = wire.fleet.replicas[0].store
        stage.mark("go")
        async with wire.open(on=1, after=stream.last_id) as resumed:
            await resumed.method("notifications/progress")
            store.fail("log.*")
            store.calls.clear()
            stage.mark("end")
            await until(lambda: "log.append" in store.calls)
        store.heal()
        async with wire.open(on=2, after=resumed.last_id) as again:
            messages = [event.message for event in await again.rest() if event.data]
        assert "result" in messages[-1] or "error" in messages[-1]


async def test_what_another_replica_wrote_arrives_even_if_nobody_can_say_whether_that_lives(
    wired: Wired, stage: Stage
) -> None:
    """In a cluster, the heartbeats are on one master, and the session on another."""
    async with wired() as wire, wire.calling("report_and_wait", on=0) as stream:
        first = await stream.next()
        assert first is not None
        wire.fleet.replicas[1].store.fail("replicas.alive")
        async with wire.open(on=1, after=first.id) as resumed:
            await resumed.method("notifications/progress")
            wire.fleet.replicas[1].store.heal()
            stage.mark("go")
            await resumed.method("notifications/progress")
            stage.mark("end")
            await resumed.method("notifications/progress")
            assert "result" in await resumed.result()


async def test_a_quiet_stream_keeps_a_short_lived_session_alive(wired: Wired) -> None:
    async with wired(ttl_seconds=2.0) as wire, wire.open(on=1) as standalone:
        await anyio.sleep(4.0)  # the passing of time is what this test is about
        assert await wire.do("announce", on=0) == "announced"
        await standalone.method("notifications/tools/list_changed")


async def test_a_running_request_keeps_a_short_lived_session_alive(wired: Wired, stage: Stage) -> None:
    async with wired(ttl_seconds=2.0) as wire, wire.calling("wait", on=0) as stream:
        await anyio.sleep(4.0)  # the passing of time is what this test is about
        stage.mark("go")
        assert said(await stream.result()) == "0:waited"
        assert await wire.do("echo", "x", on=1) == "1:x"


async def test_a_store_that_fails_while_a_stream_is_left_harms_nobody(wired: Wired) -> None:
    async with wired() as wire:
        async with wire.open(on=1) as standalone:
            await standalone.next()
            wire.fleet.replicas[1].store.fail()
        wire.fleet.replicas[1].store.heal()
        assert await wire.do("echo", "x", on=1) == "1:x"


@pytest.fixture
def quick_deaths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is silent for a second is dead: the real bound is tested in test_ending.py."""
    monkeypatch.setattr("holdfast.sessions.replica.HEARTBEAT_SECONDS", 0.3)
    monkeypatch.setattr("holdfast.sessions.pulse.HEARTBEAT_SECONDS", 0.3)
    monkeypatch.setattr("holdfast.sessions.pulse.DEAD_AFTER_SECONDS", 1.0)
    monkeypatch.setattr("holdfast.sessions.pulse.SEEN_AGAIN_SECONDS", 0.0)


@pytest.mark.usefixtures("quick_deaths")
@pytest.mark.parametrize("request_id", [7, "7", 2**53 + 1, 'quo"te\\'], ids=repr)
async def test_the_error_for_a_dead_replicas_request_has_its_very_id(
    wired: Wired, request_id: int | str
) -> None:
    async with wired() as wire:
        async with wire.calling("report_and_wait", on=0, id=request_id) as stream:
            await stream.method("notifications/progress")
            await wire.fleet.kill(0)
        async with wire.open(on=1, after=stream.last_id) as resumed:
            answer = await resumed.result()
        assert answer["error"]["data"]["reason"] == "replica-died"
        assert answer["id"] == request_id
        assert type(answer["id"]) is type(request_id)


@pytest.mark.usefixtures("quick_deaths")
async def test_a_replica_taken_for_dead_by_mistake_does_not_answer_twice(wired: Wired, stage: Stage) -> None:
    """It was only slow: the answer that others gave stands, also for the client that stayed with it."""
    async with wired() as wire, wire.calling("report_and_wait", on=0) as stream:
        await stream.method("notifications/progress")
        wire.fleet.replicas[0].store.fail("replicas.beat")
        async with wire.open(on=1, after=stream.last_id) as resumed:
            told = await resumed.result()
        assert told["error"]["data"]["reason"] == "replica-died"
        stage.mark("go")
        stage.mark("end")
        assert await stream.result() == told
        async with wire.open(on=2, after=stream.last_id) as again:
            assert [event for event in await again.rest() if event.data] == []


@pytest.mark.usefixtures("quick_deaths")
async def test_what_a_dead_replica_asked_is_withdrawn(wired: Wired) -> None:
    async with wired() as wire:
        async with wire.calling("elicit", "name?", on=0) as stream:
            question = await stream.method("elicitation/create")
            await wire.fleet.kill(0)
        async with wire.open(on=1, after=stream.last_id) as resumed:
            told = await resumed.method("notifications/cancelled")
            answer = await resumed.result()
        assert told["params"]["requestId"] == question["id"]
        assert answer["error"]["data"]["reason"] == "replica-died"
        assert not await wire.fleet.replicas[1].store.inbox.put(
            SessionId(str(wire.session)), question["id"], b"{}"
        )
        assert await wire.answer(question, {"action": "accept", "content": {"name": "bob"}}, on=2) == 202


@pytest.mark.usefixtures("quick_deaths")
async def test_a_handler_whose_replica_was_taken_for_dead_does_not_wait_on(
    wired: Wired, stage: Stage
) -> None:
    async with wired() as wire, wire.calling("report_and_wait", on=0) as stream:
        await stream.method("notifications/progress")
        wire.fleet.replicas[0].store.fail("replicas.beat")
        async with wire.open(on=1, after=stream.last_id) as resumed:
            told = await resumed.result()
        assert await stream.result() == told
        attached = wire.fleet.replicas[0].attached
        assert attached.replica is not None
        running = attached.replica.running
        await until(lambda: not running)
        assert not stage.marked("go")


async def test_the_clients_progress_on_a_question_reaches_the_handler(wired: Wired) -> None:
    async with wired() as wire, wire.calling("elicit_with_progress", "name?", on=0) as stream:
        question = await stream.method("elicitation/create")
        token = question["params"]["_meta"]["progressToken"]
        for n in (1, 2):
            await wire.notify("notifications/progress", {"progressToken": token, "progress": n}, on=n)
            heard = await stream.method("notifications/progress")
            assert heard["params"]["progress"] == n
        await wire.answer(question, {"action": "accept", "content": {"name": "bob"}}, on=1)
        assert said(await stream.result()) == "0:accept"


async def test_an_emission_that_finds_the_store_away_is_stored_in_its_turn(
    wired: Wired, stage: Stage
) -> None:
    async with wired() as wire, wire.calling("report_and_wait", on=0) as stream:
        await stream.method("notifications/progress")
        heard, store = stream.last_id, wire.fleet.replicas[0].store
        store.fail("log.append", error=StoreUnavailable)
        store.calls.clear()
        stage.mark("go")
        await until(lambda: "log.append" in store.calls)
        store.heal()
        assert (await stream.method("notifications/progress"))["params"]["progress"] == 2
        stage.mark("end")
        assert (await stream.method("notifications/progress"))["params"]["progress"] == 3
        assert said(await stream.result()) == "0:done"
        async with wire.open(on=1, after=heard) as again:
            messages = [event.message for event in await again.rest() if event.data]
        assert [m["params"]["progress"] for m in messages if "method" in m] == [2, 3]
        assert said(messages[-1]) == "0:done"


async def test_a_notification_whose_reply_was_lost_is_delivered_all_the_same(wired: Wired) -> None:
    """Once, and without waiting for the next one; the reader is on the very replica that appended it."""
    async with wired() as wire, wire.open(on=0) as standalone:
        await standalone.next()
        store = wire.fleet.replicas[0].store
        store.fail("log.append", carried_out=True)
        await wire.do("touch", "res://1", on=0)
        store.heal()
        message = await standalone.method("notifications/resources/updated")
        assert message["params"]["uri"] == "res://1"
        await wire.do("touch", "res://2", on=0)
        message = await standalone.method("notifications/resources/updated")
        assert message["params"]["uri"] == "res://2"


async def test_an_answer_whose_reply_was_lost_is_given_once(wired: Wired, stage: Stage) -> None:
    async with wired() as wire, wire.calling("report_and_wait", on=0) as stream:
        await stream.method("notifications/progress")
        stage.mark("go")
        await stream.method("notifications/progress")
        async with wire.open(on=1, after=stream.last_id) as resumed:
            store = wire.fleet.replicas[0].store
            store.calls.clear()
            store.fail("log.append", carried_out=True)
            stage.mark("end")
            await until(lambda: "log.append" in store.calls)
            store.heal()
            messages = [event.message for event in await resumed.rest() if event.data]
        assert [m["params"]["progress"] for m in messages if "method" in m] == [3]
        assert [message for message in messages if "method" not in message] == messages[-1:]


async def test_without_a_log_a_question_to_a_client_that_went_fails_at_once(
    wired: Wired, stage: Stage
) -> None:
    async with wired(resumable="never") as wire:
        async with wire.calling("report_wait_and_elicit", on=0) as stream:
            await stream.method("notifications/progress")
        await anyio.wait_all_tasks_blocked()  # it was noticed that the client went
        stage.mark("go")
        await stage.until("refused")

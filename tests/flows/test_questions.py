"""Requests of the server to the client: asked by one replica, answered on another."""

from collections.abc import Callable
from typing import Any, Final, TypeAlias

import anyio
import pytest

from tests.flows.apps import Framework, Stage
from tests.flows.conftest import Wired
from tests.flows.wire import Stream, Wire, call, said

ACCEPTED = {"action": "accept", "content": {"name": "bob"}}


async def test_an_elicitation_is_answered_on_another_replica(wired: Wired, framework: Framework) -> None:
    async with wired(framework) as wire, wire.calling("elicit", "name?", on=0) as stream:
        question = await stream.method("elicitation/create")
        assert question["params"]["message"] == "name?"
        assert await wire.answer(question, ACCEPTED, on=1) == 202
        assert said(await stream.result()) == "0:accept:bob"


async def test_sampling_is_answered_on_another_replica(wired: Wired, framework: Framework) -> None:
    async with wired(framework) as wire, wire.calling("sample", "hello", on=1) as stream:
        question = await stream.method("sampling/createMessage")
        result = {"role": "assistant", "content": {"type": "text", "text": "hi"}, "model": "m"}
        assert await wire.answer(question, result, on=2) == 202
        assert said(await stream.result()) == "1:hi"


async def test_roots_are_listed_on_another_replica(wired: Wired, framework: Framework) -> None:
    async with wired(framework) as wire, wire.calling("roots", on=2) as stream:
        question = await stream.method("roots/list")
        assert await wire.answer(question, {"roots": [{"uri": "file:///a"}]}, on=0) == 202
        assert said(await stream.result()) == "2:file:///a"


async def test_a_question_on_the_standalone_stream_reaches_it_on_any_replica(
    wired: Wired, framework: Framework
) -> None:
    """Handler, standalone stream and answer: three replicas."""
    async with (
        wired(framework) as wire,
        wire.open(on=1) as standalone,
        wire.calling("elicit_on_standalone", "name?", on=0) as stream,
    ):
        question = await standalone.method("elicitation/create")
        assert await wire.answer(question, ACCEPTED, on=2) == 202
        assert said(await stream.result()) == "0:accept:bob"


async def test_a_question_waits_for_the_standalone_stream_to_be_opened(wired: Wired) -> None:
    async with wired() as wire, wire.calling("elicit_on_standalone", "name?", on=0) as stream:
        async with wire.open(on=1) as standalone:
            question = await standalone.method("elicitation/create")
        assert await wire.answer(question, ACCEPTED, on=2) == 202
        assert said(await stream.result()) == "0:accept:bob"


async def test_a_refusal_of_the_client_reaches_the_tool(wired: Wired) -> None:
    async with wired() as wire, wire.calling("elicit", "name?", on=0) as stream:
        question = await stream.method("elicitation/create")
        error = {"code": -1, "message": "I would rather not"}
        response = await wire.post({"jsonrpc": "2.0", "id": question["id"], "error": error}, on=1)
        assert response.status_code == 202
        answer = await stream.result()
        assert "I would rather not" in str(answer)


async def test_many_questions_at_once_get_their_own_answers(wired: Wired) -> None:
    async with wired() as wire:
        heard: list[str] = []

        async def ask(number: int) -> None:
            async with wire.calling("elicit", str(number)) as stream:
                question = await stream.method("elicitation/create")
                name = question["params"]["message"]
                await wire.answer(question, {"action": "accept", "content": {"name": name}})
                heard.append(f"{number}={said(await stream.result()).rpartition(':')[2]}")

        async with anyio.create_task_group() as tasks:
            for number in range(10):
                tasks.start_soon(ask, number)
        assert sorted(heard) == sorted(f"{n}={n}" for n in range(10))


async def test_the_question_is_withdrawn_when_its_time_runs_out(wired: Wired) -> None:
    async with wired() as wire, wire.calling("elicit_and_give_up", "name?", on=0) as stream:
        question = await stream.method("elicitation/create")
        withdrawn = await stream.method("notifications/cancelled")
        assert withdrawn["params"]["requestId"] == question["id"]
        assert "timed out" in said(await stream.result()).lower()
        assert await wire.answer(question, ACCEPTED, on=1) == 202  # too late, and said to nobody


async def test_the_question_is_withdrawn_when_its_handler_is_cancelled(wired: Wired) -> None:
    async with wired() as wire, wire.calling("elicit", "name?", on=0, id="asks") as stream:
        question = await stream.method("elicitation/create")
        await wire.notify("notifications/cancelled", {"requestId": "asks"}, on=1)
        withdrawn = await stream.method("notifications/cancelled")
        assert withdrawn["params"]["requestId"] == question["id"]
        assert (await stream.result())["error"]["code"] == -32800


async def test_a_question_on_a_closed_stream_is_seen_by_whoever_resumes_it(wired: Wired) -> None:
    async with wired() as wire:
        async with wire.calling("elicit", "name?", on=0) as stream:
            priming = await stream.next()
            assert priming is not None
        async with wire.open(on=1, after=priming.id) as resumed:
            question = await resumed.method("elicitation/create")
            assert await wire.answer(question, ACCEPTED, on=2) == 202
            assert said(await resumed.result()) == "0:accept:bob"


# What must not reach a waiter


async def _is_undisturbed(wire: Wire, stream: Stream, question: dict[str, Any]) -> None:
    assert await wire.answer(question, ACCEPTED, on=1) == 202
    assert said(await stream.result()) == "0:accept:bob"


Forge: TypeAlias = Callable[[str], object]

FORGED: Final[tuple[Forge, ...]] = (
    lambda real: real + "x",
    lambda real: real.partition(".")[0] + ".guess",
    lambda real: "nobody." + real.partition(".")[2],
    lambda real: real.partition(".")[2],
    lambda _real: "1",
    lambda _real: 1,
    lambda _real: "",
    lambda _real: "*",
    lambda _real: "{" + "x" * 250 + "}",
    lambda _real: "é漢🦊\n\x00",
    lambda _real: "a.b.c",
)


@pytest.mark.parametrize("forge", FORGED)
async def test_a_forged_answer_is_accepted_and_changes_nothing(wired: Wired, forge: Forge) -> None:
    async with wired() as wire, wire.calling("elicit", "name?", on=0) as stream:
        question = await stream.method("elicitation/create")
        evil = {"action": "accept", "content": {"name": "mallory"}}
        assert await wire.answer({"id": forge(question["id"])}, evil, on=1) == 202
        await _is_undisturbed(wire, stream, question)


@pytest.mark.guarantee("G9")
async def test_another_session_cannot_answer(wired: Wired) -> None:
    async with wired() as wire, wire.calling("elicit", "name?", on=0) as stream:
        question = await stream.method("elicitation/create")
        stranger = Wire(wire.fleet, wire.client)
        await stranger.initialize(on=1)
        evil = {"action": "accept", "content": {"name": "mallory"}}
        for n in (0, 1, 2):
            assert await stranger.answer(question, evil, on=n) == 202
        await _is_undisturbed(wire, stream, question)


async def test_a_second_answer_changes_nothing(wired: Wired, stage: Stage) -> None:
    async with wired() as wire, wire.calling("elicit", "name?", on=0) as stream:
        question = await stream.method("elicitation/create")
        statuses = [
            await wire.answer(question, ACCEPTED, on=1),
            await wire.answer(question, {"action": "decline"}, on=2),
        ]
        assert statuses == [202, 202]
        assert said(await stream.result()) == "0:accept:bob"


async def test_an_answer_without_an_id_changes_nothing(wired: Wired) -> None:
    async with wired() as wire, wire.calling("elicit", "name?", on=0) as stream:
        question = await stream.method("elicitation/create")
        error = {"jsonrpc": "2.0", "id": None, "error": {"code": -32700, "message": "what?"}}
        assert (await wire.post(error, on=1)).status_code == 202
        await _is_undisturbed(wire, stream, question)


async def test_a_client_that_never_said_it_can_is_not_asked(wired: Wired) -> None:
    """Whether it can is the framework's to check; ours is to have told every replica what was declared."""
    async with wired() as wire:
        answer = await wire.request("tools/call", call("client")["params"], on=2)
        assert said(answer).startswith("wire")

"""The streams of dead replicas: what they asked is taken back once, and their requests are answered once."""

import json
from typing import Any

import anyio

from holdfast.backends.memory import MemoryBackend, MemoryData
from holdfast.sessions.orphans import end_for_dead
from holdfast.sessions.protocols import Backend
from holdfast.sessions.relay import mint_stream_id
from holdfast.sessions.types import SessionId, StreamId, StreamState
from holdfast.testing.conformance.harness import new_session, new_stream, read_all, top_of


async def end(backend: Backend, dead: Backend, session: SessionId, stream: StreamId) -> None:
    state = StreamState(running=True, replica=dead.replica, request_id=7)
    epoch = (await top_of(backend, session)).epoch
    await end_for_dead(backend.log, session, stream, state, epoch=epoch)


async def ask(dead: Backend, session: SessionId, stream: StreamId, token: str) -> None:
    request_id = f"{dead.replica}.{token}"
    question = json.dumps({"jsonrpc": "2.0", "id": request_id, "method": "elicitation/create"}).encode()
    await dead.log.append(session, stream, question, expects=request_id)


def summary(payload: bytes) -> Any:
    message = json.loads(payload)
    if "error" in message:
        return message["id"], message["error"]["data"]["reason"]
    return message["method"], message["params"]["requestId"].partition(".")[2]


async def test_all_who_find_a_stream_orphaned_at_once_end_it_together() -> None:
    data = MemoryData()
    dead, *others = (MemoryBackend(data) for _ in range(4))
    session = await new_session(dead)
    stream = await new_stream(dead, session)
    await ask(dead, session, stream, "one")
    about = {"jsonrpc": "2.0", "method": "x", "params": {"of": dead.replica}}
    await dead.log.append(session, stream, json.dumps(about).encode())
    await ask(dead, session, stream, "two")
    async with anyio.create_task_group() as tasks:
        for other in others:
            tasks.start_soon(end, other, dead, session, stream)
    events = await read_all(dead, session, stream)
    assert [summary(event.payload) for event in events[3:]] == [
        ("notifications/cancelled", "one"),
        ("notifications/cancelled", "two"),
        (7, "replica-died"),
    ]
    assert [event.final for event in events] == [False] * 5 + [True]
    assert not await others[0].inbox.put(session, f"{dead.replica}.two", b"late")


async def test_a_question_that_lies_in_a_gap_is_taken_back_too() -> None:
    data = MemoryData(max_events=16)
    dead, other = MemoryBackend(data), MemoryBackend(data)
    session = await new_session(dead)
    stream = await new_stream(dead, session)
    await ask(dead, session, stream, "old")
    for _ in range(100):
        await dead.log.append(session, stream, b"flood")
    before = await top_of(other, session)
    await end(other, dead, session, stream)
    told, answer = await read_all(other, session, stream, after=before)
    assert summary(told.payload) == ("notifications/cancelled", "old")
    assert summary(answer.payload) == (7, "replica-died")


async def test_ending_a_stream_of_a_session_that_is_gone_is_no_error() -> None:
    backend = MemoryBackend()
    state = StreamState(running=True, replica=backend.replica, request_id=1)
    await end_for_dead(backend.log, SessionId("gone"), mint_stream_id(), state, epoch="e")

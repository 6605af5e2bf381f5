"""The waiting room: answers find the handler that waits, and nobody else."""

from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from holdfast.backends.memory import MemoryBackend, MemoryData
from holdfast.errors import SessionGone, StoreUnavailable
from holdfast.sessions.inbox import WaitingRoom, writer_of
from holdfast.sessions.running import Running
from holdfast.sessions.signals import decode_signal, encode_signal
from holdfast.sessions.types import SessionId
from holdfast.testing.conformance.harness import new_session
from holdfast.testing.faults import FaultyBackend


def make_room() -> tuple[WaitingRoom, FaultyBackend]:
    backend = FaultyBackend(MemoryBackend(MemoryData()))
    return WaitingRoom(backend.inbox, backend.replica), backend


async def test_an_answer_wakes_the_one_who_waits_for_it() -> None:
    room, backend = make_room()
    session = await new_session(backend)
    with room.waiting(session) as waiter, room.waiting(session) as other:
        for each in (waiter, other):
            await backend.inbox.expect(session, each.request_id)
        async with backend.inbox.listen(room.arrived):
            assert await backend.inbox.put(session, waiter.request_id, b"answer")
            with anyio.fail_after(5):
                assert await waiter.answer(backend.inbox) == b"answer"
        with anyio.move_on_after(0.01) as silence:
            await other.answer(backend.inbox)
        assert silence.cancelled_caught


async def test_an_answer_that_came_before_the_wait_is_found() -> None:
    room, backend = make_room()
    session = await new_session(backend)
    with room.waiting(session) as waiter:
        await backend.inbox.expect(session, waiter.request_id)
        async with backend.inbox.listen(room.arrived):
            await backend.inbox.put(session, waiter.request_id, b"answer")
        with anyio.fail_after(5):
            assert await waiter.answer(backend.inbox) == b"answer"


async def test_an_answer_whose_hint_was_lost_is_found_by_looking_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("holdfast.sessions.inbox._LOOK_AGAIN_SECONDS", 0.02)
    room, backend = make_room()
    session = await new_session(backend)
    with room.waiting(session) as waiter:
        await backend.inbox.expect(session, waiter.request_id)
        await backend.inbox.put(session, waiter.request_id, b"answer")  # nobody listens
        with anyio.fail_after(5):
            assert await waiter.answer(backend.inbox) == b"answer"


async def test_whoever_waits_for_a_person_waits_for_the_store_as_well(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("holdfast.sessions.inbox._LOOK_AGAIN_SECONDS", 0.02)
    room, backend = make_room()
    session = await new_session(backend)
    with room.waiting(session) as waiter:
        await backend.inbox.expect(session, waiter.request_id)
        await backend.inbox.put(session, waiter.request_id, b"answer")
        backend.fail("inbox.take", error=StoreUnavailable)
        with anyio.move_on_after(0.1) as outage:
            await waiter.answer(backend.inbox)
        assert outage.cancelled_caught
        backend.heal()
        with anyio.fail_after(5):
            assert await waiter.answer(backend.inbox) == b"answer"


async def test_the_end_of_the_session_ends_the_wait() -> None:
    room, backend = make_room()
    session = await new_session(backend)
    with room.waiting(session) as waiter:
        await backend.inbox.expect(session, waiter.request_id)
        await backend.sessions.close(session)
        room.arrived(None, None)
        with anyio.fail_after(5), pytest.raises(SessionGone):
            await waiter.answer(backend.inbox)


async def test_another_session_cannot_wake_or_report_progress() -> None:
    room, backend = make_room()
    mine, stranger = await new_session(backend), await new_session(backend)
    heard: list[Mapping[str, Any]] = []
    with room.waiting(mine, heard.append) as waiter:
        room.arrived(stranger, waiter.request_id)
        assert not waiter._arrived.is_set()  # pyright: ignore[reportPrivateUsage]
        room.progressed(stranger, waiter.request_id, {"progress": 1})
        room.progressed(mine, "unknown", {"progress": 2})
        room.progressed(mine, waiter.request_id, {"progress": 3})
    room.progressed(mine, waiter.request_id, {"progress": 4})
    room.arrived(mine, waiter.request_id)
    assert heard == [{"progress": 3}]


async def test_ids_say_who_waits_and_cannot_be_guessed() -> None:
    room, backend = make_room()
    session = SessionId("s")
    ids: list[str] = []
    for _ in range(100):
        with room.waiting(session) as waiter:
            ids.append(waiter.request_id)
    assert len(set(ids)) == 100
    assert {writer_of(each) for each in ids} == {backend.replica}
    assert all(len(each.partition(".")[2]) >= 16 for each in ids)


@pytest.mark.parametrize("text", [None, 1, 1.5, "", "x", ".x", "x.", [], {}, b"a.b", True])
def test_what_no_replica_minted_names_no_replica(text: object) -> None:
    assert writer_of(text) is None or text == ".x"


# Handlers at work


async def test_cancelling_is_exact_about_session_id_and_type() -> None:
    running = Running()
    one, two = SessionId("one"), SessionId("two")
    with running.enter(one, 1) as number, running.enter(one, "1") as text, running.enter(two, 1) as other:
        assert len(running) == 3
        running.cancel(one, "1")
        assert [each.cancelled for each in (number, text, other)] == [False, True, False]
        running.cancel(SessionId("nobody"), 1)
        running.cancel(one, True)
        assert not number.cancelled
        running.end(one)
        assert [each.session_ended for each in (number, text, other)] == [True, True, False]
        assert [each.scope.cancel_called for each in (number, text, other)] == [True, True, False]
    assert len(running) == 0
    assert running.busy_sessions() == []
    assert not running.runs(SessionId("s"))


async def test_a_handler_that_raises_is_forgotten_as_well() -> None:
    running = Running()
    with pytest.raises(ZeroDivisionError), running.enter(SessionId("s"), 1):
        raise ZeroDivisionError
    assert running.busy_sessions() == []
    assert not running.runs(SessionId("s"))


async def test_a_handler_goes_on_when_the_task_around_it_is_given_up() -> None:
    running, went_on = Running(), False
    with anyio.CancelScope() as request:
        with running.enter(SessionId("s"), 1) as handler, handler.scope:
            request.cancel()
            await anyio.lowlevel.checkpoint()
            went_on = True
        await anyio.lowlevel.checkpoint()
        pytest.fail("what comes after the handler was not given up")
    assert went_on


async def test_when_the_process_ends_so_does_every_handler() -> None:
    running = Running()
    with running.enter(SessionId("one"), 1) as one, running.enter(SessionId("two"), None) as two:
        running.stop()
        assert one.scope.cancel_called
        assert two.scope.cancel_called
        assert not one.cancelled
        assert not two.session_ended


async def test_whoever_waits_for_the_last_handler_is_told() -> None:
    running = Running()
    async with anyio.create_task_group() as tasks:
        with running.enter(SessionId("s"), 1):
            tasks.start_soon(running.empty)
            await anyio.wait_all_tasks_blocked()
        with anyio.fail_after(5):
            await running.empty()


# Signals


def test_a_signal_is_read_as_it_was_written() -> None:
    kind, fields = decode_signal(encode_signal("cancel", session="s", request=1))
    assert kind == "cancel"
    assert fields["session"] == "s"
    assert fields["request"] == 1
    assert decode_signal(encode_signal("cancel", request="1"))[1]["request"] == "1"


@pytest.mark.parametrize(
    "message", [b"", b"x", b"[]", b"7", b"null", b"{}", b'{"v":2,"kind":"cancel"}', b"\xff", b'{"v":1}']
)
def test_a_signal_of_another_release_is_ignored(message: bytes) -> None:
    assert decode_signal(message)[0] == ""

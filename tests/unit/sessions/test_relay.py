"""The streams of requests: what becomes a stream, what stays JSON, and what is refused."""

import anyio
import pytest

from holdfast.backends.memory import MemoryBackend, MemoryData
from holdfast.errors import SessionGone, StoreUnavailable, StreamError
from holdfast.sessions.hub import Hub
from holdfast.sessions.relay import LoggedStream, Relay, UnloggedStream, mint_stream_id
from holdfast.sessions.types import STANDALONE, SessionId
from holdfast.testing.conformance.harness import new_session, read_all
from holdfast.testing.faults import FaultyBackend


def make_relay() -> tuple[Relay, FaultyBackend]:
    backend = FaultyBackend(MemoryBackend(MemoryData()))
    return Relay(backend, Hub()), backend


async def payloads(backend: FaultyBackend, stream: LoggedStream) -> list[bytes]:
    return [event.payload for event in await read_all(backend, stream.session, stream.stream)]


async def test_an_answer_alone_stays_json_and_stores_nothing() -> None:
    relay, backend = make_relay()
    stream = LoggedStream(relay, await new_session(backend), 1)
    backend.calls.clear()
    assert stream.answer_now(b"answer")
    assert (stream.answer, stream.decided, backend.calls) == (b"answer", True, [])
    with pytest.raises(StreamError):
        stream.opened()


async def test_the_first_emission_makes_it_a_stream_for_good() -> None:
    relay, backend = make_relay()
    stream = LoggedStream(relay, await new_session(backend), 1)
    await stream.emit(b"one")
    assert not stream.answer_now(b"answer")
    await stream.finish(b"answer")
    assert stream.answer is None
    reader, start = stream.opened()
    assert [event.payload for event in reader.handed] == [b"one", b"answer"]
    assert start.offset == 0
    assert await payloads(backend, stream) == [b"one", b"answer"]


async def test_what_comes_after_the_answer_is_dropped() -> None:
    relay, backend = make_relay()
    session = await new_session(backend)
    for opened in (True, False):
        stream = LoggedStream(relay, session, 1)
        if opened:
            await stream.open()
        await stream.finish(b"answer")
        await stream.emit(b"late")
        await stream.finish(b"second answer")
        if opened:
            assert await payloads(backend, stream) == [b"answer"]
        else:
            assert stream.answer == b"answer"
            assert stream.start is None


async def test_concurrent_emissions_open_it_once_and_keep_all() -> None:
    relay, backend = make_relay()
    stream = LoggedStream(relay, await new_session(backend), 1)
    backend.calls.clear()
    async with anyio.create_task_group() as tasks:
        for number in range(20):
            tasks.start_soon(stream.emit, b"%d" % number)
    assert backend.calls.count("log.open_stream") == 1
    assert sorted(await payloads(backend, stream)) == sorted(b"%d" % number for number in range(20))


async def test_an_answer_that_cannot_be_stored_is_handed_to_whoever_is_connected() -> None:
    relay, backend = make_relay()
    stream = LoggedStream(relay, await new_session(backend), 1)
    await stream.open()
    reader, _ = stream.opened()
    backend.fail("log.append")
    with pytest.raises(StoreUnavailable):
        await stream.finish(b"answer")
    assert list(reader.unlogged) == [b"answer"]
    backend.heal()
    await stream.finish_late(b"answer")
    assert await payloads(backend, stream) == [b"answer"]


async def test_an_answer_for_which_the_stream_was_never_free_becomes_json() -> None:
    """The handler had answered, and the store had still not opened the stream."""
    relay, backend = make_relay()
    stream = LoggedStream(relay, await new_session(backend), 1)
    await stream.finish_late(b"answer")
    assert stream.answer == b"answer"
    assert "log.append" not in backend.calls


async def test_a_question_after_the_answer_is_refused_and_waits_for_nothing() -> None:
    relay, backend = make_relay()
    session = await new_session(backend)
    opened, json = LoggedStream(relay, session, 1), LoggedStream(relay, session, 2)
    unlogged, plain = (UnloggedStream(relay, session, json_only=False) for _ in range(2))
    await opened.open()
    await unlogged.open()
    for stream in (opened, json, unlogged, plain):
        await stream.finish(b"answer")
        with pytest.raises(StreamError, match="ended"):
            await stream.emit(b"question", expects="id")
    with unlogged.messages:
        pass


async def test_another_replicas_answer_stands() -> None:
    relay, backend = make_relay()
    stream = LoggedStream(relay, await new_session(backend), 1)
    await stream.open()
    reader, _ = stream.opened()
    await backend.log.append(stream.session, stream.stream, b"it died", final=True)
    await stream.finish(b"answer")
    assert await payloads(backend, stream) == [b"it died"]
    assert reader.hinted


async def test_readers_look_at_the_log_after_an_append_of_unknown_outcome() -> None:
    relay, backend = make_relay()
    session = await new_session(backend)
    reader = relay.hub.open(session, STANDALONE, "t")
    backend.fail("log.append", carried_out=True)
    with pytest.raises(StoreUnavailable):
        await relay.send_standalone(session, b"x")
    assert reader.hinted
    assert list(reader.handed) == []


async def test_the_standalone_stream_takes_one_message_after_the_other() -> None:
    relay, backend = make_relay()
    session = await new_session(backend)
    async with anyio.create_task_group() as tasks:
        for number in range(50):
            tasks.start_soon(relay.send_standalone, session, b"%d" % number)
    assert len(await read_all(backend, session, STANDALONE)) == 50
    assert len(relay._standalone_locks) == 0  # pyright: ignore[reportPrivateUsage]


async def test_nothing_is_sent_to_a_session_that_is_gone() -> None:
    relay, _ = make_relay()
    with pytest.raises(SessionGone):
        await relay.send_standalone(SessionId("gone"), b"x")


# Without a log


async def test_unlogged_messages_arrive_in_order_and_end_with_the_answer() -> None:
    relay, backend = make_relay()
    stream = UnloggedStream(relay, await new_session(backend), json_only=False)
    await stream.emit(b"one")
    await stream.emit(b"two")
    await stream.finish(b"answer")
    await stream.emit(b"late")
    with stream.messages:
        assert [message async for message in stream.messages] == [b"one", b"two"]
    assert stream.last == b"answer"


async def test_only_json_means_that_nothing_else_is_sent() -> None:
    relay, backend = make_relay()
    stream = UnloggedStream(relay, await new_session(backend), json_only=True)
    await stream.open()
    await stream.emit(b"one")
    assert not stream.decided
    await stream.finish(b"answer")
    assert stream.answer == b"answer"
    stream.leave()


async def test_a_handler_does_not_wait_for_a_client_that_left() -> None:
    relay, backend = make_relay()
    stream = UnloggedStream(relay, await new_session(backend), json_only=False)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            for number in range(200):
                tasks.start_soon(stream.emit, b"%d" % number)
            await anyio.wait_all_tasks_blocked()
            stream.leave()
        await stream.finish(b"answer")


async def test_a_client_that_left_cannot_be_asked_without_a_log() -> None:
    relay, backend = make_relay()
    stream = UnloggedStream(relay, await new_session(backend), json_only=False)
    stream.leave()
    with pytest.raises(StreamError):
        await stream.emit(b"question", expects="id")
    await stream.finish(b"answer")


def test_stream_ids_are_unguessable_and_fit_for_event_ids() -> None:
    ids = {mint_stream_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(each.replace("-", "a").replace("_", "a").isalnum() and len(each) <= 32 for each in ids)

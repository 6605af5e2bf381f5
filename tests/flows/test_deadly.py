"""What kills a session of the SDK's own manager with a store behind it, done to ours.

There, one exception of the store ends the router of a session for ever, one slow call holds up all of its
streams, and an event that is stored between a replay and the registration of its reader is never seen again.
"""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from holdfast.errors import StoreRefused, StoreUnavailable
from holdfast.sessions.types import STANDALONE, SessionId, StreamId
from tests.flows.apps import Stage
from tests.flows.conftest import Wired
from tests.flows.wire import Stream, Wire, call, said, until

AT_ONCE = 8


@pytest.mark.parametrize("error", [StoreUnavailable, StoreRefused])
@pytest.mark.parametrize("failing", ["sessions.*", "log.read", "log.append", "log.open_stream", "*"])
@pytest.mark.guarantee("G10")
async def test_a_store_that_raises_wedges_no_session(
    wired: Wired, stage: Stage, failing: str, error: type[StoreUnavailable]
) -> None:
    """A call that runs through it is answered, and the same session goes on, on that very replica."""
    async with wired() as wire:
        async with wire.calling("report_and_wait", on=0) as running:
            await running.method("notifications/progress")
            wire.fleet.replicas[0].store.fail(failing, error=error)
            for _ in range(3):
                async with wire.open(call("count", "3"), on=0) as stream:
                    assert stream.status in {200, 503}
                    await _answered(stream)
            wire.fleet.replicas[0].store.heal()
            stage.mark("go")
            stage.mark("end")
            answer = await _answered(running)
            assert answer is not None
            assert "error" in answer or said(answer) == "0:done"
        await _works(wire)


async def _answered(stream: Stream) -> dict[str, Any] | None:
    """The answer, when it is there: a stream stays open until what it said is stored. None: it was JSON."""
    if not stream.headers["content-type"].startswith("text/event-stream"):
        return None
    while (event := await stream.next()) is not None:
        if event.data and "method" not in event.message:
            return event.message
    raise AssertionError("the stream ended without an answer")


async def _works(wire: Wire) -> None:
    """Once the breaker has seen that the store is back, which takes a moment."""

    async def again() -> bool:
        return (await wire.post(call("echo", "again"), on=0)).status_code == 200

    await until(again)
    for number in range(3):
        assert await wire.do("count", "3", on=number) == f"{number}:counted"
    async with wire.open(on=0) as standalone:
        await wire.do("announce", on=1)
        await standalone.method("notifications/tools/list_changed")


@pytest.mark.guarantee("G10")
async def test_a_slow_store_holds_up_no_other_call(wired: Wired, monkeypatch: pytest.MonkeyPatch) -> None:
    """Eight calls of one session are in the store at the same time: no append waits for another stream's."""
    async with wired(resumable="always") as wire:
        log = wire.fleet.replicas[0].store.inner.log
        append, all_there = log.append, anyio.Event()
        inside: set[str] = set()

        async def slow(session: SessionId, stream: StreamId, *args: Any, **options: Any) -> Any:
            inside.add(stream)
            if len(inside) == AT_ONCE:
                all_there.set()
            await all_there.wait()
            return await append(session, stream, *args, **options)

        monkeypatch.setattr(log, "append", slow)
        answers: list[str] = []

        async def count() -> None:
            answers.append(await wire.do("count", "2", on=0))

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                for _ in range(AT_ONCE):
                    tasks.start_soon(count)
        assert answers == ["0:counted"] * AT_ONCE
        assert len(inside) == AT_ONCE


@pytest.mark.guarantee("G6")
async def test_what_is_stored_between_replay_and_live_is_not_skipped(
    wired: Wired, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with wired() as wire:
        async with wire.calling("report_and_wait", on=0) as stream:
            await stream.method("notifications/progress")
        log = wire.fleet.replicas[1].store.inner.log
        read = log.read

        async def read_and_let_others_write(*args: Any, **options: Any) -> Any:
            """What this returns is old when it returns: the next event is stored already."""
            page = await read(*args, **options)
            if not stage.marked("go"):
                stage.mark("go")

                async def stored() -> bool:
                    return len((await read(*args, **options)).events) > len(page.events)

                await until(stored)
            return page

        monkeypatch.setattr(log, "read", read_and_let_others_write)
        async with wire.open(on=1, after=stream.last_id) as resumed:
            assert (await resumed.method("notifications/progress"))["params"]["progress"] == 2
            stage.mark("end")
            assert (await resumed.method("notifications/progress"))["params"]["progress"] == 3
            assert said(await resumed.result()) == "0:done"


@pytest.mark.guarantee("G6")
async def test_what_is_said_to_all_between_replay_and_live_is_not_skipped(
    wired: Wired, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same on the standalone stream, with ten events."""
    async with wired() as wire:
        assert wire.session is not None
        session = SessionId(wire.session)
        async with wire.open(on=0) as standalone:
            await standalone.next()
        log, writer = wire.fleet.replicas[1].store.inner.log, wire.fleet.replicas[0].store.inner.log
        read, left = log.read, list(range(1, 11))

        async def read_and_write(*args: Any, **options: Any) -> Any:
            page = await read(*args, **options)
            while left:
                payload = b'{"jsonrpc":"2.0","method":"notifications/n","params":{"n":%d}}' % left.pop(0)
                await writer.append(session, STANDALONE, payload)
            return page

        monkeypatch.setattr(log, "read", read_and_write)
        async with wire.open(on=1, after=standalone.last_id) as resumed:
            heard = [(await resumed.method("notifications/n"))["params"]["n"] for _ in range(10)]
        assert heard == list(range(1, 11))

"""Callers that go away, and a disk that does not answer."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import anyio
import pytest

from holdfast.backends.sqlite import SqliteBackend, SqliteOptions
from holdfast.backends.sqlite.calls import Call, Loop, Worker
from holdfast.errors import StoreUnavailable
from holdfast.sessions.types import STANDALONE
from holdfast.testing.conformance.harness import new_session, read_all


class Disk:
    """Carries nothing out while it is closed."""

    def __init__(self) -> None:
        self.open = threading.Event()
        self.began = threading.Event()
        self.worker = Worker[Any](
            "test", Loop(), carry_out=self.carry_out, rest=lambda: None, max_waiting=10, max_batch=2
        )
        self.worker.start()
        self.done: list[str] = []

    def carry_out(self, calls: list[Call[Any]]) -> None:
        self.began.set()
        self.open.wait(10)
        for call in calls:
            call.result = call.run(None)

    async def call(self, name: str) -> str:
        def run(_: Any) -> str:
            self.done.append(name)
            return name

        return await self.worker.call(run, undo=lambda _, result: self.done.append(f"undo {result}"))

    async def begin(self, name: str) -> None:
        with anyio.move_on_after(0.05):
            await self.call(name)

    def stop(self) -> None:
        self.open.set()
        self.worker.stop()


async def test_what_has_not_begun_goes_with_its_caller_and_what_has_is_undone() -> None:
    disk = Disk()
    await disk.begin("under way")
    await disk.begin("waiting")
    disk.open.set()
    assert await disk.call("later") == "later"
    disk.stop()
    assert disk.done in (
        ["under way", "undo under way", "later"],
        ["under way", "later", "undo under way"],
    )


async def test_more_than_may_wait_is_refused() -> None:
    disk = Disk()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(disk.call, "first")
        await anyio.to_thread.run_sync(disk.began.wait, 5)
        for number in range(10):
            tasks.start_soon(disk.call, f"{number}")
        await anyio.sleep(0.01)
        with pytest.raises(StoreUnavailable, match="10 operations are waiting"):
            await disk.call("one too many")
        disk.open.set()
    disk.stop()
    assert len(disk.done) == 11


async def test_a_disk_that_does_not_answer_is_not_waited_for_for_ever() -> None:
    disk = Disk()
    told: list[str] = []

    async def call(name: str) -> None:
        with pytest.raises(StoreUnavailable, match="has not answered for 0 s"):
            await disk.call(name)
        told.append(name)

    async with anyio.create_task_group() as tasks:
        for name in ("under way", "waiting"):
            tasks.start_soon(call, name)
        await anyio.to_thread.run_sync(disk.began.wait, 5)
        disk.worker.fail_overdue(0.0)
    assert sorted(told) == ["under way", "waiting"]
    disk.open.set()
    assert await disk.call("later") == "later"
    disk.stop()


async def test_an_answer_is_not_lost_with_a_caller_who_is_cancelled(path: Path) -> None:
    async with SqliteBackend(path) as backend:
        session = await new_session(backend)
        for number in range(50):
            request = f"q{number}"
            await backend.inbox.expect(session, request)
            await backend.inbox.put(session, request, b"yes")
            got: list[bytes | None] = []

            async def take(request: str, got: list[bytes | None]) -> None:
                got.append(await backend.inbox.take(session, request))

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(take, request, got)
                for _ in range(number % 5):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
            with anyio.fail_after(5):
                while not any(got):
                    got.append(await backend.inbox.take(session, request))
            assert [answer for answer in got if answer] == [b"yes"]


async def test_cancelled_appends_are_stored_once_or_not_at_all(path: Path) -> None:
    async with SqliteBackend(path) as backend:
        session = await new_session(backend)
        for number in range(100):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(backend.log.append, session, STANDALONE, b"%d" % number)
                for _ in range(number % 6):
                    await anyio.lowlevel.checkpoint()
                tasks.cancel_scope.cancel()
        await backend.log.append(session, STANDALONE, b"last")
        events = await read_all(backend, session, STANDALONE)
        payloads = [event.payload for event in events]
        assert len(set(payloads)) == len(payloads)
        assert payloads[-1] == b"last"
        assert [event.position.offset for event in events] == list(range(1, len(events) + 1))


async def test_closing_stores_what_was_under_way(path: Path) -> None:
    async with SqliteBackend(path, options=SqliteOptions(max_events=10_000)) as backend:
        session = await new_session(backend)
        acknowledged: list[int] = []

        async def append() -> None:
            with suppress(StoreUnavailable):
                acknowledged.append((await backend.log.append(session, STANDALONE, b"x")).position.offset)

        async with anyio.create_task_group() as tasks:
            for _ in range(300):
                tasks.start_soon(append)
            await anyio.lowlevel.checkpoint()
            await backend.__aexit__(None, None, None)
    async with SqliteBackend(path) as backend:
        offsets = {event.position.offset for event in await read_all(backend, session, STANDALONE)}
        assert set(acknowledged) <= offsets

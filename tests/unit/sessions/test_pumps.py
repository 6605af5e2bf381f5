"""Streams write in tasks that they share: each gets its turn, and none holds up another or is forgotten."""

import asyncio
import gc
import time

import anyio
import pytest

from holdfast.sessions.pumps import Pumps


class Stream:
    """Says what it is asked to; `stuck` ones have a client that takes nothing."""

    def __init__(self, pumps: Pumps, *, due: float = 3600.0, stuck: bool = False) -> None:
        self.pumps = pumps
        self.due = time.monotonic() + due
        self.stirred = 0
        self.pumped = 0
        self.free = anyio.Event()
        self.wrote = anyio.Event()
        if not stuck:
            self.free.set()

    def stir(self) -> None:
        self.stirred += 1
        self.due = time.monotonic() + 3600
        self.pumps.put(self)

    async def pump(self) -> None:
        await self.free.wait()
        self.pumped += 1
        self.wrote.set()


@pytest.mark.guarantee("G14")
async def test_a_stuck_stream_holds_up_no_other() -> None:
    pumps = Pumps()
    stuck = [Stream(pumps, stuck=True) for _ in range(100)]
    others = [Stream(pumps) for _ in range(100)]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pumps.run)
        await anyio.wait_all_tasks_blocked()
        for stream in [*stuck, *others]:
            stream.stir()
        with anyio.fail_after(5):
            for stream in others:
                await stream.wrote.wait()
        assert not any(stream.pumped for stream in stuck)
        for stream in stuck:
            stream.free.set()
            with anyio.fail_after(5):
                await stream.wrote.wait()
        tasks.cancel_scope.cancel()


async def test_streams_share_their_tasks() -> None:
    pumps = Pumps()
    streams = [Stream(pumps) for _ in range(200)]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pumps.run)
        await anyio.wait_all_tasks_blocked()
        for _ in range(3):
            for stream in streams:
                stream.stir()
            await anyio.wait_all_tasks_blocked()
        assert [stream.pumped for stream in streams] == [3] * 200
        assert pumps.idle_tasks <= 32
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("count", [1, 100])
async def test_whoever_is_due_is_stirred_and_nobody_else(count: int) -> None:
    pumps = Pumps()
    due, quiet = [Stream(pumps, due=0.0) for _ in range(count)], Stream(pumps)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pumps.run)
        for stream in [*due, quiet]:
            pumps.add(stream, 0.01)
        with anyio.fail_after(5):
            for stream in due:
                await stream.wrote.wait()
        await anyio.wait_all_tasks_blocked()
        assert [stream.stirred for stream in due] == [1] * count
        assert not quiet.stirred
        tasks.cancel_scope.cancel()


async def test_the_last_stream_is_waited_for() -> None:
    pumps = Pumps()
    streams = [Stream(pumps) for _ in range(3)]
    for stream in streams:
        pumps.add(stream, 15)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pumps.empty)
        for stream in streams:
            await anyio.wait_all_tasks_blocked()
            pumps.discard(stream)
        with anyio.fail_after(5):
            await pumps.empty()


async def test_what_was_asked_before_the_tasks_ran_is_written_as_well() -> None:
    pumps = Pumps()
    early = Stream(pumps)
    early.stir()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pumps.run)
        with anyio.fail_after(5):
            await early.wrote.wait()
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("anyio_backend", ["asyncio"])  # its callbacks run outside of any task
async def test_streams_that_a_hint_stirs_are_written_though_no_task_is_free() -> None:
    """Hints come in callbacks, where no task can be started (0008)."""
    pumps = Pumps()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(pumps.run)
        streams = [Stream(pumps) for _ in range(50)]
        for stream in streams:
            asyncio.get_running_loop().call_soon(stream.stir)
        with anyio.fail_after(5):
            for stream in streams:
                await stream.wrote.wait()
        tasks.cancel_scope.cancel()
    gc.collect()  # a task that could not be started is a warning, and warnings are errors

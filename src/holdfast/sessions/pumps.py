"""Writing many streams that are silent most of the time: no task and no timer waits for each of them."""

import time
from collections import deque
from typing import Final, Protocol

import anyio
import anyio.lowlevel
from anyio.abc import TaskGroup

__all__ = ["Pumped", "Pumps"]

_MOST_IDLE: Final = 32
"""Tasks that are kept for later. There are more only while clients do not take what is written to them."""

_LONGEST_TICK_SECONDS: Final = 1.0
_TICKS: Final = 16
_AT_ONCE: Final = 32
"""Streams that get their keepalive before others get their turn."""


class Pumped(Protocol):
    """A stream that writes when it is asked to. `due`: when it needs a keepalive (`time.monotonic`)."""

    due: float

    def stir(self) -> None:
        """There may be something to write: `Pumps.put` it, unless it is there or writes already."""
        ...

    async def pump(self) -> None:
        """Write what there is. Must not raise."""
        ...


class Pumps:
    """The tasks that write for whichever stream has something to say, and the one clock for keepalives."""

    def __init__(self) -> None:
        self._streams: set[Pumped] = set()
        self._queue: deque[Pumped] = deque()
        self._idle: list[anyio.Event] = []
        self._wanted = anyio.Event()
        self._tick_seconds = _LONGEST_TICK_SECONDS
        self._first = anyio.Event()
        self._emptied: anyio.Event | None = None

    def add(self, stream: Pumped, keepalive_seconds: float) -> None:
        """Stir a stream whenever it is due. `discard` it in the end."""
        self._tick_seconds = min(self._tick_seconds, keepalive_seconds / _TICKS)
        self._streams.add(stream)
        if len(self._streams) == 1:
            self._first.set()

    def discard(self, stream: Pumped) -> None:
        """A stream has ended."""
        self._streams.discard(stream)
        if not self._streams and self._emptied is not None:
            self._emptied.set()

    @property
    def idle_tasks(self) -> int:
        """How many tasks wait for something to write."""
        return len(self._idle)

    def put(self, stream: Pumped) -> None:
        """Let a stream write soon. May be called outside of any task: nothing is started here (0008)."""
        self._queue.append(stream)
        if self._idle:
            self._idle.pop().set()
        else:
            self._wanted.set()

    async def empty(self) -> None:
        """Wait until no stream is left."""
        while self._streams:
            if self._emptied is None or self._emptied.is_set():
                self._emptied = anyio.Event()
            await self._emptied.wait()

    async def run(self) -> None:
        """Let streams write, and watch the clock while there are any. Never returns."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._hire, tasks)
            try:
                while True:
                    await self._first.wait()
                    self._first = anyio.Event()
                    while self._streams:
                        await anyio.sleep(self._tick_seconds)
                        await self._stir_the_due()
            finally:
                self._idle = []

    async def _hire(self, tasks: TaskGroup) -> None:
        """Start a task for each stream that has found none: the others may be held up by their clients."""
        while True:
            await self._wanted.wait()
            self._wanted = anyio.Event()
            for _ in range(len(self._queue)):
                tasks.start_soon(self._work)

    async def _stir_the_due(self) -> None:
        now = time.monotonic()
        due = [stream for stream in self._streams if stream.due <= now]
        for number, stream in enumerate(due, 1):
            stream.stir()
            if number % _AT_ONCE == 0:
                await anyio.lowlevel.checkpoint()

    async def _work(self) -> None:
        while True:
            while self._queue:
                await self._queue.popleft().pump()
            if len(self._idle) >= _MOST_IDLE:
                return
            woken = anyio.Event()
            self._idle.append(woken)
            await woken.wait()

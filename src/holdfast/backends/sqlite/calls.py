"""Operations on their way from the event loop to a thread of ours, and back."""

import logging
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from contextlib import suppress
from functools import partial
from typing import Any, Final, Generic, TypeVar

import anyio
from anyio.lowlevel import current_token

from holdfast.errors import StoreUnavailable

__all__ = ["Call", "Loop", "Worker"]

logger = logging.getLogger("holdfast.backends.sqlite")

C = TypeVar("C")
T = TypeVar("T")

_JOIN_SECONDS: Final = 10.0


class Loop:
    """The event loop in which a backend was entered, asyncio or trio, for threads to call into."""

    def __init__(self) -> None:
        token: Any = current_token().native_token
        # anyio's own `from_thread` waits for the result, and the thread has better things to do.
        self._post: Callable[..., object] = (
            getattr(token, "call_soon_threadsafe", None) or token.run_sync_soon
        )
        self._create_future: Callable[[], Any] | None = getattr(token, "create_future", None)

    def post(self, function: Callable[..., object], *args: object) -> None:
        """Call `function` in the event loop, soon. When the loop is no more, nobody is there to be told."""
        with suppress(RuntimeError):  # trio.RunFinishedError is one, too
            self._post(function, *args)

    def promise(self) -> "tuple[Awaitable[object], Callable[[], object]]":
        """What one task awaits, and what tells it, in the event loop."""
        if self._create_future is None:
            told = _Told()
            return told, told.event.set
        # On asyncio a bare future: half the cost of an event, and this is the hottest path of the backend.
        future = self._create_future()
        return future, partial(_tell, future)


class _Told:
    """An event that can be awaited as it is."""

    __slots__ = ("event",)

    def __init__(self) -> None:
        self.event = anyio.Event()

    def __await__(self) -> Generator[Any, Any, None]:
        return self.event.wait().__await__()


def _tell(future: Any) -> None:
    if not future.done():
        future.set_result(None)


class Call(Generic[C]):
    """One operation. Written by the thread until it is finished, read by the event loop afterwards.

    Attributes:
        run: what to do.
        undo: what to do if it had a result, and the caller went away before he learned of it.
        finished: called in the event loop.
        abandoned: the caller went away: an operation that has not begun is left out.
    """

    __slots__ = ("abandoned", "done", "error", "finished", "result", "run", "undo")

    def __init__(
        self,
        run: Callable[[C], Any],
        finished: Callable[[], object],
        undo: Callable[[C, Any], object] | None = None,
    ) -> None:
        self.run = run
        self.finished = finished
        self.undo = undo
        self.result: Any = None
        self.error: BaseException | None = None
        self.abandoned = False
        self.done = False


class Worker(Generic[C]):
    """A thread that takes all operations that wait, carries them out together, and reports them together.

    Args:
        name: of the thread.
        loop: whose callers wait.
        carry_out: does a batch, in the thread: sets `result` or `error` of each call. Must not raise.
        rest: called in the thread when nothing is waiting; returns after how many seconds to call it again.
        max_waiting: operations that may wait.
        max_batch: most operations in one batch.
    """

    def __init__(
        self,
        name: str,
        loop: Loop,
        *,
        carry_out: Callable[[list[Call[C]]], None],
        rest: Callable[[], float | None],
        max_waiting: int,
        max_batch: int,
    ) -> None:
        self._loop = loop
        self._carry_out = carry_out
        self._rest = rest
        self._max_waiting = max_waiting
        self._max_batch = max_batch
        self._queue: deque[Call[C]] = deque()
        self._under_way: list[Call[C]] = []
        self._began = 0.0
        self._wake = threading.Event()
        self._sleeps = False
        self._stopping = False
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def stop(self) -> bool:
        """Let what waits be done, and end the thread. Blocks, but not for ever; False: it hangs."""
        self._stopping = True
        self._wake.set()
        self._thread.join(_JOIN_SECONDS)
        if self._thread.is_alive():
            logger.error(
                "%s did not end within %g s: the disk does not answer", self._thread.name, _JOIN_SECONDS
            )
        return not self._thread.is_alive()

    async def call(self, run: Callable[[C], T], undo: Callable[[C, Any], object] | None = None) -> T:
        """Do something in the thread and return its result.

        `undo` gets a result (not None) of which the caller never learned, because he was cancelled.

        A caller that is cancelled takes with him what has not begun; what has begun is carried out.

        Raises:
            StoreUnavailable: too much is waiting, or the backend is closed.
        """
        told, tell = self._loop.promise()
        call = Call(run, tell, undo)
        self.submit(call)
        try:
            await told
        except BaseException:
            call.abandoned = True
            if call.done:
                self._regret(call)
            raise
        if call.error is not None:
            raise call.error
        result: T = call.result
        return result

    def submit(self, call: Call[C]) -> None:
        """Queue an operation; raises `StoreUnavailable`."""
        if self._stopping:
            raise StoreUnavailable("the backend is closed")
        if len(self._queue) >= self._max_waiting:
            raise StoreUnavailable(f"{self._max_waiting} operations are waiting for the disk already")
        self._queue.append(call)
        if self._sleeps:
            self._sleeps = False  # one wake-up for all that come until the thread has its turn
            self._wake.set()

    def fail_overdue(self, limit_seconds: float) -> None:
        """Tell all callers if the present batch takes too long. It is not recalled. For another thread."""
        if self._under_way and time.monotonic() - self._began > limit_seconds:
            self._loop.post(self._give_up, limit_seconds)

    def _give_up(self, limit_seconds: float) -> None:
        for call in (*self._under_way, *self._queue):
            if not call.done:
                call.abandoned = call.done = True
                call.error = StoreUnavailable(f"the disk has not answered for {limit_seconds:g} s")
                call.finished()

    def _work(self) -> None:
        while True:
            if not self._queue:
                if self._stopping:
                    return
                self._sleep()
            batch = self._take()
            if batch:
                self._began = time.monotonic()
                self._under_way = batch
                self._carry_out_safely(batch)
                self._under_way = []
                self._loop.post(self._finish, batch)

    def _carry_out_safely(self, batch: list[Call[C]]) -> None:
        try:
            self._carry_out(batch)
        except Exception as error:  # a bug of ours must not leave callers waiting for ever
            logger.exception("%s failed", self._thread.name)
            for call in batch:
                call.error = call.error or StoreUnavailable(f"the outcome is unknown: {error!r}")

    def _sleep(self) -> None:
        seconds = self._rest()
        self._wake.clear()
        self._sleeps = True
        # After `_sleeps` is set, whoever submits also wakes: what came before is in the queue by now.
        if not self._queue and not self._stopping:
            self._wake.wait(seconds)
        self._sleeps = False

    def _take(self) -> list[Call[C]]:
        queue = self._queue
        calls = (queue.popleft() for _ in range(min(len(queue), self._max_batch)))
        return [call for call in calls if not call.abandoned]

    def _finish(self, batch: list[Call[C]]) -> None:
        for call in batch:
            call.done = True
            if call.abandoned:
                self._regret(call)
            else:
                call.finished()

    def _regret(self, call: Call[C]) -> None:
        undo, result = call.undo, call.result
        if undo is not None and result is not None:
            call.undo = None
            with suppress(StoreUnavailable):
                self.submit(Call(lambda context: undo(context, result), _nothing))


def _nothing() -> None:
    """Nobody waits for an undoing."""

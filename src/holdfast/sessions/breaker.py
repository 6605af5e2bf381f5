"""Whether the store answers. While it does not, nobody waits for it who need not."""

import logging
import random
import time
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final

import anyio

from holdfast.errors import StoreUnavailable
from holdfast.observe import NOBODY, Observer

__all__ = ["STORE_RETRY_SECONDS", "Breaker"]

logger = logging.getLogger("holdfast")

STORE_RETRY_SECONDS: Final = (0.2, 1.0)
"""Between two attempts of those who cannot do without the store. Not all in the same moment."""

STALL_SECONDS: Final = 0.4
"""Nothing was answered for so long while something waits: time to ask whether anybody is there."""

_MOST_HELD: Final = 1_000
"""Requests that wait for the end of an outage. One more is refused at once."""

_MEASURED: Final = 1024
"""How many of the last operations are remembered by how long they took."""

_TRIAL_SECONDS: Final = (0.2, 1.0)


class Breaker:
    """Opens when the store is gone, and closes with its first answer.

    It is told of every operation; who decides and asks is `Watch`. While it is open operations fail at once,
    but for one now and then: in a cluster the node that one session is on may be there when another is not.
    """

    def __init__(self, observer: Observer = NOBODY) -> None:
        self.opened_at: float | None = None
        self.reason = ""
        self.answered_at = time.monotonic()
        self.suspected = False
        self._observer = observer
        self._calls: dict[int, float] = {}
        self.seconds: Final[deque[float]] = deque(maxlen=_MEASURED)
        self._count = 0
        self._scopes: set[anyio.CancelScope] = set()
        self._next_trial = 0.0
        self._held = 0
        self._changed = anyio.Event()
        self._on_change: list[Callable[[], None]] = []

    @property
    def open(self) -> bool:
        """Whether the store is taken to be gone."""
        return self.opened_at is not None

    @property
    def under_way(self) -> int:
        """How many operations wait for their answer."""
        return len(self._calls)

    def on_change(self, call: Callable[[], None]) -> None:
        """Call `call` whenever it opened or closed."""
        self._on_change.append(call)

    def begin(self) -> int:
        """An operation begins. `end` it with what this returns.

        Raises:
            StoreUnavailable: the store is gone.
        """
        now = time.monotonic()
        if self.opened_at is not None:
            if now < self._next_trial:
                raise StoreUnavailable(f"the store is away ({self.reason})")
            self._next_trial = now + random.uniform(*_TRIAL_SECONDS)
        self._count += 1
        self._calls[self._count] = now
        return self._count

    def end(self, call: int) -> None:
        """An operation has ended, somehow."""
        took = self.answered_at - self._calls.pop(call)
        if took >= 0:  # else nothing was answered since it began
            self.seconds.append(took)

    def answered(self) -> None:
        """The store said something."""
        self.answered_at = time.monotonic()
        self.suspected = False
        if self.opened_at is not None:
            self._close()

    def suspect(self, reason: str) -> None:
        """An operation found the store gone."""
        self.suspected = True
        self.reason = reason

    def stalled(self, since: float) -> bool:
        """Whether something waits for an answer, and nothing was answered for long, nor before `since`."""
        oldest = next(iter(self._calls.values()), None)
        return oldest is not None and time.monotonic() - max(oldest, since, self.answered_at) > STALL_SECONDS

    def trip(self, reason: str) -> None:
        """The store is gone: from here on nobody waits for it."""
        if self.opened_at is not None:
            return
        self.opened_at, self.reason = time.time(), reason
        self._next_trial = time.monotonic() + _TRIAL_SECONDS[1]
        logger.warning("the store is away (%s): open streams go on from memory until it is back", reason)
        for scope in tuple(self._scopes):
            scope.cancel()
        self._tell()

    @contextmanager
    def cutting(self) -> Generator[None]:
        """Do not wait for the end of an operation any longer than until the store is found gone.

        Raises:
            StoreUnavailable: that happened. The operation may have been carried out.
        """
        scope = anyio.CancelScope()
        self._scopes.add(scope)
        try:
            with scope:
                yield
        finally:
            self._scopes.discard(scope)
        if scope.cancelled_caught:
            raise StoreUnavailable(f"the store is away ({self.reason})")

    async def closed(self) -> None:
        """Return when the store is not taken to be gone."""
        while self.opened_at is not None:
            await self._changed.wait()

    async def hold(self, seconds: float) -> None:
        """Keep a request waiting for the end of an outage, but not for long, and not too many of them."""
        if self.opened_at is None or self._held >= _MOST_HELD:
            return
        self._held += 1
        try:
            with anyio.move_on_after(seconds):
                await self.closed()
        finally:
            self._held -= 1

    def _close(self) -> None:
        assert self.opened_at is not None  # noqa: S101 - the caller looked
        logger.warning("the store is back after %.1f s", time.time() - self.opened_at)
        self.opened_at = None
        self._tell()

    def _tell(self) -> None:
        self._observer.store_mode("outage" if self.open else "normal")
        changed, self._changed = self._changed, anyio.Event()
        changed.set()
        for call in self._on_change:
            call()

"""One timer for everything that may take too long, instead of one for each."""

import time
from collections import deque
from collections.abc import Callable
from typing import Final

import anyio

__all__ = ["Alarms"]

_TICK_SECONDS: Final = 0.05


class Alarms:
    """Calls back after a while, the same for all. Most have been settled before, and cost no timer.

    A callback must not block or raise.
    """

    def __init__(self) -> None:
        self._pending: deque[tuple[float, Callable[[], None]]] = deque()
        self._any = anyio.Event()

    def set(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call `callback` after `seconds`, up to a twentieth of a second later.

        In order: one that is set with fewer seconds than another waits for that one.
        """
        self._pending.append((time.monotonic() + seconds, callback))
        if len(self._pending) == 1:
            self._any.set()

    async def run(self) -> None:
        """Watch the clock while anything is pending. Never returns."""
        while True:
            await self._any.wait()
            self._any = anyio.Event()
            while self._pending:
                await anyio.sleep(_TICK_SECONDS)
                self._ring()

    def _ring(self) -> None:
        now = time.monotonic()
        while self._pending and self._pending[0][0] <= now:
            self._pending.popleft()[1]()

"""One timer for everything that may take too long, instead of one for each."""

import heapq
import itertools
from typing import Final

import anyio

__all__ = ["Alarms"]

_TICK_SECONDS: Final = 0.05


class Alarms:
    """Sets events after a while. Most are set by something else before, and cost no timer."""

    def __init__(self) -> None:
        self._pending: list[tuple[float, int, anyio.Event]] = []
        self._order = itertools.count()
        self._any = anyio.Event()

    def set(self, seconds: float, event: anyio.Event) -> None:
        """Set `event` after `seconds`, up to a twentieth of a second later."""
        heapq.heappush(self._pending, (anyio.current_time() + seconds, next(self._order), event))
        self._any.set()

    async def run(self) -> None:
        """Watch the clock while anything is pending. Never returns."""
        while True:
            await self._any.wait()
            while self._pending:
                await anyio.sleep(_TICK_SECONDS)
                self._ring()
            self._any = anyio.Event()

    def _ring(self) -> None:
        now = anyio.current_time()
        while self._pending and self._pending[0][0] <= now:
            heapq.heappop(self._pending)[2].set()

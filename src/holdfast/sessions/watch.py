"""Finding out, within a second, that the store is gone, and that it is back."""

import random
import time
from collections.abc import Awaitable, Callable
from typing import Final

import anyio

from holdfast.errors import StoreError, StoreUnavailable
from holdfast.sessions.breaker import Breaker

__all__ = ["Watch"]

_TICK_SECONDS: Final = 0.1
_PROBE_SECONDS: Final = 0.4
_LATE_SECONDS: Final = 0.15
"""An event loop that is later than this has not looked whether there was an answer."""

_PAUSE_SECONDS: Final = (0.1, 1.0)


class Watch:
    """Asks the store whether it is there, when there is reason to.

    Args:
        breaker: what it decides about.
        ask: the cheapest question to the store. It is asked past the breaker.
    """

    def __init__(self, breaker: Breaker, ask: Callable[[], Awaitable[object]]) -> None:
        self._breaker = breaker
        self._ask = ask
        self._calm_since = time.monotonic()

    async def run(self) -> None:
        """Watch. Never returns."""
        pause = _PAUSE_SECONDS[0]
        while True:
            if self._breaker.open:
                await anyio.sleep(pause * random.uniform(0.5, 1))
                pause = min(2 * pause, _PAUSE_SECONDS[1])
            else:
                pause = _PAUSE_SECONDS[0]
                await self._tick()
                if not (self._breaker.suspected or self._breaker.stalled(self._calm_since)):
                    continue
            await self._probe()

    async def _tick(self) -> None:
        due = time.monotonic() + _TICK_SECONDS
        await anyio.sleep(_TICK_SECONDS)
        if time.monotonic() - due > _LATE_SECONDS:
            self._calm_since = time.monotonic()  # this process was held up, perhaps not the store

    async def _probe(self) -> None:
        """Ask. A refusal neither opens nor closes: somebody is there, but that does not mean of use."""
        self._breaker.suspected = False
        reason = f"no answer within {_PROBE_SECONDS:g} s"
        began = time.monotonic()
        with anyio.move_on_after(_PROBE_SECONDS) as scope:
            try:
                await self._ask()
            except StoreUnavailable as error:
                reason = type(error).__name__
            except StoreError:
                return
            else:
                self._breaker.answered()
                return
        if scope.cancelled_caught and time.monotonic() - began > _PROBE_SECONDS + _LATE_SECONDS:
            self._breaker.suspected = True  # nobody listened for the answer: ask again
            return
        self._breaker.trip(reason)

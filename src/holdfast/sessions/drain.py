"""The end of a replica, step by step, so that no client loses more than a connection."""

import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final, Self

import anyio

from holdfast.sessions.hub import Hub, Reader
from holdfast.sessions.running import Running

__all__ = ["PAUSE_SECONDS", "Drain", "DrainPlan"]

logger = logging.getLogger("holdfast")

_RECONNECTS_PER_SECOND: Final = 1000
_LONGEST_SPREAD_MILLISECONDS: Final = 30_000
PAUSE_SECONDS: Final = 5.0
_WATCHED_SECONDS: Final = 60.0
_CLOSING_SECONDS: Final = 1.0
"""How long answers that were given at the deadline may take to be stored and sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DrainPlan:
    """How a replica ends.

    Attributes:
        seconds: how long requests may take to finish, from the end of the pause on.
        pause_seconds: how long everything is served as before, for the balancer to notice. None: 5 s if
            somebody asked for the readiness of this replica within the last minute, else no pause.
        retry_milliseconds: how long clients that are sent away should at least wait.
        hand_over: streams of requests can be resumed elsewhere: half-time sends their clients there.
    """

    seconds: float
    pause_seconds: float | None = None
    retry_milliseconds: int = 1000
    hand_over: bool = True

    def without_pause(self) -> Self:
        """The same, but beginning at once."""
        return replace(self, pause_seconds=0.0)


class Drain:
    """Ends what this replica does for clients; see `DrainPlan`. Begins once, and can be hurried.

    1. At once, no session is opened here any more, and readiness says so.
    2. After the pause, whoever only listens is sent to other replicas.
    3. At half-time, so are the clients of running requests, if they can resume.
    4. At the deadline, what still runs is answered with an error that says why.
    """

    def __init__(self, hub: Hub, running: Running) -> None:
        self.begun = False
        self.leaving = False
        self.over = False
        self._hub = hub
        self._running = running
        self._plan = DrainPlan(seconds=0)
        self._pause_seconds = 0.0
        self._then: Callable[[], object] | None = None
        self._at_end: Callable[[], object] | None = None
        self._began = anyio.Event()
        self._hurried = anyio.Event()
        self._deadline = -math.inf
        self._watched_at = -math.inf

    def watched(self) -> None:
        """Somebody asked whether this replica is ready, and will ask again."""
        self._watched_at = time.monotonic()

    def begin(
        self,
        plan: DrainPlan,
        *,
        then: Callable[[], object] | None = None,
        at_end: Callable[[], object] | None = None,
    ) -> None:
        """Begin; a second time changes nothing.

        Args:
            plan: how.
            then: called after the pause.
            at_end: called when nothing runs here any more, at the latest after the deadline.
        """
        if self.begun:
            return
        self.begun = True
        self._plan, self._then, self._at_end = plan, then, at_end
        self._pause_seconds = self._choose_pause(plan)
        self._deadline = time.monotonic() + self._pause_seconds + plan.seconds
        self._began.set()

    def hurry(self) -> None:
        """Go through the rest at once."""
        self._deadline = min(self._deadline, time.monotonic())
        self._hurried.set()

    async def run(self) -> None:
        """Wait for the beginning, and see it through."""
        await self._began.wait()
        plan = self._plan
        with anyio.move_on_after(self._pause_seconds):
            await self._hurried.wait()
        if self._then is not None:
            self._then()
        self.leaving = True
        self._send_away([reader for reader in self._hub.readers() if not reader.writes])
        await self._work_on(plan.seconds / 2)
        if plan.hand_over and not self._hurried.is_set():
            self._send_away([reader for reader in self._hub.readers() if reader.primed])
        await self._work_on(self._deadline - time.monotonic())
        await self._cut_off()
        if self._at_end is not None:
            self._at_end()

    async def last_handlers(self) -> None:
        """Wait for the handlers at work as long as they were promised. Not begun: not at all."""
        patience = self._deadline + _CLOSING_SECONDS - time.monotonic()
        with anyio.move_on_after(max(0.0, patience), shield=True):
            await self._running.empty()

    def _choose_pause(self, plan: DrainPlan) -> float:
        if plan.pause_seconds is not None:
            return plan.pause_seconds
        return PAUSE_SECONDS if time.monotonic() - self._watched_at < _WATCHED_SECONDS else 0.0

    async def _work_on(self, seconds: float) -> None:
        with anyio.move_on_after(max(0.0, seconds)):
            if self._at_end is None:
                await self._hurried.wait()
            else:
                await self._running.empty()

    async def _cut_off(self) -> None:
        self.over = True
        if len(self._running):
            logger.warning("requests that did not finish in time are cut off: %d", len(self._running))
            self._running.stop()
            await anyio.sleep(_CLOSING_SECONDS)  # streams end by themselves when their answer was written
        self._hub.close(retry_milliseconds=self._plan.retry_milliseconds)

    def _send_away(self, readers: list[Reader]) -> None:
        """Close streams so that their clients come back elsewhere, and not all in the same moment."""
        least = self._plan.retry_milliseconds
        spread = min(_LONGEST_SPREAD_MILLISECONDS, max(least, len(readers) * 1000 // _RECONNECTS_PER_SECOND))
        for reader in readers:
            reader.close(least + random.randint(0, spread))

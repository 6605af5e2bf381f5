"""A store that could not be reached when the process started, and what serves until it can."""

import asyncio
import logging
import random
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final, Self, cast

from typing_extensions import override

from holdfast.backends.fallback.moving import Mover
from holdfast.backends.fallback.parts import BroadcastPart, Part, SessionPart
from holdfast.backends.fallback.turnstile import Turnstile
from holdfast.errors import StoreError, StoreUnavailable
from holdfast.sessions.delegating import DelegatingBackend
from holdfast.sessions.diagnosis import Diagnosis
from holdfast.sessions.protocols import (
    Backend,
    BroadcastLog,
    Bus,
    EventLog,
    Inbox,
    ReplicaDirectory,
    SessionStore,
    SubscriptionIndex,
    Transfer,
)
from holdfast.sessions.pulse import DEAD_AFTER_SECONDS

__all__ = ["FallbackBackend"]

logger = logging.getLogger("holdfast")

_RETRY_SECONDS: Final = (0.5, 2.0)
_MOVE_SECONDS: Final = 30.0
"""How long requests may be held up by the move."""


class FallbackBackend(DelegatingBackend):
    """A store, or memory as long as that was never reached (decision 0045). asyncio only.

    What is opened meanwhile moves into the store when that appears, and goes on there under the same ids and
    at the same positions. Until then this process is an island: a session that it does not know may be on
    another one, so that is never called gone. Once the store was reached there is no way back to memory: an
    outage is the business of the breaker and the spool.

    Args:
        make: a new, unconnected backend for the store; all of them with the id of `standby`.
        standby: keeps sessions in the memory of this process.

    Attributes:
        fallback_since: when it began, in seconds since 1970; None: the store serves.
        sessions_kept_back: sessions that did not move, since the store had others of their ids.
    """

    def __init__(self, make: Callable[[], Backend], standby: Backend) -> None:
        super().__init__(standby)
        self.fallback_since: float | None = None
        self.sessions_kept_back = 0
        self._make = make
        self._turnstile = Turnstile(standby)
        self._mover = Mover(standby)
        self._returning: asyncio.Task[None] | None = None
        self._broadcast_part = BroadcastPart(self._turnstile)
        self._session_part = SessionPart(self._turnstile, self._is_island)
        self._log = cast("EventLog", Part(self._turnstile, "log"))
        self._broadcasts = cast("BroadcastLog", self._broadcast_part)
        self._sessions = cast("SessionStore", self._session_part)
        self._inbox = cast("Inbox", Part(self._turnstile, "inbox"))
        self._bus = cast("Bus", Part(self._turnstile, "bus"))
        self._subscriptions = cast("SubscriptionIndex", Part(self._turnstile, "subscriptions"))
        self._replicas = cast("ReplicaDirectory", Part(self._turnstile, "replicas"))
        self._transfer = cast("Transfer", Part(self._turnstile, "transfer"))
        self._diagnosis = cast("Diagnosis", Part(self._turnstile, "diagnosis"))

    def _is_island(self) -> bool:
        return self.fallback_since is not None

    @property
    def sessions_in_memory(self) -> int:
        """About how many sessions end if this process does now; some may have expired."""
        return len(self._session_part.here) if self._is_island() else 0

    @override
    async def __aenter__(self) -> Self:
        """Connect, or begin in memory.

        Raises:
            StoreRefused: the store is there and will not have us: memory is no answer to that.
        """
        primary = self._make()
        try:
            await primary.__aenter__()
        except StoreUnavailable as error:
            self.fallback_since = time.time()
            logger.warning(
                "Using memory fallback instead of Redis: %s. Sessions are in this process only until the "
                "store can be reached; then they move there",
                error,
            )
            self._returning = asyncio.create_task(self._return(), name="holdfast fallback")
        else:
            self._turnstile.present = primary
        return self

    @override
    async def __aexit__(self, *exc_info: object) -> None:
        if self._returning is not None:
            self._returning.cancel()
            with suppress(asyncio.CancelledError):
                await self._returning
        if self._turnstile.present is not self.inner:
            await self._turnstile.present.__aexit__(*exc_info)

    async def _return(self) -> None:
        while self.fallback_since is not None:
            await asyncio.sleep(random.uniform(*_RETRY_SECONDS))
            primary = self._make()
            try:
                await primary.__aenter__()
            except StoreError as error:
                logger.info("the store is still not there: %s", error)
                continue
            except Exception:  # the border of the task: nobody else would try again
                logger.exception("the store could not be opened")
                continue
            try:
                await self._move_to(primary)
            except BaseException as error:
                await primary.__aexit__(None, None, None)
                if not isinstance(error, StoreError | TimeoutError):
                    raise
                logger.warning(
                    "the sessions could not be moved into the store, will be tried again: %s", error
                )

    async def _move_to(self, primary: Backend) -> None:
        began = time.monotonic()
        async with self._turnstile.closed():
            top = await primary.broadcasts.top()
            await primary.replicas.beat(DEAD_AFTER_SECONDS)  # or others take what moves for a dead one's
            async with asyncio.timeout(_MOVE_SECONDS):
                moved = await self._mover.move(primary, top)
            self.sessions_kept_back = self._mover.kept_back
            self._broadcast_part.begin_at(top)
            await self._turnstile.switch(primary)
            self.fallback_since = None
        seconds = time.monotonic() - began
        logger.warning("the store is there: %d sessions moved into it from memory in %.2f s", moved, seconds)

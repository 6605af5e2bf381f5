"""Who of the fleet lives: this replica shows that it does, and judges the others with care."""

import math
import time
from typing import Final

from holdfast.sessions.protocols import ReplicaDirectory
from holdfast.sessions.types import ReplicaId

__all__ = ["DEAD_AFTER_SECONDS", "HEARTBEAT_SECONDS", "Pulse"]

HEARTBEAT_SECONDS: Final = 2.0
DEAD_AFTER_SECONDS: Final = 6.0
SEEN_AGAIN_SECONDS: Final = 5.0
"""After an outage of the store, a living replica has reconnected and shown itself within this."""

SETTLED: Final = ReplicaId("settled")
"""Lives while any replica has reached the store for so long that it judges the others."""

SETTLED_SECONDS: Final = 3.0
"""Longer than from beat to beat, and shorter than any outage in which a living replica's beat runs out."""


class Pulse:
    """The heartbeat of this replica, and what it makes of those of others.

    Attributes:
        beat_at: when the store took the last one.
    """

    def __init__(self, directory: ReplicaDirectory) -> None:
        self.beat_at = -math.inf
        self._directory = directory
        self._alive_until: dict[ReplicaId, float] = {}
        self._reached_since = math.inf
        self._new = True

    async def beat(self) -> None:
        """Show the others that this replica lives."""
        began = time.monotonic()
        try:
            await self._directory.beat(DEAD_AFTER_SECONDS)
        except BaseException:
            self._reached_since = math.inf
            raise
        self.beat_at = time.monotonic()
        if self.beat_at - began > HEARTBEAT_SECONDS:
            self._reached_since = math.inf  # it slept through an outage
        self._reached_since = min(self._reached_since, self.beat_at)
        if self._new and await self._directory.alive(SETTLED):
            self._reached_since = -math.inf
        self._new = False
        if self._judges:
            await self._directory.beat(SETTLED_SECONDS, of=SETTLED)

    def look_again(self) -> None:
        """Forget who was seen alive a moment ago: that would hide a death."""
        self._alive_until.clear()

    async def is_alive(self, replica: ReplicaId) -> bool:
        """Whether a replica lives; asked of the store at most once per heartbeat.

        After an outage of the store everybody's heartbeat has run out. So a replica that went through one
        judges nobody until it has reached the store for as long as a living one needs to be seen again. One
        that has just started cannot know whether there was one, unless somebody else was there all along.
        """
        if self._alive_until.get(replica, 0.0) > time.monotonic():
            return True
        if not await self._directory.alive(replica):
            self._alive_until.pop(replica, None)
            return not self._judges
        self._alive_until[replica] = time.monotonic() + HEARTBEAT_SECONDS
        return True

    @property
    def _judges(self) -> bool:
        return time.monotonic() - self._reached_since >= SEEN_AGAIN_SECONDS

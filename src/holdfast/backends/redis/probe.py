"""Finds out that announcements do not arrive although every connection answers."""

import asyncio
import itertools
import logging
import random
from typing import Final

from holdfast.backends.redis.announcements import Announcements
from holdfast.backends.redis.client import Client
from holdfast.backends.redis.hints import Hints
from holdfast.backends.redis.options import RedisOptions
from holdfast.errors import StoreError

__all__ = ["Probe"]

logger = logging.getLogger("holdfast.backends.redis")

_RAREST: Final = 10


class Probe:
    """Announces something to its own process now and then; what does not come back costs the connection.

    That is how a server is noticed which answers PING and hears nothing any more: an old master that was
    cut off, a node that is no longer in the cluster, the old one behind a name that points elsewhere now.
    """

    def __init__(
        self,
        client: Client,
        announcements: Announcements,
        hints: Hints,
        channel: bytes,
        options: RedisOptions,
    ) -> None:
        self._client = client
        self._announcements = announcements
        self._channel = channel
        self._seconds = options.probe_seconds
        self._numbers = itertools.count()
        self._waiting: tuple[bytes, asyncio.Event] | None = None
        self._task: asyncio.Task[None] | None = None
        hints.probed = self._heard

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run(), name="holdfast redis probe")

    async def close(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _run(self) -> None:
        pauses = 1
        while True:
            await asyncio.sleep(self._seconds * pauses * random.uniform(0.75, 1.25))
            listening_to = self._announcements.endpoint
            if listening_to is None or await self._arrives():
                pauses = 1
            elif self._announcements.endpoint == listening_to:
                pauses = min(pauses * 2, _RAREST)
                self._announcements.reconnect(f"announcements do not arrive from {listening_to}")

    async def _arrives(self) -> bool:
        """Whether an announcement comes back. When it cannot be made, that says nothing."""
        probe, heard = b"1 p %d" % next(self._numbers), asyncio.Event()
        self._waiting = probe, heard
        try:
            await self._client.command("PUBLISH", self._channel, probe, safe=True)
            async with asyncio.timeout(self._seconds):
                await heard.wait()
        except StoreError:
            return True
        except TimeoutError:
            return False
        return True

    def _heard(self, hint: bytes) -> None:
        if self._waiting is not None and self._waiting[0] == hint:
            self._waiting[1].set()

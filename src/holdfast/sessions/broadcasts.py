"""What is said to all sessions: stored once for the fleet, held once for all readers of this process."""

import itertools
import random
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Final

import anyio
import anyio.lowlevel

from holdfast.errors import PositionLost, StoreError
from holdfast.sessions.breaker import STORE_RETRY_SECONDS
from holdfast.sessions.hub import Hub
from holdfast.sessions.protocols import BroadcastLog
from holdfast.sessions.types import GENESIS, AppendKey, Event, Position, ReplicaId

__all__ = ["Broadcasts", "BroadcastsLost", "Listening"]

_HELD_EVENTS: Final = 256
_HELD_BYTES: Final = 2 * 2**20
"""Of the newest broadcasts. A reader that is further behind reads the log by itself."""

_PAGE: Final = 500
_WOKEN_AT_ONCE: Final = 32
"""Readers woken before others get their turn: each of them writes to its client."""


class BroadcastsLost(PositionLost):
    """A reader's next broadcasts are not stored any more. The `resume_` fields say where it can go on."""


class Broadcasts:
    """Sends to all sessions, and follows what others send: one look at the store for all readers here.

    Args:
        log: the shared log.
        hub: the readers of this process.
        replica: this process.
    """

    def __init__(self, log: BroadcastLog, hub: Hub, replica: ReplicaId) -> None:
        self.log = log
        self._hub = hub
        self._replica = replica
        self._counter = itertools.count(1)
        self._sending = anyio.Lock()
        self._held: list[Event] = []
        self._held_bytes = 0
        self._start = self._top = GENESIS
        self._stale = False
        self._news = anyio.Event()

    async def send(self, payload: bytes) -> Event:
        """Send a JSON-RPC notification to every session of the fleet: one append, one announcement.

        Sessions whose client is away get it when it comes back. It need not be running here.

        Raises:
            StoreError: it may not have been stored.
        """
        # One at a time: the store remembers only the last key of each writer.
        async with self._sending:
            key = AppendKey(self._replica, next(self._counter))
            event = await self.log.append(payload, key=key)
        self._heard(event)
        return event

    async def top(self) -> Position:
        """Where the log ends now. If this process had missed some of it, it catches up."""
        top = await self.log.top()
        if top != self._top:
            self._heard(None)
        return top

    @asynccontextmanager
    async def listening(self) -> AsyncGenerator[None]:
        """Hear what others send, for as long as the context lasts."""
        async with self.log.watch(self._heard) as top:
            self._begin(top)
            self._heard(None)  # what came before the line above was forgotten by it
            yield

    async def run(self) -> None:
        """Wake the readers of this process whenever there is something new."""
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            await self._catch_up()
            await self.wake_readers()

    def held_after(self, position: Position) -> Sequence[Event] | None:
        """What came after a position, empty if nothing did; None: the log must be read."""
        if position.epoch != self._top.epoch and (position != GENESIS or self._start.offset):
            return None
        first = position.offset - self._start.offset
        return None if first < 0 else self._held[first : first + _PAGE]

    def _heard(self, event: Event | None) -> None:
        if event is None or not self._follows(event):
            self._stale = True
        self._news.set()

    def _follows(self, event: Event) -> bool:
        """Hold an event if it is the next one. False: there are others before it."""
        if event.position.epoch != self._top.epoch:
            if self._top != GENESIS or event.previous:
                return False
            self._begin(Position(event.position.epoch, 0))
        if event.position.offset <= self._top.offset:
            return True
        if event.previous != self._top.offset:
            return False
        self._held.append(event)
        self._held_bytes += len(event.payload)
        self._top = event.position
        while len(self._held) > _HELD_EVENTS or self._held_bytes > _HELD_BYTES:
            oldest = self._held.pop(0)
            self._held_bytes -= len(oldest.payload)
            self._start = oldest.position
        return True

    def _begin(self, position: Position) -> None:
        self._held, self._held_bytes = [], 0
        self._start = self._top = position

    async def _catch_up(self) -> None:
        while self._stale:
            self._stale = False
            try:
                page = await self.log.read(after=self._top, limit=_PAGE)
            except PositionLost as lost:
                # Readers find out by themselves, from their own places.
                self._begin(Position(lost.resume_epoch, lost.resume_offset))
                self._stale = True
            except StoreError:
                self._stale = True
                await anyio.sleep(random.uniform(*STORE_RETRY_SECONDS))
            else:
                if page.cursor.epoch != self._top.epoch:
                    self._begin(Position(page.cursor.epoch, self._top.offset))
                for event in page.events:
                    self._follows(event)
                self._stale = self._stale or not page.complete

    async def wake_readers(self) -> None:
        """Let all readers of standalone streams look, some at a time."""
        for number, reader in enumerate(self._hub.standalone_readers(), 1):
            reader.nudge()
            if number % _WOKEN_AT_ONCE == 0:
                await anyio.lowlevel.checkpoint()


class Listening:
    """One reader's place in the broadcast log."""

    def __init__(self, broadcasts: Broadcasts, position: Position) -> None:
        self.position = position
        self._broadcasts = broadcasts

    async def next(self) -> Sequence[Event]:
        """What comes next; empty: nothing yet. May be cancelled without losing an event.

        Raises:
            BroadcastsLost: it was trimmed, or the log was lost.
            StoreError: the log cannot be read now.
        """
        held = self._broadcasts.held_after(self.position)
        if held is None:
            try:
                page = await self._broadcasts.log.read(after=self.position, limit=_PAGE)
            except PositionLost as lost:
                raise BroadcastsLost(
                    lost.reason, resume_offset=lost.resume_offset, resume_epoch=lost.resume_epoch
                ) from lost
            self.position = page.cursor
            return page.events
        if held:
            self.position = held[-1].position
        return held

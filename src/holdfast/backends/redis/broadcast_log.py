"""What is said to all sessions: one stream for the whole fleet, one announcement for each event."""

import itertools
import logging
import secrets
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Any

from typing_extensions import override

from holdfast.backends.redis import scripts
from holdfast.backends.redis.announcements import Announcements
from holdfast.backends.redis.client import Client
from holdfast.backends.redis.keys import Keys, encode, quote_word
from holdfast.backends.redis.options import RedisOptions
from holdfast.errors import PositionLost
from holdfast.sessions.protocols import BroadcastLog
from holdfast.sessions.types import BROADCAST, GENESIS, AppendKey, Event, Page, Position

__all__ = ["RedisBroadcastLog"]

logger = logging.getLogger("holdfast.backends.redis")

_BEYOND_ALL = 2**53
_PARTS_WITH_PAYLOAD = 4


class RedisBroadcastLog(BroadcastLog):
    """What is said to all sessions."""

    def __init__(
        self, client: Client, announcements: Announcements, keys: Keys, options: RedisOptions
    ) -> None:
        self._client = client
        self._announcements = announcements
        self._keys = keys.broadcasts
        self._channel = keys.broadcast_channel
        self._options = options
        self._ttl_ms = round(options.broadcast_seconds * 1000)
        self._heard: list[Callable[[Event | None], None]] = []
        self._seed = secrets.token_hex(6)
        self._count = itertools.count()

    @override
    async def append(self, payload: bytes, *, key: AppendKey | None = None) -> Event:
        args = (
            self._epoch(),
            payload,
            quote_word(key.writer) if key else "",
            key.counter if key else "",
            self._options.max_events,
            self._options.max_bytes,
            self._ttl_ms,
            self._channel,
            self._options.inline_bytes,
        )
        reply = await self._client.run(scripts.BROADCAST, self._keys, args, safe=key is not None)
        match reply:
            case [b"ok", epoch, offset]:
                return _event(epoch, offset, payload)
            case [b"again", epoch, offset, stored]:
                return _event(epoch, offset, payload if stored is None else stored)
            case _:
                raise ValueError(f"append key: this writer is past its number {args[3]}: counters must grow")

    @override
    async def read(self, *, after: Position, limit: int) -> Page:
        offset = after.offset if 0 <= after.offset < _BEYOND_ALL else _BEYOND_ALL
        args = (self._epoch(), encode(after.epoch), offset, max(1, limit), self._options.page_bytes)
        status, *rest = await self._client.run(scripts.BROADCAST_READ, self._keys, args, safe=True)
        if status != b"ok":
            raise PositionLost(status.decode(), resume_offset=rest[0], resume_epoch=rest[1].decode())
        epoch, cursor, complete, flat = rest
        events = tuple(_event(epoch, flat[i], flat[i + 1]) for i in range(0, len(flat), 2))
        return Page(events, Position(epoch.decode(), cursor), bool(complete))

    @override
    async def top(self) -> Position:
        args = (self._epoch(), self._ttl_ms)
        reply = await self._client.run(scripts.BROADCAST_TOP, self._keys, args, safe=True)
        return GENESIS if reply is None else Position(reply[0].decode(), reply[1])

    @override
    @asynccontextmanager
    async def watch(self, heard: Callable[[Event | None], None]) -> AsyncGenerator[Position]:
        self._heard.append(heard)
        try:
            async with self._announcements.subscribed(self._channel, lambda hint: heard(_announced(hint))):
                yield await self.top()
        finally:
            self._heard.remove(heard)

    def everything(self) -> None:
        """Announcements may have been lost: everybody looks again."""
        for heard in tuple(self._heard):
            try:
                heard(None)
            except Exception:  # the border of the fan-out
                logger.exception("a listener for broadcasts raised")

    def _epoch(self) -> str:
        """A name for the next life of the log, should the script have to begin one. Each is used once."""
        return f"{self._seed}{next(self._count):x}"


def _event(epoch: bytes, offset: int, payload: bytes) -> Event:
    return Event(BROADCAST, Position(epoch.decode(), offset), offset - 1, payload)


def _announced(hint: bytes) -> Event | None:
    """The event in an announcement; None if there is none in it, or a newer release sent it."""
    parts: list[Any] = hint.split(b" ", _PARTS_WITH_PAYLOAD - 1)
    if len(parts) < _PARTS_WITH_PAYLOAD or parts[0] != b"1":
        return None
    return _event(parts[1], int(parts[2]), parts[3])

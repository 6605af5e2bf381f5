"""`BroadcastLog` whose events are wrapped."""

import logging
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from typing import Final

from typing_extensions import override

from holdfast.backends.envelope.codec import Codec, DamagedPayload, Purpose
from holdfast.errors import PositionLost
from holdfast.sessions.protocols import BroadcastLog
from holdfast.sessions.types import AppendKey, Event, Page, Position

__all__ = ["EnvelopeBroadcastLog"]

logger = logging.getLogger("holdfast")

_PURPOSE: Final = Purpose("{broadcast}", "broadcast")
"""No session can have this id."""


class EnvelopeBroadcastLog(BroadcastLog):
    """Passes all calls on, payloads wrapped on the way in and unwrapped on the way out.

    An event that cannot be unwrapped any more is a gap that begins and ends there.
    """

    def __init__(self, inner: BroadcastLog, codec: Codec) -> None:
        self._inner = inner
        self._codec = codec

    @override
    async def append(self, payload: bytes, *, key: AppendKey | None = None) -> Event:
        wrapped = await self._codec.wrap(payload, _PURPOSE)
        event = await self._inner.append(wrapped, key=key)
        if event.payload is not wrapped:  # this key was used before: what was stored then counts
            return replace(event, payload=await self._codec.unwrap(event.payload, _PURPOSE))
        return replace(event, payload=payload)

    @override
    async def read(self, *, after: Position, limit: int) -> Page:
        page = await self._inner.read(after=after, limit=limit)
        events: list[Event] = []
        for event in page.events:
            try:
                payload = await self._codec.unwrap(event.payload, _PURPOSE)
            except DamagedPayload as error:
                if events:
                    return replace(page, events=events, cursor=events[-1].position, complete=False)
                logger.warning("an event for all sessions is lost: %s", error)
                lost = event.position
                raise PositionLost("damaged", resume_offset=lost.offset, resume_epoch=lost.epoch) from error
            events.append(replace(event, payload=payload))
        return replace(page, events=events)

    @override
    async def top(self) -> Position:
        return await self._inner.top()

    @override
    def watch(self, heard: Callable[[Event | None], None]) -> AbstractAsyncContextManager[Position]:
        def unwrapped(event: Event | None) -> None:
            heard(None if event is None else self._codec.announced(event, _PURPOSE))

        return self._inner.watch(unwrapped)

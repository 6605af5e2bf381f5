"""`EventLog` whose events are wrapped."""

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import replace

from typing_extensions import override

from holdfast.backends.envelope.codec import Codec, DamagedPayload, Purpose
from holdfast.errors import PositionLost
from holdfast.sessions.protocols import EventLog
from holdfast.sessions.types import (
    AppendKey,
    Claim,
    Event,
    Page,
    Position,
    Renewed,
    RequestId,
    SessionId,
    StreamId,
)

__all__ = ["EnvelopeEventLog"]

logger = logging.getLogger("holdfast")


class EnvelopeEventLog(EventLog):
    """Passes all calls on, payloads wrapped on the way in and unwrapped on the way out.

    An event that cannot be unwrapped any more is a gap that begins and ends there.
    """

    def __init__(self, inner: EventLog, codec: Codec) -> None:
        self._inner = inner
        self._codec = codec

    @override
    async def open_stream(self, session: SessionId, stream: StreamId, request_id: RequestId) -> Position:
        return await self._inner.open_stream(session, stream, request_id)

    @override
    async def append(
        self,
        session: SessionId,
        stream: StreamId,
        payload: bytes,
        *,
        key: AppendKey | None = None,
        final: bool = False,
        expects: str | None = None,
    ) -> Event:
        wrapped = await self._codec.wrap(payload, _purpose(session, stream))
        event = await self._inner.append(session, stream, wrapped, key=key, final=final, expects=expects)
        if event.payload is not wrapped:  # this key was used before: what was stored then counts
            return await self._unwrapped(session, event)
        return event if wrapped is payload else replace(event, payload=payload)

    @override
    async def read(self, session: SessionId, stream: StreamId, *, after: Position, limit: int) -> Page:
        try:
            page = await self._inner.read(session, stream, after=after, limit=limit)
        except PositionLost as lost:
            lost.unanswered = await self._payloads(lost.unanswered, _purpose(session, stream))
            raise
        events: list[Event] = []
        for event in page.events:
            try:
                events.append(await self._unwrapped(session, event))
            except DamagedPayload as error:
                if events:
                    return replace(page, events=events, cursor=events[-1].position, complete=False)
                logger.warning("an event of a session is lost: %s", error)
                at = event.position
                raise PositionLost("damaged", resume_offset=at.offset, resume_epoch=at.epoch) from error
        return replace(page, events=events)

    @override
    def watch(
        self, session: SessionId, heard: Callable[[Event | None], None]
    ) -> AbstractAsyncContextManager[Position]:
        def unwrapped(event: Event | None) -> None:
            heard(None if event is None else self._codec.announced(event, _purpose(session, event.stream)))

        return self._inner.watch(session, unwrapped)

    @override
    async def renew(self, sessions: Sequence[SessionId]) -> Sequence[Renewed | None]:
        return await self._inner.renew(sessions)

    @override
    async def claim(self, session: SessionId, reader: str, *, after: Position | None) -> Claim:
        claim = await self._inner.claim(session, reader, after=after)
        unanswered: list[Event] = []
        for event in claim.unanswered:
            try:
                unanswered.append(await self._unwrapped(session, event))
            except DamagedPayload as error:
                logger.warning("a request to a client is lost: %s", error)
        return replace(claim, unanswered=unanswered)

    async def _payloads(self, wrapped: Sequence[bytes], purpose: Purpose) -> tuple[bytes, ...]:
        payloads: list[bytes] = []
        for one in wrapped:
            try:
                payloads.append(await self._codec.unwrap(one, purpose))
            except DamagedPayload as error:
                logger.warning("a request to a client is lost: %s", error)
        return tuple(payloads)

    async def _unwrapped(self, session: SessionId, event: Event) -> Event:
        payload = await self._codec.unwrap(event.payload, _purpose(session, event.stream))
        return event if payload is event.payload else replace(event, payload=payload)


def _purpose(session: SessionId, stream: StreamId) -> Purpose:
    return Purpose(session, f"stream {stream}")

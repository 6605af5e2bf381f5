"""Appending through an outage: what the store does not take now waits, is shown, and is stored later."""

import logging
import random
import time
from typing import Final

import anyio

from holdfast.errors import SessionGone, StoreError, StoreUnavailable, StreamError
from holdfast.observe import NOBODY, Observer
from holdfast.sessions.breaker import Breaker
from holdfast.sessions.hub import Hub
from holdfast.sessions.protocols import EventLog
from holdfast.sessions.spool import Spool, Spooled, Spools
from holdfast.sessions.types import (
    UNSTORED,
    AppendKey,
    Event,
    Position,
    RequestId,
    SessionId,
    StreamId,
    shorten,
)

__all__ = ["Spooler"]

logger = logging.getLogger("holdfast")

_AT_ONCE: Final = 32
"""Streams whose spools are stored side by side; each of them in its order."""

_PATIENCE_SECONDS: Final = 1.0
"""How long the store may fail to take what belongs to one stream until that goes on as in an outage."""

_RETRY_SECONDS: Final = (0.1, 0.5)


class Spooler:
    """Appends events. Callers see to it that one stream has one append under way in this process."""

    def __init__(self, log: EventLog, hub: Hub, breaker: Breaker, observer: Observer = NOBODY) -> None:
        self.spools = Spools()
        self._log = log
        self._hub = hub
        self._breaker = breaker
        self._observer = observer
        breaker.on_change(self._changed)

    async def open_stream(self, session: SessionId, stream: StreamId, request_id: RequestId) -> Position:
        """Record a stream. `UNSTORED`: the store is away; it is recorded before anything is stored on it.

        Raises:
            SessionGone: there is no such session.
        """
        try:
            with self._breaker.cutting():
                return await self._log.open_stream(session, stream, request_id)
        except StoreUnavailable as error:
            self._observer.store_failed("open_stream", error)
            self.spools.begin(session, stream, opens=request_id)
            return UNSTORED

    async def append(
        self,
        session: SessionId,
        stream: StreamId,
        payload: bytes,
        *,
        key: AppendKey,
        final: bool = False,
        expects: str | None = None,
    ) -> Event | None:
        """Store an event. None: it waits, and connected clients were given it unless it is a question.

        Raises:
            SessionGone, StreamClosed, StreamUnknown, StoreRefused: as the log does.
        """
        spool = self.spools.of(session, stream)
        if spool is None:
            try:
                with self._breaker.cutting():
                    return await self._log.append(
                        session, stream, payload, key=key, final=final, expects=expects
                    )
            except StoreUnavailable as error:
                self._observer.store_failed("append", error)
                self._hub.wake(session)  # it may be stored all the same: whoever can read the log finds it
                spool = self.spools.begin(session, stream)
        item = Spooled(payload, key, final, expects)
        self._wait_in(spool, item)
        # Once the store is back a handler must not be faster than it, or the spool would never end.
        while not (item.settled or self._is_away(spool)) and len(spool.waiting) > 1:
            await spool.moved.wait()
        return None

    async def append_now(
        self,
        session: SessionId,
        stream: StreamId,
        payload: bytes,
        *,
        key: AppendKey,
        final: bool = False,
        expects: str | None = None,
    ) -> Event:
        """Store an event, or raise `StoreUnavailable`: if the store is away, or something waits before it."""
        if self.spools.of(session, stream) is not None:
            raise StoreUnavailable("what came before on this stream is not stored yet")
        with self._breaker.cutting():
            return await self._log.append(session, stream, payload, key=key, final=final, expects=expects)

    async def run(self) -> None:
        """Store what waits whenever the store is there. Never returns."""
        while True:
            await self.spools.some()
            await self._breaker.closed()
            if not await self._store_all():
                await anyio.sleep(random.uniform(*_RETRY_SECONDS))

    async def empty(self) -> None:
        """Return when nothing waits, or at once if the store is away."""
        while not self._breaker.open and (waiting := self.spools.all()):
            await waiting[0].moved.wait()

    def _wait_in(self, spool: Spool, item: Spooled) -> None:
        # Not at once: while the store answers, the log may have it, and its reader reads it there.
        showing = self._is_away(spool) and spool.showing and item.expects is None
        for dropped in self.spools.put(spool, item):
            self._hub.unstorable(spool.session, spool.stream, dropped)
        if showing:
            self._hub.show(spool.session, spool.stream, item)
        self._observer.spooled(spool.session, spool.stream, len(item.payload))

    def _is_away(self, spool: Spool) -> bool:
        return self._breaker.open or spool.away

    def _changed(self) -> None:
        """The store went away, or is back."""
        for spool in self.spools.all():
            if self._breaker.open:
                self._show(spool)
            spool.stir()

    def _show(self, spool: Spool) -> None:
        for item in tuple(spool.waiting):
            if item.expects is not None:
                return
            if not item.shown:
                self._hub.show(spool.session, spool.stream, item)
            if not item.shown:
                return

    async def _store_all(self) -> bool:
        """Whether all of it is stored."""
        limiter = anyio.CapacityLimiter(_AT_ONCE)

        async def store(spool: Spool) -> None:
            async with limiter:
                await self._store_spool(spool)

        async with anyio.create_task_group() as tasks:
            for spool in self.spools.all():
                tasks.start_soon(store, spool)
        return not len(self.spools)

    async def _store_spool(self, spool: Spool) -> None:
        try:
            await self._open(spool)
            while spool.waiting and not self._breaker.open:
                await self._store(spool, spool.waiting[0])
        except StoreError as error:
            self._observer.store_failed("flush", error)
            if time.monotonic() - spool.began > _PATIENCE_SECONDS and not spool.away:
                spool.away = True  # perhaps one node of a cluster: others are answered
                self._show(spool)
                spool.stir()
            return
        except (SessionGone, StreamError) as error:
            # The session was deleted, or the stream was ended by a replica that took this one for dead.
            logger.info("session %s: what waited is not stored: %s", shorten(spool.session), error)
        except Exception:  # a fan-out border: the other streams must not wait for this one
            logger.exception("what waited on a stream could not be stored")
        if spool.waiting and self._breaker.open:
            return
        for item in tuple(spool.waiting):
            self._hub.unstorable(spool.session, spool.stream, item)
        self.spools.end(spool)
        self._hub.wake(spool.session)

    async def _open(self, spool: Spool) -> None:
        if spool.opens is None:
            return
        with self._breaker.cutting():
            start = await self._log.open_stream(spool.session, spool.stream, spool.opens)
        spool.opens = None
        self._hub.based(spool.session, spool.stream, start)

    async def _store(self, spool: Spool, item: Spooled) -> None:
        item.under_way = True
        try:
            with self._breaker.cutting():
                event = await self._log.append(
                    spool.session,
                    spool.stream,
                    item.payload,
                    key=item.key,
                    final=item.final,
                    expects=item.expects,
                )
        finally:
            item.under_way = False
        spool.away = False
        self.spools.done(spool, item)
        self._hub.stored(spool.session, event, item)
        self._observer.flushed(spool.session, spool.stream)

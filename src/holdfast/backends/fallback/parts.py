"""The protocols of a store that may change behind them."""

import inspect
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Final

from holdfast.backends.fallback.turnstile import Turnstile
from holdfast.errors import StoreUnavailable
from holdfast.sessions.types import GENESIS, Event, Found, Page, Position, SessionFacts, SessionId

__all__ = ["BroadcastPart", "Part", "SessionPart"]

_LISTENING: Final = frozenset({"watch", "listen", "subscribe"})
_REMEMBERED: Final = 100_000


class Part:
    """One protocol: each call goes to the store that serves by then."""

    def __init__(self, turnstile: Turnstile, name: str) -> None:
        self._turnstile = turnstile
        self._name = name

    def __getattr__(self, method: str) -> Any:
        sample = getattr(getattr(self._turnstile.present, self._name), method)
        if not callable(sample):
            return sample
        if method in _LISTENING:
            wrapped: Any = self._listener(method)
        elif inspect.iscoroutinefunction(sample):
            wrapped = self._caller(method)
        else:
            wrapped = self._iterator(method)
        setattr(self, method, wrapped)
        return wrapped

    async def call(self, method: str, *args: Any, **kwargs: Any) -> Any:
        """Call the method of the present store."""
        async with self._turnstile.passing() as backend:
            return await getattr(getattr(backend, self._name), method)(*args, **kwargs)

    def _caller(self, method: str) -> Callable[..., Any]:
        async def call(*args: Any, **kwargs: Any) -> Any:
            return await self.call(method, *args, **kwargs)

        return call

    def _listener(self, method: str) -> Callable[..., AbstractAsyncContextManager[Any]]:
        return lambda *args, **kwargs: self._turnstile.listening(self._name, method, args, kwargs)

    def _iterator(self, method: str) -> Callable[..., AsyncIterator[Any]]:
        async def iterate(*args: Any, **kwargs: Any) -> AsyncGenerator[Any]:
            async for batch in getattr(getattr(self._turnstile.present, self._name), method)(*args, **kwargs):
                yield batch

        return iterate


class SessionPart(Part):
    """The sessions: what an island does not know may be elsewhere, unless it was deleted here.

    Attributes:
        here: sessions that were opened in memory.
    """

    def __init__(self, turnstile: Turnstile, is_island: Callable[[], bool]) -> None:
        super().__init__(turnstile, "sessions")
        self._is_island = is_island
        self._deleted: OrderedDict[SessionId, None] = OrderedDict()
        self.here: set[SessionId] = set()

    async def find(self, session: SessionId, *, owner: str | None, with_facts: bool) -> Found | None:
        """As `SessionStore.find`; raises `StoreUnavailable` where only the store could say."""
        found: Found | None = await self.call("find", session, owner=owner, with_facts=with_facts)
        if found is None and self._is_island() and session not in self._deleted:
            raise StoreUnavailable("the store was never reached, and this process does not know the session")
        return found

    async def open(self, facts: SessionFacts, *, limit: int | None) -> None:
        """As `SessionStore.open`."""
        await self.call("open", facts, limit=limit)
        if self._is_island():
            self.here.add(facts.id)

    async def close(self, session: SessionId) -> bool:
        """As `SessionStore.close`."""
        existed: bool = await self.call("close", session)
        if existed and self._is_island():
            self._deleted[session] = None
            self.here.discard(session)
            if len(self._deleted) > _REMEMBERED:
                self._deleted.popitem(last=False)
        return existed


class BroadcastPart(Part):
    """The broadcast log: it does not move, and nobody hears what the fleet was told before."""

    def __init__(self, turnstile: Turnstile) -> None:
        super().__init__(turnstile, "broadcasts")
        self._begins: Position | None = None
        self._before: set[str] = {GENESIS.epoch}

    def begin_at(self, top: Position) -> None:
        """From here on places of the log in memory stand for this one of the store's log."""
        self._begins = top

    async def append(self, payload: bytes, *, key: Any = None) -> Event:
        """As `BroadcastLog.append`."""
        event: Event = await self.call("append", payload, key=key)
        if self._begins is None:
            self._before.add(event.position.epoch)
        return event

    async def read(self, *, after: Position, limit: int) -> Page:
        """As `BroadcastLog.read`."""
        if self._begins is not None and after.epoch in self._before:
            after = self._begins
        page: Page = await self.call("read", after=after, limit=limit)
        return page

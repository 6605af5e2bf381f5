"""The way to the present store: everybody passes here, and waits here while it changes."""

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

from holdfast.errors import HoldfastError
from holdfast.sessions.protocols import Backend

__all__ = ["Turnstile"]

logger = logging.getLogger("holdfast")


class Turnstile:
    """Who uses which store right now.

    Attributes:
        present: the store that serves.
    """

    def __init__(self, present: Backend) -> None:
        self.present = present
        self._inside = 0
        self._open = asyncio.Event()
        self._open.set()
        self._empty = asyncio.Event()
        self._listening: set[_Listening] = set()

    @asynccontextmanager
    async def passing(self) -> AsyncGenerator[Backend]:
        """The present store, which stays so for as long as the context lasts."""
        while not self._open.is_set():
            await self._open.wait()
        self._inside += 1
        try:
            yield self.present
        finally:
            self._inside -= 1
            if not self._inside:
                self._empty.set()

    @asynccontextmanager
    async def closed(self) -> AsyncGenerator[None]:
        """Let nobody pass, once all who did have come back."""
        self._open.clear()
        try:
            while self._inside:
                self._empty.clear()
                await self._empty.wait()
            yield
        finally:
            self._open.set()

    @asynccontextmanager
    async def listening(
        self, part: str, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> AsyncGenerator[Any]:
        """Be called back by the present store, whichever that is."""
        listening = _Listening(part, method, args, kwargs)
        async with self.passing() as backend:
            entered = await listening.enter(backend)
            self._listening.add(listening)
        try:
            yield entered
        finally:
            self._listening.discard(listening)
            await listening.leave()

    async def switch(self, backend: Backend) -> None:
        """From here on another store serves. To be called while closed."""
        self.present = backend
        for listening in tuple(self._listening):
            await listening.move(backend)


class _Listening:
    """One `watch`, `listen` or `subscribe` that is in effect."""

    def __init__(self, part: str, method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self._part = part
        self._method = method
        self._args = args
        self._kwargs = kwargs
        self._entered: AbstractAsyncContextManager[Any] | None = None

    async def enter(self, backend: Backend) -> Any:
        context = getattr(getattr(backend, self._part), self._method)(*self._args, **self._kwargs)
        entered = await context.__aenter__()
        self._entered = context
        return entered

    async def leave(self) -> None:
        context, self._entered = self._entered, None
        if context is not None:
            await context.__aexit__(None, None, None)

    async def move(self, backend: Backend) -> None:
        """Listen there instead. Something may have been missed: whoever listens looks again."""
        await self.leave()
        try:
            await self.enter(backend)
        except HoldfastError as error:  # a session that did not move: its stream finds out by itself
            logger.info("could not listen in the store: %s", error)
        if self._method in _NOTHING_HEARD:
            callback: Callable[..., object] = self._args[-1]
            callback(*_NOTHING_HEARD[self._method])


_NOTHING_HEARD: dict[str, tuple[None, ...]] = {"watch": (None,), "listen": (None, None)}
"""What their callbacks get when hints may have been lost."""

"""A line to the store: one link that is kept up for as long as the line is open."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import anyio

from holdfast.backends.redis.link import Link
from holdfast.backends.redis.options import RedisOptions
from holdfast.errors import StoreError, StoreRefused, StoreUnavailable

__all__ = ["Line", "LineClosed"]

logger = logging.getLogger("holdfast.backends.redis")

_CLOSE_SECONDS: Final = 2.0


class LineClosed(StoreUnavailable):
    """The line was closed: somebody else may serve now what it served."""


class Line:
    """Connects, and connects again with growing, jittered pauses. Owns one task.

    Args:
        name: for messages.
        options: pauses and bounds.
        connect: makes a link that is ready to be used.
        restored: called after the first and every later connect.

    Attributes:
        closed: it was closed.
    """

    def __init__(
        self,
        name: str,
        options: RedisOptions,
        connect: Callable[[], Awaitable[Link]],
        restored: Callable[[], Awaitable[None]],
    ) -> None:
        self._name = name
        self._options = options
        self._connect = connect
        self._restored = restored
        self._link: Link | None = None
        self._failure: StoreError | None = None
        self._tried = asyncio.Event()
        self._waiters: set[asyncio.Future[None]] = set()
        self._task: asyncio.Task[None] | None = None
        self.closed = False

    @property
    def link(self) -> Link | None:
        """The present link, if it is up."""
        link = self._link
        return link if link is not None and link.connection.open else None

    @property
    def failure(self) -> StoreError | None:
        """Why it is not up."""
        return self._failure

    async def open(self) -> None:
        """Connect, trying for `start_wait` seconds, but once at least. Close it also if that failed.

        Raises:
            StoreUnavailable: it did not succeed in time.
            StoreRefused: the server will not have us.
        """
        self.start()
        try:
            await self.ready(self._options.start_wait)
        except StoreUnavailable as exc:
            await self._tried.wait()  # finding out where and connecting have bounds of their own
            if self.link is None:
                raise self._failure or exc from exc

    def start(self) -> None:
        """Begin to connect, and never stop trying until it is closed."""
        self._task = asyncio.create_task(self._keep(), name=f"holdfast redis {self._name}")

    def reconnect(self, reason: str) -> None:
        """Give the present connection up, if there is one."""
        if self._link is not None:
            self._link.connection.abort(reason)

    async def close(self, *, linger: float = 0.0) -> None:
        """End the task and the connection. Whoever waits for the line gets `LineClosed`.

        Commands under way have `linger` seconds to be answered.
        """
        self.closed = True
        self._tell()
        link = self.link
        if linger and link is not None:
            with suppress(TimeoutError):
                await asyncio.wait_for(link.connection.send("PING"), linger)
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with anyio.move_on_after(_CLOSE_SECONDS, shield=True), suppress(asyncio.CancelledError):
                await task
        if self._link is not None:
            self._link.connection.abort("the backend was closed")
            with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
                await self._link.connection.lost.wait()
            self._link = None

    async def ready(self, wait_seconds: float) -> Link:
        """The link, when it is up and has room for a command.

        Raises:
            StoreUnavailable: that was not so within `wait_seconds`. `LineClosed`: it will not be so again.
            StoreRefused: the last attempt to connect was refused.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_seconds
        while True:
            link = self.link
            if link is not None and link.connection.has_room:
                return link
            if self.closed or isinstance(self._failure, StoreRefused):
                self._fail(wait_seconds)
            if loop.time() >= deadline:
                if link is not None:
                    raise StoreUnavailable(f"{self._options.max_in_flight} commands are under way already")
                self._fail(wait_seconds)
            await self._wait(link, deadline)

    def _fail(self, wait_seconds: float) -> None:
        if self.closed:
            raise LineClosed("the backend is not open")
        if isinstance(self._failure, StoreRefused):
            raise StoreRefused(str(self._failure)) from self._failure
        raise StoreUnavailable(f"no connection within {wait_seconds:g} s: {self._failure}") from self._failure

    async def _wait(self, link: Link | None, deadline: float) -> None:
        loop = asyncio.get_running_loop()
        if link is not None:
            waiter = link.connection.room()
        else:
            waiter = loop.create_future()
            self._waiters.add(waiter)
            waiter.add_done_callback(self._waiters.discard)
        timer = loop.call_at(deadline, _finish, waiter)
        try:
            await waiter
        finally:
            timer.cancel()

    def _tell(self) -> None:
        for waiter in list(self._waiters):
            _finish(waiter)

    async def _keep(self) -> None:
        while True:
            if self._link is None:
                await self._reconnect()
            link = self._link
            assert link is not None  # noqa: S101 - `_reconnect` returns with one
            async with asyncio.TaskGroup() as tasks:
                # Beside the wait: what it does may need this very line, when that breaks again.
                restoring = tasks.create_task(self._call_restored())
                await link.connection.lost.wait()
                restoring.cancel()
            logger.warning("redis %s: connection lost: %s", self._name, link.connection.reason)
            self._failure = StoreUnavailable(f"connection lost: {link.connection.reason}")
            self._link = None

    async def _reconnect(self) -> None:
        pause = 0.0 if self._failure is None else self._options.backoff_min
        while self._link is None:
            await asyncio.sleep(pause * random.uniform(0.5, 1.0))
            try:
                self._link = await self._connect()
            except StoreError as exc:
                if str(exc) != str(self._failure):
                    logger.warning("redis %s: cannot connect: %s", self._name, exc)
                self._failure = exc
                if isinstance(exc, StoreRefused):
                    self._tell()
            except Exception as exc:  # the border of the task: nobody else would reconnect
                logger.exception("redis %s: cannot connect", self._name)
                self._failure = StoreUnavailable(f"cannot connect: {exc!r}")
            self._tried.set()
            pause = min(max(pause * 2, self._options.backoff_min), self._options.backoff_max)
        self._failure = None
        logger.info("redis %s: connected", self._name)
        self._tell()

    async def _call_restored(self) -> None:
        try:
            await self._restored()
        except Exception:  # the border of the task, see above
            logger.exception("redis %s: after the connect", self._name)


def _finish(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)

"""The announcement connection: channels in, function calls out; subscribed again after a reconnect."""

import logging
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import hiredis

from holdfast.backends.redis.connection import ConnectionLost
from holdfast.backends.redis.line import Line
from holdfast.backends.redis.link import Link, open_link
from holdfast.backends.redis.location import Endpoint
from holdfast.backends.redis.options import RedisOptions
from holdfast.errors import StoreError, StoreRefused, StoreUnavailable

__all__ = ["Announcements"]

logger = logging.getLogger("holdfast.backends.redis")

_ATTEMPTS = 3


class Announcements:
    """Who listens to which channel, and the one connection that carries them all.

    Args:
        locate: where to listen; asked with each connect.
        confirm: raises if that turned out to be wrong while the connection was made.
        options: bounds.
        name: what the server calls the connection.
        restored: called after each connect, when everything is subscribed: messages may have been missed.
    """

    def __init__(
        self,
        locate: Callable[[], Awaitable[Endpoint]],
        options: RedisOptions,
        *,
        confirm: Callable[[Endpoint], None],
        name: str,
        restored: Callable[[], Awaitable[None]],
    ) -> None:
        self._options = options
        self._listeners: dict[bytes, list[Callable[[bytes], None]]] = {}

        async def connect() -> Link:
            endpoint = await locate()
            link = await open_link(endpoint, options, name=name, scripts=(), on_push=self._deliver)
            try:
                await self._subscribe(link, list(self._listeners))
                confirm(endpoint)
            except BaseException:
                link.connection.abort("subscribing failed")
                raise
            return link

        self._line = Line("announcements", options, connect, restored)

    async def open(self) -> None:
        """Connect; raises `StoreUnavailable` or `StoreRefused`."""
        await self._line.open()

    async def close(self) -> None:
        """Hang up."""
        await self._line.close()

    @property
    def endpoint(self) -> Endpoint | None:
        """Where we listen at present."""
        link = self._line.link
        return None if link is None else link.endpoint

    def reconnect(self, reason: str) -> None:
        """Give up the present connection for a new one, maybe elsewhere."""
        self._line.reconnect(reason)

    async def listening(self) -> None:
        """Return when the connection is up and every channel is subscribed; raises `StoreUnavailable`."""
        await self._line.ready(self._options.connect_wait)

    @asynccontextmanager
    async def subscribed(self, channel: bytes, receive: Callable[[bytes], None]) -> AsyncGenerator[None]:
        """Call `receive` with each message of `channel`. Entered when the server has confirmed it."""
        listeners = self._listeners.setdefault(channel, [])
        listeners.append(receive)
        try:
            await self._join(channel)
            yield
        finally:
            listeners.remove(receive)
            if not listeners and self._listeners.get(channel) is listeners:
                del self._listeners[channel]
                self._leave(channel)

    async def _join(self, channel: bytes) -> None:
        for _ in range(_ATTEMPTS):
            link = await self._line.ready(self._options.connect_wait)
            if channel in link.channels:
                return
            try:
                await self._subscribe(link, [channel])
            except StoreUnavailable:
                continue  # the reconnect subscribes it
            return
        raise StoreUnavailable("the connection broke again and again")

    async def _subscribe(self, link: Link, channels: list[bytes]) -> None:
        replies = [link.connection.send("SUBSCRIBE", channel) for channel in channels]
        failure: StoreError | None = None
        for channel, sent in zip(channels, replies, strict=True):
            reply = await sent
            if isinstance(reply, ConnectionLost):
                raise StoreUnavailable(f"the connection broke during SUBSCRIBE ({reply})")
            if isinstance(reply, hiredis.ReplyError):
                failure = StoreRefused(f"the store refused SUBSCRIBE: {reply}")
            else:
                link.channels.add(channel)
        if failure is not None:
            raise failure

    def _leave(self, channel: bytes) -> None:
        link = self._line.link
        if link is not None and channel in link.channels:
            link.channels.discard(channel)
            link.connection.post("UNSUBSCRIBE", channel)

    def _deliver(self, push: list[Any]) -> None:
        if push[0] != b"message":
            return
        for receive in tuple(self._listeners.get(push[1], ())):
            try:
                receive(push[2])
            except Exception:  # the border of the fan-out: the others keep the connection
                logger.exception("a listener raised")

"""Where the master is, as the sentinels say, and hearing of it when that changes."""

import asyncio
import logging
import random
from collections.abc import Callable, Coroutine
from typing import Any, Final, NamedTuple

import hiredis

from holdfast.backends.redis.asking import ask_all
from holdfast.backends.redis.connection import ConnectionLost
from holdfast.backends.redis.line import Line
from holdfast.backends.redis.link import Link, open_link
from holdfast.backends.redis.location import Endpoint, Location
from holdfast.backends.redis.options import RedisOptions
from holdfast.errors import StoreError, StoreRefused, StoreUnavailable

__all__ = ["Sentinels"]

logger = logging.getLogger("holdfast.backends.redis")

_LOOK_SECONDS: Final = 1.0
_MARGIN_SECONDS: Final = 0.1
_SWITCHED: Final = b"+switch-master"


class _Answer(NamedTuple):
    """What one sentinel believes. The one with the highest epoch knows best: each failover raises it."""

    epoch: int
    host: str
    port: int


class Sentinels:
    """One line to each sentinel in the URL.

    They are asked with each connect, and beside that every second, and whenever one of them says that the
    master changed: an old one that was cut off from the others may still answer us.

    Args:
        location: the sentinels, the service and what the servers have in common.
        options: bounds.
        name: what the sentinels call our connections.
        moved: called with the new master.
    """

    def __init__(
        self, location: Location, options: RedisOptions, *, name: str, moved: Callable[[Endpoint], None]
    ) -> None:
        self._location = location
        self._options = options
        self._name = name
        self._moved = moved
        self._news = asyncio.Event()
        self._epoch = -1
        self._named: Endpoint | None = None
        self._watcher: asyncio.Task[None] | None = None
        self._lines = [self._line(endpoint) for endpoint in location.seeds]

    def _line(self, endpoint: Endpoint) -> Line:
        async def connect() -> Link:
            link = await open_link(
                endpoint, self._options, name=self._name, scripts=(), on_push=lambda _: self._news.set()
            )
            link.connection.post("SUBSCRIBE", _SWITCHED)  # without the permission, looking has to do
            return link

        async def restored() -> None:
            self._news.set()

        return Line(str(endpoint), self._options, connect, restored)

    def start(self) -> None:
        """Begin to connect to the sentinels."""
        for line in self._lines:
            line.start()
        self._watcher = asyncio.create_task(self._watch(), name="holdfast redis sentinels")

    async def close(self) -> None:
        """Hang up."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        await asyncio.gather(*(line.close() for line in self._lines))

    async def master(self) -> Endpoint:
        """Where the master is.

        Raises:
            StoreUnavailable: no sentinel answers.
            StoreRefused: no sentinel that answers knows the service, or none wants to talk to us.
        """
        return self._learn(await self._ask())

    def confirm(self, endpoint: Endpoint) -> None:
        """Raise `StoreUnavailable` if the sentinels have named another master since they named this one."""
        if self._named not in {None, endpoint}:
            raise StoreUnavailable(f"the sentinels name {self._named} now, not {endpoint}")

    def _learn(self, best: _Answer) -> Endpoint:
        known, self._epoch = self._epoch, best.epoch
        master = self._named = self._location.server.at(best.host, best.port)
        if best.epoch > known >= 0:
            self._moved(master)
        return master

    async def _ask(self) -> _Answer:
        seconds = self._options.connect_timeout + _MARGIN_SECONDS  # so that a line knows why it is not up
        questions: list[Coroutine[Any, Any, _Answer]] = [self._ask_one(line, seconds) for line in self._lines]
        try:
            return max(await ask_all(questions, seconds=seconds))
        except StoreUnavailable as exc:
            reasons = [str(line.failure) for line in self._lines if line.failure is not None]
            raise StoreUnavailable(f"no sentinel answers: {'; '.join(reasons) or exc}") from exc

    async def _ask_one(self, line: Line, seconds: float) -> _Answer:
        service = self._location.service or ""
        link = await line.ready(seconds)
        # Together, so that nothing changes in between: the address is that of a promoted replica at once.
        sent = (
            link.connection.send("SENTINEL", "GET-MASTER-ADDR-BY-NAME", service),
            link.connection.send("SENTINEL", "MASTER", service),
        )
        address, details = [await each for each in sent]
        for reply in (address, details):
            if isinstance(reply, ConnectionLost):
                raise StoreUnavailable(f"{link.endpoint} hung up: {reply}")
            if isinstance(reply, hiredis.ReplyError) and address is not None:
                raise StoreRefused(f"{link.endpoint} refused SENTINEL MASTER: {reply}")
        if address is None:
            raise StoreRefused(f"{link.endpoint} knows no master that is called {service!r}")
        return _Answer(int(details[b"config-epoch"]), address[0].decode(), int(address[1]))

    async def _watch(self) -> None:
        """Look at what the sentinels say, for as long as the store is open."""
        while True:
            try:
                async with asyncio.timeout(_LOOK_SECONDS * random.uniform(0.75, 1.25)):
                    await self._news.wait()
            except TimeoutError:
                pass
            self._news.clear()
            try:
                best = await self._ask()
            except StoreError as exc:
                logger.debug("redis sentinels: %s", exc)
                continue
            if best.epoch > self._epoch >= 0:  # a sentinel that has missed a failover has a lower one
                self._learn(best)

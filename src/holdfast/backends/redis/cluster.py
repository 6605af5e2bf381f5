"""A cluster: one line to each master, and a map of which slot is where that follows every change."""

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import suppress
from typing import Any, Final

import anyio
import hiredis
from typing_extensions import override

from holdfast.backends.redis.asking import ask_all
from holdfast.backends.redis.connection import ConnectionLost
from holdfast.backends.redis.line import Line, LineClosed
from holdfast.backends.redis.link import Link, open_link
from holdfast.backends.redis.location import Endpoint, Location
from holdfast.backends.redis.options import RedisOptions
from holdfast.backends.redis.scripts import ALL
from holdfast.backends.redis.slots import SLOTS, Address, SlotMap, parse_redirection, parse_slots, slot_of
from holdfast.backends.redis.topology import Topology
from holdfast.errors import StoreError, StoreRefused, StoreUnavailable

__all__ = ["ClusterTopology"]

logger = logging.getLogger("holdfast.backends.redis")

_LOOK_AGAIN_SECONDS: Final = 0.1
_TICK_SECONDS: Final = 0.5
_NODES_ASKED: Final = 3
_LINGER_SECONDS: Final = 0.5
"""For what is under way on a node that lost its slots. One that froze must not be heard when it wakes up: it
confirms what its successor never got."""

_KEPT_SECONDS: Final = 30.0
"""A node that we were sent to gets so long to appear in the map: it may be receiving its first slot."""


class ClusterTopology(Topology):
    """The nodes of a cluster. Owns one task, and a line to each master.

    The map is fetched at the start, every few seconds, and whenever something speaks against it: a
    redirection, a connection lost, a slot that nobody serves. Several nodes are asked: one that was cut off
    from the others believes in an old one.
    """

    def __init__(
        self,
        location: Location,
        options: RedisOptions,
        *,
        name: str,
        restored: Callable[[], Awaitable[None]],
    ) -> None:
        self._location = location
        self._options = options
        self._name = name
        self._restored = restored
        self._lines: dict[Address, Line] = {}
        self._slots: list[Address | None] = [None] * SLOTS
        self._nodes: frozenset[Address] = frozenset()
        self._pointed_at: dict[Address, float] = {}
        self._healthy = False
        self._doubts = asyncio.Event()
        self._changed = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._closed = False

    # -- what the client calls

    @override
    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._options.start_wait
        while True:
            try:
                await self._look()
                break
            except StoreUnavailable:
                if loop.time() >= deadline:
                    raise
            await asyncio.sleep(self._options.backoff_min)
        self._keeper = asyncio.create_task(self._keep(), name="holdfast redis cluster")
        left = max(deadline - loop.time(), self._options.connect_wait)
        # One is enough to begin with: the others may be away for a while, or for good.
        await ask_all([line.ready(left) for line in self._lines.values()], seconds=left)

    @override
    async def close(self) -> None:
        self._closed = True
        self._changed.set()
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.gather(self._keeper, return_exceptions=True)
        for task in self._leaving:
            task.cancel()
        await asyncio.gather(
            *(line.close() for line in self._lines.values()), *self._leaving, return_exceptions=True
        )

    @override
    def link(self, key: str | bytes) -> Link | None:
        address = self._slots[slot_of(key)]
        line = self._lines.get(address) if address is not None else None
        return None if line is None else line.link

    @override
    async def ready(self, key: str | bytes, wait_seconds: float) -> Link:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + wait_seconds
        while not self._closed:
            address = self._slots[slot_of(key)]
            left = max(deadline - loop.time(), 0.0)
            if address is not None:
                line = self._line(address)
                if line.link is None:
                    self.doubt()
                with suppress(LineClosed):  # the map has changed
                    return await line.ready(left)
            elif left == 0:
                raise StoreUnavailable(f"no node of the cluster served the slot within {wait_seconds:g} s")
            else:
                self.doubt()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._changed.wait(), left)
        raise StoreUnavailable("the backend is not open")

    @override
    async def redirected(self, error: Exception, wait_seconds: float) -> Link | None:
        there = parse_redirection(str(error), self._location.seeds[0].address)
        self._pointed_at[there.address] = asyncio.get_running_loop().time()
        line = self._line(there.address)
        if there.once:
            return await line.ready(wait_seconds)
        self._slots[there.slot] = there.address
        self.doubt()
        return None

    @override
    def links(self) -> Sequence[Link]:
        return [link for line in self._lines.values() if (link := line.link) is not None]

    @override
    def doubt(self) -> None:
        self._doubts.set()

    @override
    async def listening_post(self) -> Endpoint:
        """Any node: the cluster passes what is published on to all. A master, if one is connected."""
        connected = [address for address, line in self._lines.items() if line.link is not None]
        if connected:
            return self._location.server.at(*random.choice(connected))
        known = [self._location.server.at(*address) for address in self._nodes]
        return random.choice([*known, *self._location.seeds])

    @override
    def confirm(self, endpoint: Endpoint) -> None:
        """Every node will do to listen to; the map says where to send."""

    # -- the map

    def _line(self, address: Address) -> Line:
        line = self._lines.get(address)
        if line is None:
            endpoint = self._location.server.at(*address)

            async def connect() -> Link:
                return await open_link(endpoint, self._options, name=self._name, scripts=ALL)

            line = self._lines[address] = Line(f"data {endpoint}", self._options, connect, self._restored)
            line.start()
        return line

    async def _keep(self) -> None:
        """Follow the cluster for as long as the store is open."""
        said = ""
        while True:
            await self._until_in_doubt()
            try:
                await self._look()
                said = ""
            except StoreError as exc:
                self._healthy = False
                if said != (said := str(exc)):
                    logger.warning("redis cluster: cannot get the map: %s", exc)
            await asyncio.sleep(_LOOK_AGAIN_SECONDS)

    async def _until_in_doubt(self) -> None:
        """Return when there is a reason to look, or it is time."""
        loop = asyncio.get_running_loop()
        due = loop.time() + self._options.probe_seconds * random.uniform(0.75, 1.25)
        while loop.time() < due and not self._doubts.is_set():
            with suppress(TimeoutError):
                await asyncio.wait_for(self._doubts.wait(), min(_TICK_SECONDS, due - loop.time()))
            if not self._healthy or any(line.link is None for line in self._lines.values()):
                break
        self._doubts.clear()

    async def _look(self) -> None:
        seconds = self._options.connect_timeout
        links = [line.link for line in self._lines.values()]
        up = [link for link in links if link is not None]
        answers: list[SlotMap] = []
        if up:
            asked = random.sample(up, min(len(up), _NODES_ASKED))
            with suppress(StoreUnavailable):
                answers = await ask_all([self._ask(link) for link in asked], seconds=seconds)
        if not any(answer.healthy for answer in answers):
            answers += await self._ask_others(seconds, spare=bool(answers))
        self._believe(max(answers, key=lambda answer: (answer.healthy, answer.epoch)))

    async def _ask_others(self, seconds: float, *, spare: bool) -> list[SlotMap]:
        """Ask those to whom there is no link now: what is in the URL, and what was in the last map."""
        server = self._location.server
        others = {seed.address for seed in self._location.seeds} | self._nodes
        others -= {address for address, line in self._lines.items() if line.link is not None}
        questions: list[Coroutine[Any, Any, SlotMap]] = [
            self._ask_anew(server.at(*address)) for address in others
        ]
        try:
            return await ask_all(questions, seconds=seconds)
        except StoreError:
            if spare:
                return []
            raise

    async def _ask_anew(self, endpoint: Endpoint) -> SlotMap:
        link = await open_link(endpoint, self._options, name=self._name, scripts=())
        try:
            return await self._ask(link)
        finally:
            link.connection.abort("only asked for the map")
            with anyio.CancelScope(shield=True):
                await link.connection.lost.wait()

    @staticmethod
    async def _ask(link: Link) -> SlotMap:
        sent = (link.connection.send("CLUSTER", "SLOTS"), link.connection.send("CLUSTER", "INFO"))
        slots, info = [await each for each in sent]
        for reply in (slots, info):
            if isinstance(reply, ConnectionLost):
                raise StoreUnavailable(f"{link.endpoint} hung up: {reply}")
            if isinstance(reply, hiredis.ReplyError):
                raise StoreRefused(f"{link.endpoint} refused CLUSTER SLOTS or CLUSTER INFO: {reply}")
        text = info.encode() if isinstance(info, str) else info
        return parse_slots(slots, text, link.endpoint.address)

    def _believe(self, answer: SlotMap) -> None:
        now = asyncio.get_running_loop().time()
        self._healthy, self._slots, self._nodes = answer.healthy, list(answer.masters), answer.nodes
        masters = {address for address in answer.masters if address is not None}
        # Who has appeared needs no grace any more: it may be replaced within it, and wake up as a zombie.
        self._pointed_at = {
            at: when
            for at, when in self._pointed_at.items()
            if now - when < _KEPT_SECONDS and at not in masters
        }
        for address in masters:
            self._line(address)
        for address in [*self._lines]:
            if address not in masters and address not in self._pointed_at:
                leaving = asyncio.create_task(self._lines.pop(address).close(linger=_LINGER_SECONDS))
                self._leaving.add(leaving)
                leaving.add_done_callback(self._leaving.discard)
        self._changed.set()
        self._changed = asyncio.Event()

"""The stores that replicas may share, with what can be done to each: real servers, real failovers."""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Final, Literal, TypeAlias

from typing_extensions import override

from chaos.wire import HOST
from holdfast.backends.redis.keys import Keys
from holdfast.backends.redis.slots import slot_of
from holdfast.sessions.types import SessionId
from holdfast.testing.fault_proxy import FaultProxy
from tests.servers import RunningServer, start_server
from tests.topologies import ClusterSetup, SentinelSetup, start_cluster, start_sentinels

StoreName: TypeAlias = Literal["one", "sentinels", "cluster"]
Inflict: TypeAlias = Callable[[random.Random], Awaitable[None]]
"""Does its harm, and returns when it is over."""

BLIP_SECONDS: Final = (0.2, 3.0)
PARTITION_SECONDS: Final = (7.0, 9.0)
"""Longer than the 6 s after which a silent replica is taken for dead."""

PROMOTED_SECONDS: Final = 30.0
ZOMBIE_SECONDS: Final = 2.0
CUTS: Final = 4
ALL_SHARE: Final = 0.5


class Store:
    """What replicas share. `faults`: what can be done to it, by the names in `chaos.permits`.

    Attributes:
        cut_off: told which replica cannot reach the store any more, and that it can again.
    """

    def __init__(self) -> None:
        self.sessions: list[str] = []
        self.cut_off: Callable[[int], Callable[[], None]] = lambda _number: lambda: None

    def url(self, number: int) -> str:
        """Where a replica finds it."""
        raise NotImplementedError

    @property
    def faults(self) -> Mapping[str, Inflict]:
        raise NotImplementedError

    @property
    def servers(self) -> list[RunningServer]:
        """Those that can be asked for something now."""
        raise NotImplementedError

    async def flush_scripts(self, _rng: random.Random) -> None:
        for server in self.servers:
            await asyncio.to_thread(server.cli, "SCRIPT", "FLUSH")

    async def kill_clients(self, rng: random.Random) -> None:
        for server in self.servers:
            for kind in rng.choice((("normal",), ("pubsub",), ("normal", "pubsub"))):
                await asyncio.to_thread(server.cli, "CLIENT", "KILL", "TYPE", kind)


class OneServer(Store):
    """One server with an append-only file, and a proxy between it and each replica."""

    def __init__(self, server: RunningServer, proxies: list[FaultProxy]) -> None:
        super().__init__()
        self._server = server
        self._proxies = proxies

    @override
    def url(self, number: int) -> str:
        return f"redis://{HOST}:{self._proxies[number].port}/0"

    @property
    @override
    def servers(self) -> list[RunningServer]:
        return [self._server]

    @property
    @override
    def faults(self) -> Mapping[str, Inflict]:
        return {
            "delay": self._delay,
            "black hole": self._black_hole,
            "black hole, then reset": self._black_hole_then_reset,
            "half open": self._half_open,
            "reset": self._reset,
            "cut after k bytes": self._cut,
            "reply lost": self._lose_replies,
            "refused": self._refuse,
            "partition": self._partition,
            "script flush": self.flush_scripts,
            "client kill": self.kill_clients,
            "freeze": self._freeze,
            "crash": self._crash,
        }

    def _some(self, rng: random.Random) -> list[FaultProxy]:
        """All of them, or one."""
        return self._proxies if rng.random() < ALL_SHARE else [rng.choice(self._proxies)]

    async def _heal(self, proxies: list[FaultProxy], seconds: float) -> None:
        try:
            await asyncio.sleep(seconds)
        finally:
            for proxy in proxies:
                await proxy.heal()

    async def _delay(self, rng: random.Random) -> None:
        chosen = self._some(rng)
        for proxy in chosen:
            proxy.delay(rng.uniform(0.02, 0.2))
        await self._heal(chosen, rng.uniform(1, 3))

    async def _black_hole(self, rng: random.Random) -> None:
        chosen, way = self._some(rng), rng.choice(("client", "server", None))
        for proxy in chosen:
            proxy.black_hole(*(() if way is None else ("client",) if way == "client" else ("server",)))
        await self._heal(chosen, rng.uniform(*BLIP_SECONDS))

    async def _black_hole_then_reset(self, rng: random.Random) -> None:
        chosen = self._some(rng)
        for proxy in chosen:
            proxy.black_hole()
        await asyncio.sleep(rng.uniform(*BLIP_SECONDS))
        for proxy in chosen:
            proxy.reset()
        await self._heal(chosen, 0)

    async def _half_open(self, rng: random.Random) -> None:
        chosen = self._some(rng)
        for proxy in chosen:
            proxy.half_open()
        await self._heal(chosen, rng.uniform(*BLIP_SECONDS))

    async def _reset(self, rng: random.Random) -> None:
        for proxy in self._some(rng):
            proxy.reset()

    async def _cut(self, rng: random.Random) -> None:
        """Several times, at any byte of what is under way."""
        for _ in range(CUTS):
            for proxy in self._proxies:
                proxy.cut_after(rng.randint(1, 2000), rng.choice(("client", "server")))
            await asyncio.sleep(rng.uniform(0.1, 0.5))
        await self._heal(self._proxies, 0)

    async def _lose_replies(self, rng: random.Random) -> None:
        """The store did it, and the replica does not know: keys must keep it from being done twice."""
        for _ in range(CUTS):
            for proxy in self._proxies:
                proxy.lose_reply_to(b"EVALSHA")
            await asyncio.sleep(rng.uniform(0.1, 0.5))
        await self._heal(self._proxies, 0)

    async def _refuse(self, rng: random.Random) -> None:
        chosen = self._some(rng)
        for proxy in chosen:
            proxy.refuse()
            proxy.reset()
        await self._heal(chosen, rng.uniform(*BLIP_SECONDS))

    async def _partition(self, rng: random.Random) -> None:
        number = rng.randrange(len(self._proxies))
        back = self.cut_off(number)
        self._proxies[number].black_hole()
        await self._heal([self._proxies[number]], rng.uniform(*PARTITION_SECONDS))
        back()

    async def _freeze(self, rng: random.Random) -> None:
        self._server.pause()
        try:
            await asyncio.sleep(rng.uniform(*BLIP_SECONDS))
        finally:
            self._server.resume()

    async def _crash(self, rng: random.Random) -> None:
        self._server.kill()
        await asyncio.sleep(rng.uniform(0, 2))
        await asyncio.to_thread(self._server.restart)


class Replicated(Store):
    """Masters with replicas, that take over."""

    def __init__(self, setup: SentinelSetup | ClusterSetup) -> None:
        super().__init__()
        self._setup = setup

    @override
    def url(self, number: int) -> str:
        del number
        return self._setup.url

    @property
    @override
    def servers(self) -> list[RunningServer]:
        return self._setup.servers

    @property
    @override
    def faults(self) -> Mapping[str, Inflict]:
        found: dict[str, Inflict] = {
            "failover": self._kill_master,
            "frozen master": self._freeze_master,
            "script flush": self.flush_scripts,
            "client kill": self.kill_clients,
        }
        if isinstance(self._setup, ClusterSetup):
            found["moved slot"] = partial(self._move_slot, self._setup)
        return found

    async def _kill_master(self, rng: random.Random) -> None:
        old = await asyncio.to_thread(self._master, rng)
        old.kill()
        await self._replaced(old)

    async def _freeze_master(self, rng: random.Random) -> None:
        """It is replaced, and wakes up as one that believes that it still is the master.

        Not at once: replicas hear of the new master a second later at most, and an answer to a question that
        a zombie takes in that second is lost (docs/chaos.md).
        """
        old = await asyncio.to_thread(self._master, rng)
        old.pause()
        await self._replaced(old, ZOMBIE_SECONDS)

    async def _replaced(self, old: RunningServer, seconds: float = 0.0) -> None:
        async with asyncio.timeout(PROMOTED_SECONDS):
            while await asyncio.to_thread(self._still, old):  # noqa: ASYNC110 - another process decides
                await asyncio.sleep(0.1)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(self._setup.heal)

    def _still(self, old: RunningServer) -> bool:
        """Whether nobody has taken its place yet."""
        if isinstance(self._setup, SentinelSetup):
            return self._setup.master() is old
        return len(self._setup.masters) < len(self._setup.servers) // 2

    def _master(self, rng: random.Random) -> RunningServer:
        if isinstance(self._setup, SentinelSetup):
            return self._setup.master()
        return self._setup.owner_of(slot_of_session(rng.choice(self.sessions)))

    async def _move_slot(self, setup: ClusterSetup, rng: random.Random) -> None:
        """The slot of a session that is in use, with all that is in it, while it is written to."""
        slot = slot_of_session(rng.choice(self.sessions))

        def move() -> None:
            source = setup.owner_of(slot)
            setup.move_slot(slot, rng.choice([each for each in setup.masters if each is not source]))

        await asyncio.to_thread(move)


def slot_of_session(session: str) -> int:
    """The slot in which all keys of a session are."""
    return slot_of(Keys("mcp").session(SessionId(session)).meta)


@contextlib.asynccontextmanager
async def running_store(name: StoreName, replicas: int, folder: Path) -> AsyncGenerator[Store]:
    """A store, for the length of the block."""
    place = folder / "store"
    place.mkdir()
    async with contextlib.AsyncExitStack() as stack:
        if name == "one":
            kept = ["--appendonly", "yes", "--appendfsync", "everysec"]
            starting = start_server("valkey", directory=place, extra=kept)
            server = await asyncio.to_thread(stack.enter_context, starting)
            proxies = [FaultProxy(HOST, server.port) for _ in range(replicas)]
            yield OneServer(server, [await stack.enter_async_context(proxy) for proxy in proxies])
        elif name == "sentinels":
            found = start_sentinels("valkey", replicas=2, directory=place)
            yield Replicated(await asyncio.to_thread(stack.enter_context, found))
        else:
            cluster = start_cluster("valkey", directory=place)
            yield Replicated(await asyncio.to_thread(stack.enter_context, cluster))

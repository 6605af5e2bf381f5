"""What is done to the replicas, and when: all of it from one seed."""

import asyncio
import contextlib
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from chaos.fleet import STOP_SECONDS, Fleet, Replica
from chaos.ledger import Tally
from chaos.store_monkey import StoreMonkey

PAUSES_SECONDS: Final = ((3.0, 7.0), (7.0, 10.0))
"""Short ones end before anybody is taken for dead, long ones after that."""

SPARED_SHARE: Final = 0.8
SPARED_SECONDS: Final = 4.0
"""Who wakes up must have the time to say what it has to say, though others have spoken for it."""

SETTLE_SECONDS: Final = 15.0
STOP_SHARE: Final = 0.3
BY_TIME_SHARE: Final = 0.4
KILL_PAUSED_SHARE: Final = 0.15
CALM_SECONDS: Final = 1.0
LULL_SECONDS: Final = 4.0
READY_SECONDS: Final = 120.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is done.

    Attributes:
        kills: at least so many replicas are killed.
        minutes: it goes on for at least so long.
        stop: replicas are paused too.
        faults: how often each kind of fault of the store is injected, meanwhile.
        rolling: how often all of them are replaced, one after the other, at the end.
    """

    kills: int
    minutes: float = 0.0
    stop: bool = False
    rolling: int = 1
    faults: int = 0


class Monkey:
    """Kills, pauses and replaces replicas while clients work."""

    def __init__(self, fleet: Fleet, tally: Tally, seed: str, plan: Plan) -> None:
        self._fleet = fleet
        self._tally = tally
        self._random = random.Random(f"{seed}/monkey")
        self._plan = plan
        self._store_monkey = StoreMonkey(fleet.store, tally, seed)
        self._spared: dict[int, float] = {}
        self._resuming: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """First the killing and the store's faults, then, when all was told, the rolling restarts."""
        seconds = 60 * self._plan.minutes
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._store_monkey.run(self._plan.faults, seconds))
            tasks.create_task(self._strike_on(time.monotonic() + seconds))
        await asyncio.gather(*self._resuming)
        await self._all_serve()
        if not self._plan.rolling:
            return
        await asyncio.sleep(SETTLE_SECONDS)
        self._tally.rolling_since = time.monotonic()
        before = self._tally.counts.copy()
        for _ in range(self._plan.rolling):
            await self._roll()
        for name in ("retried connections", "resumed"):
            self._tally.counts[f"rolling: {name}"] = self._tally.counts[name] - before[name]
        calls = sum(n - before[name] for name, n in self._tally.counts.items() if name.startswith("calls: "))
        self._tally.counts["rolling: calls"] = calls

    async def _strike_on(self, ends_at: float) -> None:
        wanted = self._plan.kills
        while self._tally.counts["kills"] < wanted or (wanted and time.monotonic() < ends_at):
            await self._moment()
            await self._strike()

    async def _moment(self) -> None:
        """Some time, or some events: the latter are in the middle of something."""
        if self._random.random() < BY_TIME_SHARE:
            await asyncio.sleep(self._random.uniform(0.2, 3.0))
            return
        enough = self._tally.counts["events"] + self._random.randint(1, 200)
        with contextlib.suppress(TimeoutError):
            await _until(lambda: self._tally.counts["events"] >= enough, LULL_SECONDS)

    async def _strike(self) -> None:
        paused = [replica for replica in self._fleet.replicas if replica.paused is not None]
        if paused and self._random.random() < KILL_PAUSED_SHARE:
            self._kill(self._random.choice(paused))
            return
        replica = await self._victim()
        if self._plan.stop and self._random.random() < STOP_SHARE:
            seconds = self._random.uniform(*self._random.choice(PAUSES_SECONDS))
            task = asyncio.create_task(self._pause(replica, seconds))
            self._resuming.add(task)
            task.add_done_callback(self._resuming.discard)
        else:
            self._kill(replica)

    async def _victim(self) -> Replica:
        """One of those that serve; another one stays, for somebody must be there to tell of its death."""
        await _until(lambda: len(self._fleet.serving) > 1 and bool(self._exposed()), READY_SECONDS)
        return self._random.choice(self._exposed())

    def _exposed(self) -> list[Replica]:
        return [each for each in self._fleet.serving if self._spared.get(each.number, 0.0) < time.monotonic()]

    def _kill(self, replica: Replica) -> None:
        replica.kill()
        self._tally.counts["kills"] += 1

    async def _pause(self, replica: Replica, seconds: float) -> None:
        self._tally.counts["stops"] += 1
        life = replica.lives
        replica.pause()
        await asyncio.sleep(seconds)
        if replica.lives == life:
            replica.resume()
            if self._random.random() < SPARED_SHARE:
                self._spared[replica.number] = time.monotonic() + SPARED_SECONDS

    async def _roll(self) -> None:
        for replica in self._fleet.replicas:
            await self._all_serve()
            await asyncio.sleep(CALM_SECONDS)
            replica.terminate()
            self._tally.counts["terminated"] += 1
            if not await replica.wait_for_its_end():
                limit = f"{STOP_SECONDS:g} s after its time to drain"
                self._tally.blame("process", -1, f"replica {replica.number} still ran {limit}")
                replica.kill()
        await self._all_serve()

    async def _all_serve(self) -> None:
        await _until(lambda: len(self._fleet.serving) == len(self._fleet.replicas), READY_SECONDS)


async def _until(met: Callable[[], bool], seconds: float) -> None:
    """Look often: what is to be hit in the middle must not be over by then."""
    async with asyncio.timeout(seconds):
        while not met():  # noqa: ASYNC110 - an event for each event that is read would cost more
            await asyncio.sleep(0.005)

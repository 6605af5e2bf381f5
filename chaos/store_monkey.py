"""What is done to the store, and when: each kind of fault so often, in an order that the seed gives."""

import asyncio
import random
import time
from typing import Final

from chaos.ledger import Tally
from chaos.stores import Store

PAUSE_SECONDS: Final = (0.5, 2.5)
FAULT_SECONDS: Final = 120.0


class StoreMonkey:
    """Does all that can be done to a store, one thing after the other."""

    def __init__(self, store: Store, tally: Tally, seed: str) -> None:
        self._store = store
        self._tally = tally
        self._random = random.Random(f"{seed}/store")

    async def run(self, rounds: int, seconds: float) -> None:
        """Each kind of fault once a round, for so many rounds, and for so long."""
        ends_at = time.monotonic() + seconds
        done = 0
        while done < rounds or (rounds and time.monotonic() < ends_at):
            kinds = sorted(self._store.faults)
            self._random.shuffle(kinds)
            for kind in kinds:
                await asyncio.sleep(self._random.uniform(*PAUSE_SECONDS))
                await self._inflict(kind)
            done += 1

    async def _inflict(self, kind: str) -> None:
        fault = self._tally.store.begin(kind)
        try:
            async with asyncio.timeout(FAULT_SECONDS):
                await self._store.faults[kind](self._random)
        except TimeoutError:
            self._tally.blame("process", -1, f"the store did not come back after {kind!r}")
        finally:
            fault.until = time.monotonic()

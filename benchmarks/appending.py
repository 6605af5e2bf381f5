"""Writers that append events through Holdfast, in a process of their own.

`python -m benchmarks.appending URL WRITERS SECONDS shared|own` prints one JSON object. `own`: each writer has
a session, and the stream of a request in it, and appends as the relay does, under idempotency keys. `shared`:
all append to the standalone stream of one session, without keys, so that each command is the same.
"""

import asyncio
import gc
import json
import sys
import time
from collections.abc import Awaitable, Callable

import uvloop

from benchmarks.material import message, open_sessions
from holdfast.backends import open_store
from holdfast.sessions.protocols import Backend
from holdfast.sessions.types import STANDALONE, AppendKey, SessionId, StreamId

WARM_UP_SECONDS = 0.3


async def own(backend: Backend, writers: int) -> list[Callable[[int], Awaitable[object]]]:
    """A session and a stream for each writer."""
    payload, stream = message(), StreamId("request")
    sessions = await open_sessions(backend, writers)

    def writer(session: SessionId) -> Callable[[int], Awaitable[object]]:
        return lambda count: backend.log.append(
            session, stream, payload, key=AppendKey(backend.replica, count)
        )

    for session in sessions:
        await backend.log.open_stream(session, stream, 1)
    return [writer(session) for session in sessions]


async def shared(backend: Backend, writers: int) -> list[Callable[[int], Awaitable[object]]]:
    """One session and one stream for all."""
    payload = message()
    (session,) = await open_sessions(backend, 1)
    return [lambda _: backend.log.append(session, STANDALONE, payload)] * writers


async def measure(append: list[Callable[[int], Awaitable[object]]], seconds: float) -> dict[str, float]:
    """Append for so long, each writer one event after the other."""
    took: list[float] = []
    first = time.time_ns()  # counters of one replica only grow

    async def write(one: Callable[[int], Awaitable[object]], until: float) -> None:
        nonlocal first
        now = time.perf_counter()
        while now < until:
            first += 1
            await one(first)
            before, now = now, time.perf_counter()
            took.append(now - before)

    warm = time.perf_counter() + WARM_UP_SECONDS
    await asyncio.gather(*(write(one, warm) for one in append))
    took.clear()
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(write(one, began + seconds) for one in append))
    lasted, cpu = time.perf_counter() - began, time.process_time() - cpu
    took.sort()
    return {
        "events/s": round(len(took) / lasted),
        "p50 ms": round(took[len(took) // 2] * 1000, 3),
        "p99 ms": round(took[len(took) * 99 // 100] * 1000, 3),
        "CPU µs/event": round(cpu / len(took) * 1e6, 1),
    }


async def main() -> None:
    """Append, and print how fast."""
    url, writers, seconds, how = sys.argv[1:]
    async with open_store(url) as backend:
        append = await (own if how == "own" else shared)(backend, int(writers))
        gc.collect()
        gc.freeze()
        print(json.dumps(await measure(append, float(seconds))))


if __name__ == "__main__":
    uvloop.run(main())

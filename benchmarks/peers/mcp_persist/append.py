"""Writers that append events to mcp-persist's Redis store, in an environment of its own.

`append.py URL WRITERS SECONDS plain|batched|COUNT` prints one JSON object. Its batches answer before anything
is stored. A COUNT appends just so many events for each writer, and prints nothing.
"""

import asyncio
import gc
import json
import logging
import sys
import time
from contextlib import AsyncExitStack

import uvloop
from mcp_persist import BatchingEventStore, RedisEventStore
from mcp_types import JSONRPCNotification

MESSAGE_BYTES = 335
WARM_UP_SECONDS = 0.3
PARAMS = {"level": "info", "logger": "benchmark", "data": ""}
EMPTY = len(
    JSONRPCNotification(jsonrpc="2.0", method="notifications/message", params=PARAMS).model_dump_json()
)
MESSAGE = JSONRPCNotification(
    jsonrpc="2.0",
    method="notifications/message",
    params={**PARAMS, "data": "x" * (MESSAGE_BYTES - EMPTY)},
)


def stream(number: int) -> str:
    """The stream of a request in one of its sessions."""
    return f"{number:032x}:7"


async def measure(
    store: RedisEventStore | BatchingEventStore, writers: int, seconds: float
) -> dict[str, float]:
    """Append for so long, each writer one event after the other, on a stream of its own."""
    took: list[float] = []

    async def write(stream: str, until: float) -> None:
        now = time.perf_counter()
        while now < until:
            await store.store_event(stream, MESSAGE)
            before, now = now, time.perf_counter()
            took.append(now - before)

    warm = time.perf_counter() + WARM_UP_SECONDS
    await asyncio.gather(*(write(stream(n), warm) for n in range(writers)))
    took.clear()
    began, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(write(stream(n), began + seconds) for n in range(writers)))
    if isinstance(store, BatchingEventStore):
        await store.flush()
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
    logging.disable(logging.WARNING)
    async with AsyncExitStack() as stack:
        store = await stack.enter_async_context(RedisEventStore.create(url, ttl=3600, max_stream_length=1024))
        if how.isdigit():
            for _ in range(int(how)):
                await asyncio.gather(*(store.store_event(stream(n), MESSAGE) for n in range(int(writers))))
            return
        if how == "batched":
            store = BatchingEventStore(store)
            stack.push_async_callback(store.aclose)
        gc.collect()
        gc.freeze()
        print(json.dumps(await measure(store, int(writers), float(seconds))))


if __name__ == "__main__":
    uvloop.run(main())

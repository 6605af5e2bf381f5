"""A stand-in, until Holdfast brings its own: one subscription bus for all replicas, over the store's `Bus`.

On protocol 2026-07-28 a client learns of changed lists from a `subscriptions/listen` stream, and the SDK's
bus reaches only the streams of its own process. `HOLDFAST_EXAMPLE_BUS=URL` of a store joins them. Nothing
else in the example needs this, and without the variable the SDK's own bus is used.
"""

import json
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import asdict

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream
from mcp.server.mcpserver import MCPServer
from mcp.server.subscriptions import (
    InMemorySubscriptionBus,
    PromptsListChanged,
    ResourcesListChanged,
    ResourceUpdated,
    ServerEvent,
    SubscriptionBus,
    ToolsListChanged,
)
from typing_extensions import override

from holdfast import open_store
from holdfast.sessions.protocols import Bus

TOPIC = "example-server-events"
MOST_WAITING = 1000
EVENTS = {
    kind.__name__: kind
    for kind in (ToolsListChanged, PromptsListChanged, ResourcesListChanged, ResourceUpdated)
}

Lifespan = Callable[[MCPServer[None]], AbstractAsyncContextManager[None]]


class SharedSubscriptionBus(InMemorySubscriptionBus):
    """Publishes to the store, and hands what comes back from there to this process's own streams."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url
        self._bus: Bus | None = None

    @override
    async def publish(self, event: ServerEvent) -> None:
        """Tell every replica, this one included."""
        assert self._bus is not None, "the server's lifespan was not entered"  # noqa: S101
        message = json.dumps({"kind": type(event).__name__, **asdict(event)})
        await self._bus.publish(TOPIC, message.encode())

    @asynccontextmanager
    async def lifespan(self, _: MCPServer[None]) -> AsyncGenerator[None, None]:
        """Hear the other replicas for as long as this one serves."""
        heard, hearing = anyio.create_memory_object_stream[bytes](MOST_WAITING)

        def hear(message: bytes) -> None:  # a callback: it may not wait
            with suppress(anyio.WouldBlock):
                heard.send_nowait(message)

        async with open_store(self._url) as backend, anyio.create_task_group() as tasks:
            with heard, hearing:
                async with backend.bus.subscribe(TOPIC, hear):
                    self._bus = backend.bus
                    tasks.start_soon(self._relay, hearing)
                    yield
                    tasks.cancel_scope.cancel()

    async def _relay(self, hearing: MemoryObjectReceiveStream[bytes]) -> None:
        async for message in hearing:
            fields = json.loads(message)
            await super().publish(EVENTS[fields.pop("kind")](**fields))


def from_environment() -> SubscriptionBus:
    """The bus that `HOLDFAST_EXAMPLE_BUS` asks for."""
    url = os.environ.get("HOLDFAST_EXAMPLE_BUS")
    return SharedSubscriptionBus(url) if url else InMemorySubscriptionBus()


def lifespan(bus: SubscriptionBus) -> Lifespan | None:
    """What a server on this bus has to keep running while it serves."""
    return bus.lifespan if isinstance(bus, SharedSubscriptionBus) else None

"""A stand-in, until Holdfast brings its own: one subscription bus for all replicas, over Redis pub/sub.

On protocol 2026-07-28 a client learns of changed lists from a `subscriptions/listen` stream, and the SDK's
bus reaches only the streams of its own process. `HOLDFAST_EXAMPLE_BUS=redis://host:port` joins them. Nothing
else in the example needs this, and without the variable the SDK's own bus is used.
"""

import json
import os
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import asdict
from typing import Any

import anyio
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

CHANNEL = "holdfast-example:server-events"
EVENTS = {
    kind.__name__: kind
    for kind in (ToolsListChanged, PromptsListChanged, ResourcesListChanged, ResourceUpdated)
}

Lifespan = Callable[[MCPServer[None]], AbstractAsyncContextManager[None]]


class RedisSubscriptionBus(InMemorySubscriptionBus):
    """Publishes to Redis, and hands what comes back from there to this process's own streams."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    @override
    async def publish(self, event: ServerEvent) -> None:
        """Tell every replica, this one included."""
        async with connect(self._url) as client:
            await client.publish(CHANNEL, json.dumps({"kind": type(event).__name__, **asdict(event)}))

    @asynccontextmanager
    async def lifespan(self, _: MCPServer[None]) -> AsyncGenerator[None, None]:
        """Hear the other replicas for as long as this one serves."""
        async with connect(self._url) as client, client.pubsub() as channel:
            await channel.subscribe(CHANNEL)
            await channel.get_message(timeout=5)  # Redis says that the subscription is in effect
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._relay, channel)
                yield
                tasks.cancel_scope.cancel()

    async def _relay(self, channel: Any) -> None:
        async for message in channel.listen():
            if message["type"] == "message":
                fields = json.loads(message["data"])
                await super().publish(EVENTS[fields.pop("kind")](**fields))


def from_environment() -> SubscriptionBus:
    """The bus that `HOLDFAST_EXAMPLE_BUS` asks for."""
    url = os.environ.get("HOLDFAST_EXAMPLE_BUS")
    return RedisSubscriptionBus(url) if url else InMemorySubscriptionBus()


def lifespan(bus: SubscriptionBus) -> Lifespan | None:
    """What a server on this bus has to keep running while it serves."""
    return bus.lifespan if isinstance(bus, RedisSubscriptionBus) else None


def connect(url: str) -> Any:
    """A client of Redis or Valkey; valkey-py's own types leave too much open to be of use."""
    from valkey.asyncio import Valkey  # noqa: PLC0415 - only who joins replicas needs it installed

    return Valkey.from_url(url)

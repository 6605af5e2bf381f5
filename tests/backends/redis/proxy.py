"""A TCP proxy that breaks connections at the worst moment."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import cast

from typing_extensions import override


class Proxy:
    """Passes bytes on to a server, until it is told to lose a reply.

    Attributes:
        port: where it listens.
        lost: how many replies it has lost.
    """

    def __init__(self, server_port: int) -> None:
        self.port = 0
        self.lost = 0
        self.marker: bytes | None = None
        self.server_port = server_port
        self.sides: set[_Side] = set()
        self.empty = asyncio.Event()

    def lose_reply_to(self, marker: bytes) -> None:
        """Cut the connection when the server has answered the next request that contains `marker`."""
        self.marker = marker

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[Proxy]:
        """Listen for the length of the block."""
        loop = asyncio.get_running_loop()
        listener = await loop.create_server(lambda: _Client(self), "127.0.0.1", 0)
        self.port = listener.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            listener.close()
            for side in list(self.sides):
                side.transport.abort()
            if self.sides:
                await self.empty.wait()


class _Side(asyncio.Protocol):
    def __init__(self, proxy: Proxy) -> None:
        self.proxy = proxy
        self.peer: _Side | None = None
        self.early: list[bytes] = []
        self.doomed = False
        self.transport: asyncio.Transport

    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.proxy.sides.add(self)
        self.proxy.empty.clear()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        self.proxy.sides.discard(self)
        if not self.proxy.sides:
            self.proxy.empty.set()
        if self.peer is not None:
            self.peer.transport.abort()

    def join(self, peer: _Side) -> None:
        self.peer = peer
        for data in self.early:
            peer.transport.write(data)


class _Client(_Side):
    @override
    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        _, server = await loop.create_connection(
            lambda: _Server(self.proxy), "127.0.0.1", self.proxy.server_port
        )
        server.join(self)
        self.join(server)

    @override
    def data_received(self, data: bytes) -> None:
        if self.peer is None:
            self.early.append(data)
            return
        if self.proxy.marker is not None and self.proxy.marker in data:
            self.proxy.marker = None
            self.peer.doomed = True
        self.peer.transport.write(data)


class _Server(_Side):
    @override
    def data_received(self, data: bytes) -> None:
        if self.doomed:
            self.proxy.lost += 1
            self.transport.abort()
        elif self.peer is not None:
            self.peer.transport.write(data)
        else:
            self.early.append(data)

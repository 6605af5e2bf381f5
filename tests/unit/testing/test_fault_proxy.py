"""Each fault of the fault proxy, on a server that says everything twice."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import anyio
import pytest

from holdfast.testing.fault_proxy import FaultProxy

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])  # the proxy runs on asyncio only

PATIENCE_SECONDS = 10
SILENCE_SECONDS = 0.2
"""Nothing came for so long: it can only make a test pass that should fail, never the other way round."""


@dataclass
class Echo:
    """The server, and what it has read."""

    port: int = 0
    read: bytearray = field(default_factory=bytearray)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(1 << 16):
                self.read += data
                writer.write(data + data)
        self.ended.set()
        writer.close()


@dataclass
class Client:
    """A connection through the proxy."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    def say(self, data: bytes) -> None:
        self.writer.write(data)

    async def hears(self, data: bytes) -> None:
        with anyio.fail_after(PATIENCE_SECONDS):
            assert await self.reader.readexactly(len(data)) == data

    async def hears_nothing(self) -> None:
        with anyio.move_on_after(SILENCE_SECONDS):
            assert not await self.reader.read(1), "something came"
            raise AssertionError("it was told of the end")

    async def is_cut_off(self) -> bytes:
        """What came before the end."""
        with anyio.fail_after(PATIENCE_SECONDS):
            try:
                return await self.reader.read(-1)
            except ConnectionResetError:
                return b""


@asynccontextmanager
async def echo() -> AsyncGenerator[tuple[Echo, FaultProxy]]:
    found = Echo()
    server = await asyncio.start_server(found.serve, "127.0.0.1", 0)
    found.port = server.sockets[0].getsockname()[1]
    async with FaultProxy("127.0.0.1", found.port) as proxy:
        yield found, proxy
    server.close()
    with anyio.fail_after(PATIENCE_SECONDS):
        await server.wait_closed()


@asynccontextmanager
async def connected(proxy: FaultProxy) -> AsyncGenerator[Client]:
    reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
    try:
        yield Client(reader, writer)
    finally:
        writer.transport.abort()


async def test_without_faults_everything_passes_both_ways() -> None:
    async with echo() as (server, proxy), connected(proxy) as client:
        large = bytes(range(256)) * 20_000
        client.say(large)
        heard = b""
        with anyio.fail_after(PATIENCE_SECONDS):
            while len(heard) < 2 * len(large):
                heard += await client.reader.read(1 << 16)
        assert bytes(server.read) == large
        assert proxy.connections == 1


async def test_a_delay_is_in_both_directions_and_keeps_the_order() -> None:
    async with echo() as (_, proxy), connected(proxy) as client:
        proxy.delay(0.15)
        began = anyio.current_time()
        client.say(b"ab")
        await asyncio.sleep(0)
        client.say(b"cd")
        with anyio.fail_after(PATIENCE_SECONDS):
            heard = await client.reader.readexactly(8)
        assert heard in {b"ababcdcd", b"abcdabcd"}
        assert anyio.current_time() - began >= 0.3


async def test_the_order_survives_the_end_of_a_delay() -> None:
    """What was on its way then still comes before what is sent afterwards."""
    async with echo() as (server, proxy), connected(proxy) as client:
        proxy.delay(0.2)
        sent = b""
        for number in range(60):
            if number == 20:
                proxy.delay(0.05)
            if number == 40:
                await proxy.heal()
            line = b"%03d;" % number
            client.say(line)
            sent += line
            await asyncio.sleep(0.001)  # a piece of its own on the wire
        with anyio.fail_after(PATIENCE_SECONDS):
            while len(server.read) < len(sent):
                await client.reader.read(1 << 16)
        assert bytes(server.read) == sent


@pytest.mark.parametrize("toward", ["client", "server"])
async def test_what_a_black_hole_held_back_arrives_when_it_is_gone(toward: str) -> None:
    async with echo() as (server, proxy), connected(proxy) as client:
        client.say(b"a")
        await client.hears(b"aa")
        proxy.black_hole("client" if toward == "client" else "server")
        client.say(b"b")
        await client.hears_nothing()
        assert bytes(server.read) == (b"ab" if toward == "client" else b"a")
        await proxy.heal()
        await client.hears(b"bb")


async def test_a_black_hole_swallows_new_connections_too() -> None:
    async with echo() as (_, proxy):
        proxy.black_hole()
        async with connected(proxy) as client:
            client.say(b"a")
            await client.hears_nothing()
            await proxy.heal()
            await client.hears(b"aa")


async def test_half_open_means_that_only_the_server_knows() -> None:
    async with echo() as (server, proxy), connected(proxy) as client:
        client.say(b"a")
        await client.hears(b"aa")
        proxy.half_open()
        with anyio.fail_after(PATIENCE_SECONDS):
            await server.ended.wait()
        client.say(b"b")
        await client.hears_nothing()
        assert bytes(server.read) == b"a"
        await proxy.heal()
        assert await client.is_cut_off() == b""
        async with connected(proxy) as again:
            again.say(b"c")
            await again.hears(b"cc")


async def test_a_reset_is_a_reset() -> None:
    async with echo() as (_, proxy), connected(proxy) as client:
        client.say(b"a")
        await client.hears(b"aa")
        proxy.reset()
        with anyio.fail_after(PATIENCE_SECONDS), pytest.raises(ConnectionResetError):
            await client.reader.read(1)
        assert proxy.connections == 0


async def test_a_cut_toward_the_client_tears_an_answer() -> None:
    async with echo() as (server, proxy), connected(proxy) as client:
        proxy.cut_after(3, "client")
        client.say(b"abc")
        assert await client.is_cut_off() == b"abc"[:3]
        assert bytes(server.read) == b"abc"
        assert proxy.cuts == 1


async def test_a_cut_toward_the_server_tears_a_request() -> None:
    async with echo() as (server, proxy), connected(proxy) as client:
        proxy.cut_after(2, "server")
        client.say(b"abc")
        await client.is_cut_off()
        with anyio.fail_after(PATIENCE_SECONDS):
            await server.ended.wait()
        assert bytes(server.read) == b"ab"


async def test_a_reply_can_be_lost_though_the_request_was_carried_out() -> None:
    async with echo() as (server, proxy), connected(proxy) as client:
        proxy.lose_reply_to(b"secret")
        client.say(b"one")
        await client.hears(b"oneone")
        client.say(b"the secret")
        assert await client.is_cut_off() == b""
        assert bytes(server.read) == b"onethe secret"
        assert proxy.cuts == 1


async def test_connections_are_refused_until_it_heals() -> None:
    async with echo() as (_, proxy):
        port = proxy.port
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)
        await proxy.heal()
        assert proxy.port == port
        async with connected(proxy) as client:
            client.say(b"a")
            await client.hears(b"aa")


async def test_a_server_that_is_not_there_resets_the_client() -> None:
    async with echo() as (_, proxy):
        proxy.server = ("127.0.0.1", 1)
        async with connected(proxy) as client:
            client.say(b"a")
            assert await client.is_cut_off() == b""

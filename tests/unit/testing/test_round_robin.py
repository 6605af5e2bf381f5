"""The proxy against real sockets. Backends here are scripts of bytes, so that they can misbehave."""

import asyncio
import contextlib
import re
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypeAlias

import httpx
import pytest

from holdfast.testing.round_robin import RoundRobinProxy

pytestmark = pytest.mark.anyio

Handler: TypeAlias = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
BOUND_SECONDS = 10.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@contextlib.asynccontextmanager
async def backend(handler: Handler) -> AsyncGenerator[int, None]:
    """A server that gives each connection to the handler, once; yields its port."""

    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            async with asyncio.timeout(BOUND_SECONDS):
                await handler(reader, writer)
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()

    server = await asyncio.start_server(once, "127.0.0.1", 0, limit=2**21)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def refused_port() -> int:
    """A port where nobody listens."""
    async with backend(silence) as port:
        pass
    return port


async def read_head(reader: asyncio.StreamReader) -> bytes:
    return await reader.readuntil(b"\r\n\r\n")


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


def answering(body: bytes, *, status: str = "200 OK", headers: bytes = b"") -> Handler:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 %s\r\n%s" % (status.encode(), headers))
        writer.write(b"content-length: %d\r\n\r\n%s" % (len(body), body))

    return handler


@contextlib.asynccontextmanager
async def proxied(*handlers: Handler) -> AsyncGenerator[RoundRobinProxy, None]:
    """A proxy before one backend for each handler."""
    async with contextlib.AsyncExitStack() as stack:
        ports = [await stack.enter_async_context(backend(each)) for each in handlers]
        yield await stack.enter_async_context(RoundRobinProxy([("127.0.0.1", port) for port in ports]))


@contextlib.asynccontextmanager
async def raw_client(
    proxy: RoundRobinProxy,
) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter], None]:
    async with asyncio.timeout(BOUND_SECONDS):
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        try:
            yield reader, writer
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


def client() -> httpx.AsyncClient:
    return httpx.AsyncClient(timeout=BOUND_SECONDS, trust_env=False)


async def test_requests_of_one_connection_go_round_the_backends() -> None:
    async with proxied(answering(b"a"), answering(b"b"), answering(b"c")) as proxy, client() as http:
        answers = [await http.get(proxy.url) for _ in range(7)]
    assert "".join(answer.text for answer in answers) == "abcabca"
    assert proxy.repeats() == []
    named = [answer.headers["x-holdfast-backend"] for answer in answers]
    assert named == [each.backend for each in proxy.log]


async def test_the_log_says_what_was_asked_and_answered() -> None:
    async with proxied(answering(b"", status="418 Teapot")) as proxy, client() as http:
        await http.delete(f"{proxy.url}/mcp?x=1")
        (exchange,) = proxy.log
        assert (exchange.method, exchange.path, exchange.status) == ("DELETE", "/mcp?x=1", 418)
        assert str(exchange) == f"{exchange.backend} 418 DELETE /mcp?x=1"
        proxy.clear_log()
        assert proxy.log == ()


async def test_repeats_and_summary_show_a_backend_that_got_two_in_a_row() -> None:
    async with proxied(answering(b"a")) as proxy, client() as http:
        await http.get(proxy.url)
        await http.get(proxy.url)
    assert len(proxy.repeats()) == 1
    assert "2 requests, 1 of them to the same backend" in proxy.summary()
    assert "2 requests (200: 2)" in proxy.summary()


async def test_headers_arrive_but_not_those_for_one_hop() -> None:
    seen = bytearray()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.extend(await read_head(reader))
        writer.write(b"HTTP/1.1 200 OK\r\nkeep-alive: timeout=1\r\nx-mine: 1\r\ncontent-length: 0\r\n\r\n")

    async with proxied(handler) as proxy, client() as http:
        headers = {"Host": "example.org", "TE": "trailers", "Mcp-Session-Id": "s" * 1_000_000}
        answer = await http.get(proxy.url, headers=headers)
    assert b"host: example.org\r\n" in seen.lower()
    assert b"mcp-session-id: sss" in seen.lower()
    assert b"\r\nte:" not in seen.lower()
    assert "keep-alive" not in answer.headers
    assert answer.headers["x-mine"] == "1"


async def test_an_event_stream_flows_without_being_buffered() -> None:
    first_was_read = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n")
        writer.write(b"transfer-encoding: chunked\r\n\r\n")
        writer.write(b"9\r\ndata: 1\n\n\r\n")
        await first_was_read.wait()  # a proxy that waits for more than this waits for ever
        writer.write(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")

    async with proxied(handler) as proxy, client() as http, http.stream("GET", proxy.url) as answer:
        pieces = answer.aiter_raw()
        assert await anext(pieces) == b"data: 1\n\n"
        first_was_read.set()
        assert await anext(pieces) == b"data: 2\n\n"


async def test_a_request_body_flows_while_the_answer_flows_back() -> None:
    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n")
        for _ in range(2):
            writer.write(await reader.readexactly(4))
            await writer.drain()

    async with proxied(echo) as proxy, raw_client(proxy) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 8\r\n\r\nping")
        assert (await read_head(reader)).startswith(b"HTTP/1.1 200")
        assert await reader.readexactly(4) == b"ping"
        writer.write(b"pong")
        assert await reader.readexactly(4) == b"pong"


async def test_a_large_body_goes_both_ways() -> None:
    body = bytes(range(256)) * 20_000

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        received = await reader.readexactly(len(body))
        writer.write(b"HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n")  # the end of the body is the end of all
        writer.write(received)

    async with proxied(echo) as proxy, client() as http:
        assert (await http.post(proxy.url, content=body)).content == body


async def test_expect_100_continue_is_answered() -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert b"expect" not in (await read_head(reader)).lower()
        assert await reader.readexactly(2) == b"hi"
        writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")

    async with proxied(handler) as proxy, raw_client(proxy) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
        assert (await read_head(reader)).startswith(b"HTTP/1.1 100")
        writer.write(b"hi")
        assert (await read_head(reader)).startswith(b"HTTP/1.1 204")


async def test_an_answer_before_the_end_of_the_request_arrives_and_the_connection_lives_on() -> None:
    async def too_large(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 413 Too Large\r\ncontent-length: 0\r\n\r\n")

    async with proxied(too_large, answering(b"next")) as proxy, raw_client(proxy) as (reader, writer):
        writer.write(b"POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 8\r\n\r\nhalf")
        assert (await read_head(reader)).startswith(b"HTTP/1.1 413")
        writer.write(b"rest")
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        assert (await read_head(reader)).startswith(b"HTTP/1.1 200")
        assert await reader.readexactly(4) == b"next"


async def test_answers_without_a_body_do_not_end_the_connection() -> None:
    handlers = answering(b""), answering(b"", status="204 No Content"), answering(b"body")
    async with proxied(*handlers) as proxy, raw_client(proxy) as (reader, writer):
        for line, status in ((b"HEAD", b"200"), (b"DELETE", b"204"), (b"GET", b"200")):
            writer.write(line + b" / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert (await read_head(reader)).startswith(b"HTTP/1.1 " + status)
        assert await reader.readexactly(4) == b"body"


async def test_two_requests_sent_at_once_are_answered_in_order() -> None:
    async with proxied(answering(b"a"), answering(b"b")) as proxy, raw_client(proxy) as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n" * 2)
        for body in (b"a", b"b"):
            await read_head(reader)
            assert await reader.readexactly(1) == body


@pytest.mark.parametrize("answered", [False, True], ids=["before the answer", "in the middle of it"])
async def test_the_backend_notices_that_the_client_went_away(*, answered: bool) -> None:
    waiting, gone = asyncio.Event(), asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        if answered:
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nhalf")
        waiting.set()
        with contextlib.suppress(OSError):
            assert await reader.read() == b""
        gone.set()

    async with proxied(handler) as proxy:
        async with raw_client(proxy) as (reader, writer):
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await waiting.wait()
            if answered:
                await read_head(reader)
        async with asyncio.timeout(BOUND_SECONDS):
            await gone.wait()
    assert [each.status for each in proxy.log] == [200 if answered else None]


@pytest.mark.parametrize("framing", [b"content-length: 100", b"transfer-encoding: chunked"])
async def test_the_client_notices_that_the_backend_died_in_the_middle_of_an_answer(framing: bytes) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n5\r\nhello\r\n")

    async with proxied(handler) as proxy, client() as http:
        with pytest.raises(httpx.RemoteProtocolError):
            await http.get(proxy.url)


async def test_the_next_living_backend_takes_over_for_one_that_refuses() -> None:
    async with proxied(answering(b"a"), answering(b"b")) as proxy, client() as http:
        proxy.add("127.0.0.1", await refused_port())
        answers = [(await http.get(proxy.url)).text for _ in range(4)]
    assert answers == ["a", "b", "a", "b"]


async def test_without_retry_a_backend_that_refuses_is_a_502_that_names_it() -> None:
    port = await refused_port()
    async with RoundRobinProxy([("127.0.0.1", port)], retry_connect=False) as proxy, client() as http:
        answer = await http.get(proxy.url)
    assert answer.status_code == 502
    assert answer.json()["backend"] == f"127.0.0.1:{port}" == answer.headers["x-holdfast-backend"]
    assert [each.status for each in proxy.log] == [502]


async def test_nobody_to_ask_is_a_502() -> None:
    async with RoundRobinProxy([]) as proxy, client() as http:
        assert (await http.get(proxy.url)).status_code == 502
    assert "nobody" in proxy.summary()


async def test_a_backend_that_hangs_up_without_an_answer_is_a_502_and_nobody_else_gets_the_request() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)

    async with proxied(hang_up, answering(b"b")) as proxy, client() as http:
        assert (await http.post(proxy.url)).status_code == 502
        assert (await http.post(proxy.url)).text == "b"
    assert len(proxy.log) == 2


async def test_backends_come_and_go() -> None:
    async with proxied(answering(b"a"), answering(b"b")) as proxy, client() as http:
        async with backend(answering(b"c")) as port:
            proxy.add("127.0.0.1", port)
            assert [(await http.get(proxy.url)).text for _ in range(4)] == ["a", "b", "c", "a"]
            proxy.remove("127.0.0.1", port)
            assert [(await http.get(proxy.url)).text for _ in range(2)] == ["b", "a"]
        with pytest.raises(ValueError, match=re.escape(f"no backend 127.0.0.1:{port}")):
            proxy.remove("127.0.0.1", port)
        assert len(proxy.backends) == 2


async def test_what_is_not_http_is_a_400() -> None:
    async with proxied(answering(b"a")) as proxy, raw_client(proxy) as (reader, writer):
        writer.write(b"\x16\x03\x01 hello\r\n\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 400")
    assert proxy.log == ()


async def test_closing_the_proxy_hangs_up_on_everybody() -> None:
    gone = asyncio.Event()

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_head(reader)
        writer.write(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        with contextlib.suppress(OSError):
            await reader.read()
        gone.set()

    async with contextlib.AsyncExitStack() as stack:
        port = await stack.enter_async_context(backend(handler))
        async with RoundRobinProxy([("127.0.0.1", port)]) as proxy:
            reader, writer = await stack.enter_async_context(raw_client(proxy))
            writer.write(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            await read_head(reader)
        with contextlib.suppress(OSError):
            assert await reader.read() == b""
        await gone.wait()
    with pytest.raises(RuntimeError, match="async with"):
        _ = proxy.port


async def test_it_runs_from_the_shell_and_says_what_it_did() -> None:
    async with backend(answering(b"a")) as port, asyncio.timeout(BOUND_SECONDS):
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "holdfast.testing.round_robin",
            f"127.0.0.1:{port}",
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            assert process.stderr is not None
            first = (await process.stderr.readline()).decode()
            async with client() as http:
                assert (await http.get(first.split()[0])).text == "a"
            process.send_signal(signal.SIGTERM)
            rest = (await process.stderr.read()).decode()
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    assert f"goes round 127.0.0.1:{port}" in first
    assert f"127.0.0.1:{port} 200 GET /" in rest
    assert "1 requests, 0 of them to the same backend" in rest

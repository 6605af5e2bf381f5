"""The session-manager seam: four methods, on each store, from any process; with and without MCP."""

import queue
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, aclosing, asynccontextmanager
from typing import Any, Protocol

import anyio
import anyio.lowlevel
import httpx2
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from typing_extensions import override

import holdfast
from holdfast.backends.memory import MemoryBackend, MemoryData
from holdfast.integrations.plain.controllers import (
    AnyioController,
    ConnectionClosed,
    QueueController,
    SseResponse,
    WebSocketController,
)
from holdfast.integrations.plain.manager import LogSessionManager
from holdfast.testing.asgi_bridge import Bridge
from tests.flows.conftest import Setup, Wired
from tests.flows.wire import ServerEvent, Stream, until

HELLO = "event: message\ndata: hello\n\n"


class Collected:
    """A connection that keeps what it gets."""

    def __init__(self) -> None:
        self.got: list[str] = []
        self.closed = 0

    def enqueue(self, data: str) -> None:
        self.got.append(data)

    def close(self) -> None:
        self.closed += 1

    @property
    def data(self) -> list[str]:
        lines = [line for event in self.got for line in event.split("\n")]
        return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]


class Managers(Protocol):
    def __call__(
        self, count: int = 2, **options: Any
    ) -> AbstractAsyncContextManager[list[LogSessionManager]]: ...


@pytest.fixture
def managers(setup: Setup, store: str | None) -> Managers:
    """Session managers as so many processes have them, on one store."""

    @asynccontextmanager
    async def started(count: int = 2, **options: Any) -> AsyncGenerator[list[LogSessionManager]]:
        data = MemoryData()
        async with AsyncExitStack() as stack:
            yield [
                await stack.enter_async_context(
                    LogSessionManager(MemoryBackend(data) if store is None else store, **options)
                )
                for _ in range(count)
            ]

    return started


async def test_what_is_sent_anywhere_arrives_where_the_connection_is(managers: Managers) -> None:
    async with managers(3) as (a, b, c):
        there, elsewhere = Collected(), Collected()
        await a.create("alice", there)
        await b.create("bob", elsewhere)
        for number, manager in enumerate((a, b, c)):
            await manager.send(["alice"], f"data: {number}\n\n")
        await until(lambda: len(there.data) == 3)
        assert there.data == ["0", "1", "2"]
        assert not elsewhere.got


async def test_none_is_all_and_an_empty_list_is_nobody(managers: Managers) -> None:
    async with managers(2) as (a, b):
        alice, bob = Collected(), Collected()
        await a.create("alice", alice)
        await b.create("bob", bob)
        await a.send([], "data: nobody\n\n")
        await a.send(["nobody", "alice", "alice", "{a}", "a\nb", ""], "data: alice\n\n")
        await until(lambda: alice.data == ["alice"])
        await b.send(None, "data: all\n\n")
        await until(lambda: alice.data == ["alice", "all"] and bob.data == ["all"])


async def test_a_session_is_known_everywhere_until_it_is_deleted_anywhere(managers: Managers) -> None:
    async with managers(2) as (a, b):
        connection = Collected()
        assert not await b.has("alice")
        await a.create("alice", connection)
        assert await b.has("alice")
        await b.delete("alice")
        await until(lambda: connection.closed)
        for manager in (a, b):
            assert not await manager.has("alice")
            await manager.delete("alice")
            await manager.send(["alice"], HELLO)
        with pytest.raises(holdfast.SessionGone):
            await a.create("alice", Collected())


async def test_what_was_sent_while_a_client_was_away_is_there_when_it_returns(managers: Managers) -> None:
    async with managers(2) as (a, b):
        first, second = Collected(), Collected()
        await a.create("alice", first)
        await a.send(["alice"], "data: 1\n\n")
        await until(lambda: first.data == ["1"])
        last_event_id = first.got[0].partition("\n")[0].removeprefix("id: ")
        await b.send(["alice"], "data: 2\n\n")
        await b.send(None, "data: 3\n\n")
        await b.create("alice", second, last_event_id=last_event_id)
        await until(lambda: sorted(second.data) == ["2", "3"])
        with pytest.raises(ValueError, match="event id"):
            await b.create("alice", Collected(), last_event_id="forged")


async def test_a_newer_connection_takes_the_session_over(managers: Managers) -> None:
    async with managers(2) as (a, b):
        older, newer = Collected(), Collected()
        await a.create("alice", older)
        await b.create("alice", newer)
        await until(lambda: older.closed)
        await a.send(["alice"], HELLO)
        await until(lambda: newer.data == ["hello"])
        assert not newer.closed


async def test_messages_and_events_of_other_kinds_are_framed(managers: Managers) -> None:
    async with managers(1) as (a,):
        connection = Collected()
        await a.create("alice", connection)
        await a.send(["alice"], {"text": "two\nlines"})
        await a.send(["alice"], "event: joined\ndata: bob\ndata: and eve\n\n")
        await until(lambda: len(connection.got) == 2)
        assert connection.data == ['{"text":"two\\nlines"}', "bob", "and eve"]
        assert "event: joined\n" in connection.got[1]


@pytest.mark.parametrize(
    "wrong", ["hello", "data: x\n", "data: x\n\ndata: y\n\n", "id: 1\ndata: x\n\n", "event: x\n\n"]
)
async def test_what_is_not_one_event_is_refused(managers: Managers, wrong: str) -> None:
    async with managers(1) as (a,):
        with pytest.raises(ValueError, match=r"^data: "):
            await a.send(None, wrong)


async def test_hostile_ids_are_refused_and_touch_nothing(managers: Managers) -> None:
    async with managers(1) as (a,):
        for hostile in ("a b", "{a}", "", "x" * 8192, "a\nb", "🦊", 'a"\r\nb'):
            with pytest.raises(ValueError, match="session id"):
                await a.create(hostile, Collected())
            assert not await a.has(hostile)
            await a.delete(hostile)
        victim = Collected()
        await a.create("victim", victim)
        for odd in ("victim&z", "*", "..", "'; DROP TABLE x", "victim:", "vic", "%76ictim"):
            await a.send([odd], HELLO)
            await a.delete(odd)
        await a.send(["victim"], "data: still here\n\n")
        await until(lambda: victim.data == ["still here"])
        assert await a.store.sessions.count() == 1


async def test_the_id_of_an_mcp_session_cannot_be_taken_but_it_can_be_told(wired: Wired) -> None:
    async with wired(count=1) as wire:
        store = wire.fleet._make_store()  # pyright: ignore[reportPrivateUsage]
        async with LogSessionManager(store) as manager, wire.open() as standalone:
            with pytest.raises(holdfast.SessionGone):
                await manager.create(str(wire.session), Collected())
            assert await manager.has(str(wire.session))
            changed = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
            await manager.send([str(wire.session)], changed)
            await standalone.method("notifications/tools/list_changed")
            await manager.send(None, 'event: message\ndata: {"jsonrpc":"2.0","method":"notifications/x"}\n\n')
            await standalone.method("notifications/x")


async def test_a_connection_that_fails_is_let_go_and_its_session_kept(managers: Managers) -> None:
    class Failing(Collected):
        @override
        def enqueue(self, data: str) -> None:
            raise ConnectionClosed

    async with managers(2) as (a, b):
        failing, healthy = Failing(), Collected()
        await a.create("alice", failing)
        await a.create("bob", healthy)
        await b.send(None, HELLO)
        await until(lambda: failing.closed == 1)
        await until(lambda: healthy.data == ["hello"])
        assert await b.has("alice")


async def test_an_open_connection_keeps_its_session_and_the_end_of_one_ends_no_other(
    managers: Managers,
) -> None:
    async with managers(2, ttl_seconds=2.0) as (a, b):
        alice, bob = Collected(), Collected()
        await a.create("alice", alice)
        await a.create("bob", bob)
        await a.delete("bob")
        await anyio.sleep(4.0)  # the passing of time is what this test is about
        await b.send(["alice"], HELLO)
        await until(lambda: alice.data == ["hello"])
        assert bob.closed


async def test_adapters_of_streams_queues_and_web_sockets(managers: Managers) -> None:
    class Socket:
        def __init__(self) -> None:
            self.got: list[str] = []
            self.code = 0

        async def send_text(self, data: str) -> None:
            self.got.append(data)

        async def close(self, code: int = 1000) -> None:
            self.code = code

    async with managers(1) as (a,):
        send, receive = anyio.create_memory_object_stream[str](1)
        put: queue.Queue[str | None] = queue.Queue(10)
        socket = Socket()
        with receive:
            await a.create("stream", AnyioController(send))
            await a.create("queue", QueueController(put))
            await a.create("socket", WebSocketController(socket))
            await a.send(None, HELLO)
            assert "hello" in await receive.receive()
            await until(lambda: put.qsize() == 1 and socket.got)
            for name in ("stream", "queue", "socket"):
                await a.delete(name)
            with pytest.raises(anyio.EndOfStream):
                await receive.receive()
        await until(lambda: put.qsize() == 2 and socket.code)
        assert "hello" in str(put.get())
        assert put.get() is None


@asynccontextmanager
async def chat(manager: LogSessionManager) -> AsyncGenerator[httpx2.AsyncClient]:
    async def stream(request: Request) -> Response:
        response = SseResponse()
        last = request.headers.get("last-event-id")
        await manager.create(request.query_params["name"], response, last_event_id=last)
        return response

    app: Any = Starlette(routes=[Route("/events", stream)])
    async with anyio.create_task_group() as tasks:

        def start(task: Callable[..., Any]) -> None:
            tasks.start_soon(task)

        async with httpx2.AsyncClient(
            base_url="http://x", transport=Bridge(lambda _: (app, start))
        ) as client:
            yield client
        tasks.cancel_scope.cancel()


async def next_event(client: httpx2.AsyncClient, on_open: Callable[[], Any], **headers: str) -> ServerEvent:
    async with (
        client.stream("GET", "/events", params={"name": "alice"}, headers=headers) as response,
        aclosing(response.aiter_raw()) as chunks,
    ):
        await on_open()
        event = await Stream(response, chunks).next()
    assert event is not None
    return event


async def test_an_sse_response_carries_a_session_and_resumes(managers: Managers) -> None:
    async with managers(2) as (a, b), chat(a) as client, chat(b) as other:
        first = await next_event(client, lambda: b.send(["alice"], HELLO))
        assert first.data == "hello"
        await b.send(["alice"], "data: while away\n\n")
        missed = await next_event(other, anyio.lowlevel.checkpoint, **{"last-event-id": str(first.id)})
        assert missed.data == "while away"


async def test_a_client_that_never_reads_is_cut_off_at_a_bound_and_harms_nobody(managers: Managers) -> None:
    async with managers(1) as (a,):
        slow, quick = SseResponse(buffered_bytes=10_000), Collected()
        await a.create("slow", slow)
        await a.create("quick", quick)
        for _ in range(12):
            await a.send(None, "data: " + "x" * 1000 + "\n\n")
        await until(lambda: len(quick.got) == 12)
        await until(lambda: slow.closed)
        assert await a.has("slow")


async def test_a_publisher_reaches_every_session_from_outside(wired: Wired) -> None:
    async with wired() as wire, wire.open(on=1) as standalone:
        store = wire.fleet._make_store()  # pyright: ignore[reportPrivateUsage]
        await wire.request("resources/subscribe", {"uri": "res://a"}, on=0)
        async with holdfast.Publisher(store) as publisher:
            await publisher.tools_changed()
            await standalone.method("notifications/tools/list_changed")
            assert await publisher.resource_updated("res://a") == 1
            updated = await standalone.method("notifications/resources/updated")
            assert updated["params"] == {"uri": "res://a"}
            assert await publisher.resource_updated("res://ab") == 0
            await publisher.notify([str(wire.session), "gone", "{"], "notifications/x", {"a": 1})
            assert (await standalone.method("notifications/x"))["params"] == {"a": 1}
            await publisher.notify([], "notifications/nobody")
            await publisher.prompts_changed()
            await standalone.method("notifications/prompts/list_changed")
            await publisher.resources_changed()
            await standalone.method("notifications/resources/list_changed")

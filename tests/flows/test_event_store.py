"""The SDK's own session manager with our event store: streams resume, and no session reads another's."""

import logging
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, cast

import anyio
import httpx2
import pytest

from holdfast.backends import open_store
from holdfast.errors import ConfigurationError
from holdfast.integrations.mcp_sdk.event_store import EventStore
from holdfast.sessions.types import STANDALONE
from holdfast.testing.asgi_bridge import Bridge, Message, Receive, Send, lifespan
from holdfast.testing.faults import FaultyBackend
from tests.flows.apps import Framework, Stage, app_factory
from tests.flows.wire import ServerEvent, Stream, Wire, call, said, until


class Stock(Protocol):
    """Start a server of the SDK's own, and open sessions: `async with stock() as session`."""

    def __call__(
        self, *, install: bool = True, timeout_seconds: float = 2.0
    ) -> AbstractAsyncContextManager[Callable[[], Any]]: ...


@pytest.fixture
def backend(store: str | None) -> FaultyBackend:
    return FaultyBackend(open_store(store or "memory://"))


@pytest.fixture
def stock(framework: Framework, stage: Stage, backend: FaultyBackend) -> Stock:
    @asynccontextmanager
    async def started(
        *, install: bool = True, timeout_seconds: float = 2.0
    ) -> AsyncGenerator[Callable[[], Any], None]:
        events = EventStore(backend, timeout_seconds=timeout_seconds)
        app = app_factory(framework, stage, event_store=events)(0)
        if install:
            events.install(app)
        async with lifespan(app) as state, anyio.create_task_group() as tasks:

            async def serve(scope: Message, receive: Receive, send: Send) -> None:
                async def send_with_our_line_ends(message: Message) -> None:
                    if "body" in message:
                        message["body"] = message["body"].replace(b"\r\n", b"\n")
                    await send(message)

                await app({**scope, "state": dict(state)}, receive, send_with_our_line_ends)

            bridge = Bridge(lambda _request: (serve, cast("Any", tasks.start_soon)))
            async with httpx2.AsyncClient(
                base_url="http://localhost:8000", transport=bridge, timeout=10
            ) as client:

                async def session() -> Wire:
                    wire = Wire(cast("Any", None), client)
                    await wire.initialize()
                    return wire

                yield session
            tasks.cancel_scope.cancel()

    return started


async def test_a_stream_that_was_cut_off_resumes(stock: Stock, stage: Stage, framework: Framework) -> None:
    async with stock() as session:
        wire = await session()
        async with wire.calling("report_and_wait") as stream:
            await stream.method("notifications/progress")
        async with wire.open(after=stream.last_id) as resumed:
            if framework == "fastmcp":
                await resumed.next()  # its priming event: before that, FastMCP does not listen
            stage.mark("go")
            stage.mark("end")
            for step in (2, 3):
                assert (await resumed.method("notifications/progress"))["params"]["progress"] == step
            assert said(await resumed.message()) == "0:done"


@pytest.mark.parametrize("framework", ["sdk"])
async def test_nothing_falls_between_the_replay_and_what_comes_live(stock: Stock, stage: Stage) -> None:
    """The SDK alone loses what is stored between the two."""
    async with stock() as session:
        wire = await session()
        async with wire.calling("count", "300") as stream:
            first = await stream.next()
        assert first is not None
        async with wire.open(after=first.id) as resumed:
            messages = [event.message for event in await resumed.rest() if event.data]
        assert [message["params"]["progress"] for message in messages[:-1]] == list(range(1, 301))
        assert said(messages[-1]) == "0:counted"


async def test_an_answered_stream_is_replayed_with_its_answer(stock: Stock) -> None:
    async with stock() as session:
        wire = await session()
        async with wire.calling("count", "3") as stream:
            events = await stream.rest()
        async with wire.open(after=events[0].id) as resumed:
            again = await _up_to_the_answer(resumed)
        assert [event.id for event in again] == [event.id for event in events if event.data]


async def test_sessions_with_the_same_request_ids_do_not_read_each_other(stock: Stock) -> None:
    async with stock() as session:
        alice, bob = await session(), await session()
        async with alice.open(call("echo", "alice's secret", id=7)) as stream:
            hers = await stream.rest()
        async with bob.open(call("echo", "bob's", id=7)) as stream:
            his = await stream.rest()
        async with bob.open(after=his[0].id) as resumed:
            assert [said(event.message) for event in await _up_to_the_answer(resumed)] == ["0:bob's"]
        async with bob.open(after=hers[0].id) as stolen, anyio.create_task_group() as tasks:
            tasks.start_soon(_assert_silent, stolen)
            await anyio.sleep(0.2)
            tasks.cancel_scope.cancel()


async def _up_to_the_answer(stream: Stream) -> list[ServerEvent]:
    """Where FastMCP replays, the stream stays open afterwards."""
    events: list[ServerEvent] = []
    while not events or "method" in events[-1].message:
        event = await stream.next()
        assert event is not None
        events += [event] if event.data else []
    return events


async def _assert_silent(stream: Stream) -> None:
    while (event := await stream.next()) is not None:
        assert not event.data


async def test_a_store_that_fails_ends_neither_the_call_nor_the_session(
    stock: Stock, backend: FaultyBackend
) -> None:
    async with stock() as session:
        wire = await session()
        async with wire.calling("report_and_wait") as stream:
            priming = await stream.next()
            assert priming is not None
        backend.fail()
        assert await wire.do("echo", "x") == "0:x"
        assert await wire.do("count", "5") == "0:counted"
        backend.heal()
        assert await wire.do("echo", "y") == "0:y"


async def test_what_happened_while_the_store_failed_is_resumed_from_afterwards(
    stock: Stock, backend: FaultyBackend
) -> None:
    async with stock() as session:
        wire = await session()
        async with wire.open(call("count", "600")) as stream:
            priming = await stream.next()
            backend.fail("log.append")
            await stream.rest()
        backend.heal()
        assert priming is not None
        await anyio.sleep(1.1)  # the pause in which a failed store is left alone
        async with wire.open(after=priming.id) as resumed:
            messages = [event.message for event in await _up_to_the_answer(resumed)]
        assert {"level": "warning", "logger": "holdfast", "data": {"event": "events-lost"}} in [
            message.get("params") for message in messages
        ]
        assert said(messages[-1]) == "0:counted"


async def test_the_notice_of_lost_events_is_not_lost_with_the_reply_to_the_one_before(
    stock: Stock, backend: FaultyBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.integrations.mcp_sdk.event_store._PENDING", 8)
    append = backend.inner.log.append

    async def append_and_hang(*args: Any, **options: Any) -> None:
        await append(*args, **options)
        await anyio.sleep_forever()

    async with stock(timeout_seconds=0.2) as session:
        wire = await session()
        async with wire.open(call("count", "20")) as stream:
            priming = await stream.next()
            monkeypatch.setattr(backend.inner.log, "append", append_and_hang)
            await stream.rest()
        monkeypatch.setattr(backend.inner.log, "append", append)
        assert priming is not None
        async with wire.open(after=priming.id) as resumed:
            messages = [event.message for event in await _up_to_the_answer(resumed)]
        told = [message["params"] for message in messages[:-1]]
        steps = [params.get("progress", "lost") for params in told]
        place = steps.index("lost")
        assert steps == [*range(1, place + 1), "lost", *range(20 - len(steps) + place + 2, 21)]
        assert said(messages[-1]) == "0:counted"


async def test_a_store_that_hangs_holds_up_an_event_for_a_bounded_time(
    stock: Stock, backend: FaultyBackend, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hang(*_args: object, **_options: object) -> None:
        await anyio.sleep_forever()

    async with stock(timeout_seconds=0.05) as session:
        wire = await session()
        monkeypatch.setattr(backend.inner.log, "append", hang)
        assert await wire.do("echo", "x") == "0:x"


async def test_a_deleted_session_leaves_nothing(stock: Stock, backend: FaultyBackend) -> None:
    async with stock() as session:
        wire = await session()
        assert await wire.do("count", "3") == "0:counted"
        assert len(await backend.sessions.list()) == 1
        assert await wire.delete() == 200

        async def is_empty() -> bool:
            return not await backend.sessions.list()

        await until(is_empty)


async def test_a_store_that_was_not_installed_says_so_and_harms_nobody(
    stock: Stock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING, "holdfast"):
        async with stock(install=False) as session:
            wire = await session()
            assert await wire.do("echo", "x") == "0:x"
    assert "EventStore.install(app)" in caplog.text


async def test_the_standalone_stream_resumes(stock: Stock, framework: Framework) -> None:
    async with stock() as session:
        wire = await session()
        async with wire.open() as standalone:
            await wire.do("announce")
            await standalone.method("notifications/tools/list_changed")
        await wire.do("touch", "res://missed")
        async with wire.open(after=standalone.last_id) as resumed:
            missed = await resumed.method("notifications/resources/updated")
        assert missed["params"]["uri"] == "res://missed"
        assert standalone.last_id is not None
        assert f".{STANDALONE}." in standalone.last_id


@pytest.mark.parametrize(("option", "value"), [("ttl_seconds", 0), ("timeout_seconds", -1)])
def test_wrong_options_are_refused(option: str, value: float) -> None:
    with pytest.raises(ConfigurationError, match=f"{option}: got {value}, expected seconds above 0"):
        EventStore("memory://", **cast("dict[str, Any]", {option: value}))

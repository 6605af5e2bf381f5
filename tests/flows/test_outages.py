"""The store freezes or dies while clients are served: nobody fails who need not, nothing is lost or doubled.

On a real Valkey that keeps what it acknowledged (append-only file), behind two replicas.
"""

from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import pytest
from typing_extensions import override

from holdfast.observe import Observer
from holdfast.sessions.condition import Condition
from tests.flows.apps import Stage
from tests.flows.conftest import Setup, Wired
from tests.flows.wire import Stream, Wire, call, said, until
from tests.servers import RunningServer, start_server

DURABLE: Final = ("--appendonly", "yes", "--appendfsync", "always")


@pytest.fixture
def setup() -> Setup:
    return Setup("valkey")


@pytest.fixture(scope="module")
def durable() -> Iterator[RunningServer]:
    with start_server("valkey", extra=DURABLE) as server:
        yield server


@pytest.fixture
def server(durable: RunningServer) -> Iterator[RunningServer]:
    yield durable
    if durable.paused:
        durable.resume()
    if not durable.alive:
        durable.restart()
    durable.cli("FLUSHALL")


@pytest.fixture
def store(server: RunningServer) -> str:
    return server.url


@pytest.fixture(params=["frozen", "killed"])
def how(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


def condition(wire: Wire, on: int) -> Condition:
    attached = wire.fleet.replicas[on].attached
    assert attached.replica is not None
    return attached.replica.condition


def go_away(server: RunningServer, how: str) -> None:
    server.pause() if how == "frozen" else server.kill()


def come_back(server: RunningServer) -> None:
    server.resume() if server.paused else server.restart()


@asynccontextmanager
async def outage(wire: Wire, server: RunningServer, how: str = "frozen") -> AsyncGenerator[None]:
    """The store is away inside, and replica 0 knows; at the end it is back, and nothing waits any more."""
    go_away(server, how)
    await until(lambda: condition(wire, 0).mode == "outage")
    yield
    come_back(server)
    await until(lambda: condition(wire, 0).mode == "normal")
    await until(lambda: condition(wire, 0).events_at_risk == 0)


async def progress(stream: Stream) -> tuple[float, str | None]:
    """The next progress, and the id that it came with."""
    while True:
        event = await stream.next()
        assert event is not None
        if event.data:
            return event.message["params"]["progress"], event.id


async def replayed(wire: Wire, after: str | None) -> list[Any]:
    """What a client is told that comes back to the other replica: numbers of progress, and the answer."""
    async with wire.open(on=1, after=after) as stream:
        assert stream.status == 200
        messages = [event.message for event in await stream.rest() if event.data]
    return [m["params"]["progress"] if "method" in m else said(m) for m in messages]


@pytest.mark.guarantee("G11")
async def test_a_call_goes_on_to_its_answer_while_the_store_is_away(
    wired: Wired, stage: Stage, server: RunningServer, how: str
) -> None:
    async with wired(count=2) as wire:
        async with wire.calling("report_and_wait", on=0) as stream:
            assert (await progress(stream))[0] == 1
            heard = stream.last_id
            async with outage(wire, server, how):
                stage.mark("go")
                assert await progress(stream) == (2, None)
                stage.mark("end")
                assert await progress(stream) == (3, None)
                assert said(await stream.result()) == "0:done"
                assert condition(wire, 0).events_at_risk == 3
                assert condition(wire, 0).sessions_at_risk == 1
        assert await replayed(wire, heard) == [2, 3, "0:done"]
        assert condition(wire, 0) == Condition()


@pytest.mark.guarantee("G11")
async def test_who_stays_connected_hears_everything_once_and_then_its_place(
    wired: Wired, stage: Stage, server: RunningServer, how: str
) -> None:
    async with wired(count=2) as wire, wire.calling("report_and_wait", on=0) as stream:
        assert (await progress(stream))[0] == 1
        heard = stream.last_id
        async with outage(wire, server, how):
            stage.mark("go")
            assert await progress(stream) == (2, None)
        place = await stream.next()
        assert place is not None
        assert (place.data, place.id not in {None, heard}) == ("", True)
        stage.mark("end")
        number, id_of_third = await progress(stream)
        assert (number, id_of_third is not None) == (3, True)
        assert said(await stream.result()) == "0:done"
        assert await replayed(wire, heard) == [2, 3, "0:done"]
        assert await replayed(wire, place.id) == [3, "0:done"]


async def test_a_short_blip_is_noticed_by_nobody(wired: Wired, stage: Stage, server: RunningServer) -> None:
    async with wired(count=2) as wire, wire.calling("count", "400", on=0) as stream:
        heard = stream.last_id
        for _ in range(3):
            await progress(stream)
            server.pause()
            await anyio.sleep(0.05)  # the length of the blip
            server.resume()
        numbers = [event.message for event in await stream.rest() if event.data]
        assert [m["params"]["progress"] for m in numbers if "method" in m] == list(range(4, 401))
        assert said(numbers[-1]) == "0:counted"
        assert heard is None
        assert condition(wire, 0).mode == "normal"


async def test_a_call_that_says_its_first_word_in_an_outage_becomes_a_stream_all_the_same(
    wired: Wired, stage: Stage, server: RunningServer
) -> None:
    async with wired(count=2, stream_after_seconds=60) as wire:

        async def start() -> None:
            async with wire.calling("begin_late", on=0) as stream:
                assert await progress(stream) == (1, None)
                stage.mark("heard")
                place = await stream.next()
                assert place is not None
                assert (place.data, place.id is not None) == ("", True)
                stage.mark("end")
                assert (await progress(stream))[0] == 2
                assert said(await stream.result()) == "0:begun late"
                assert await replayed(wire, place.id) == [2, "0:begun late"]

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(start)
                await stage.until("running")
                async with outage(wire, server):
                    stage.mark("go")
                    await stage.until("heard")


@pytest.mark.guarantee("G11")
async def test_new_requests_wait_a_little_and_are_never_told_that_their_session_is_gone(
    wired: Wired, server: RunningServer
) -> None:
    async with wired(count=2) as wire:
        async with outage(wire, server):
            answer = await wire.post(call("echo", "x", progress=False), on=0)
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1
            stranger = await wire.post(call("echo", "x"), on=0, mcp_session_id="nobody-has-this-one")
            assert stranger.status_code == 503
            params: dict[str, Any] = {"protocolVersion": "2025-11-25", "capabilities": {}}
            params["clientInfo"] = {"name": "newcomer", "version": "1"}
            newcomer = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
            refused = await wire.post(newcomer, on=0, version=None, mcp_session_id=None)
            assert refused.status_code == 503
        assert await wire.do("echo", "x", on=0) == "0:x"
        unknown = await wire.post(call("echo", "x"), on=0, mcp_session_id="nobody-has-this-one")
        assert unknown.status_code == 404


async def test_who_comes_back_to_listen_is_kept_until_the_store_is_there(
    wired: Wired, stage: Stage, server: RunningServer
) -> None:
    async with wired(count=2) as wire:
        async with wire.calling("report_and_wait", on=0) as stream:
            await progress(stream)
        resumed: list[Any] = []

        async def resume() -> None:
            resumed.extend(await replayed(wire, stream.last_id))

        with anyio.fail_after(60):
            async with anyio.create_task_group() as tasks, outage(wire, server):
                tasks.start_soon(resume)
                stage.mark("go")
                stage.mark("end")
                await until(lambda: condition(wire, 0).events_at_risk == 3)
        assert resumed == [2, 3, "0:done"]


@pytest.mark.guarantee("G11")
async def test_a_question_that_is_asked_in_an_outage_is_put_when_it_can_be_answered(
    wired: Wired, stage: Stage, server: RunningServer
) -> None:
    async with wired(count=2) as wire, wire.calling("report_wait_and_elicit", "name?", on=0) as stream:
        await progress(stream)
        async with outage(wire, server):
            stage.mark("go")
            await until(lambda: condition(wire, 0).events_at_risk == 1)
        question = await stream.method("elicitation/create")
        assert await wire.answer(question, {"action": "accept", "content": {"name": "bob"}}, on=1) == 202
        assert said(await stream.result()) == "answered"


async def test_what_belongs_to_no_request_reaches_who_listens_here_and_later_all(
    wired: Wired, stage: Stage, server: RunningServer
) -> None:
    async with wired(count=2) as wire, wire.calling("wait_and_announce", on=0) as running:
        await progress(running)
        async with wire.open(on=0) as here:
            await here.next()
            heard = here.last_id
            async with outage(wire, server):
                stage.mark("go")
                event = await here.next()
                assert event is not None
                assert (event.id, event.message["method"]) == (None, "notifications/tools/list_changed")
            place = await here.next()
            assert place is not None
            assert (place.data, place.id is not None) == ("", True)
        assert said(await running.result()) == "announced"
        async with wire.open(on=1, after=heard) as elsewhere:
            await elsewhere.method("notifications/tools/list_changed")
        async with wire.open(on=1, after=place.id) as elsewhere:
            await wire.do("touch", "res://1", on=0)
            await elsewhere.method("notifications/resources/updated")


class Counting(Observer):
    def __init__(self) -> None:
        self.waited = self.stored = 0
        self.modes: list[str] = []

    @override
    def store_mode(self, mode: str) -> None:
        self.modes.append(mode)

    @override
    def spooled(self, session: str, stream: str, size_bytes: int) -> None:
        del session, stream
        assert size_bytes > 0
        self.waited += 1

    @override
    def flushed(self, session: str, stream: str) -> None:
        del session, stream
        self.stored += 1


@pytest.mark.guarantee("G11")
async def test_what_does_not_fit_is_told_of_and_counted(
    wired: Wired, stage: Stage, server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("holdfast.sessions.spool.MOST_EVENTS", 10)
    seen = Counting()
    async with wired(count=2, observer=seen) as wire:
        async with wire.calling("wait_and_chatter", "30", on=0) as stream:
            await progress(stream)
            heard = stream.last_id
            async with outage(wire, server):
                stage.mark("go")
                said_here = [event.message for event in await stream.rest() if event.data]
        assert [m["params"]["data"] for m in said_here[:-1]] == list(range(30))
        async with wire.open(on=1, after=heard) as resumed:
            kept: list[Any] = [
                event.message["params"]["data"] for event in (await resumed.rest())[:-1] if event.data
            ]
        assert [each for each in kept if not isinstance(each, int)] == [
            {"event": "events-lost", "reason": "spool"}
        ]
        assert kept[-1] == 29
        assert set(seen.modes) == {"outage", "normal"}
        assert seen.waited == 31
        assert 0 < seen.stored < 31


async def test_what_is_lost_when_the_process_ends_meanwhile_is_said(
    wired: Wired, stage: Stage, server: RunningServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with wired(count=1) as wire, wire.calling("report_and_wait", on=0) as stream:
        await progress(stream)
        server.pause()
        await until(lambda: condition(wire, 0).mode == "outage")
        stage.mark("go")
        assert await progress(stream) == (2, None)
        await wire.fleet.stop(0)
    assert "events of 1 sessions are lost" in caplog.text

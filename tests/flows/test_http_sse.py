"""HTTP+SSE (2024-11-05): the stream is on one replica, messages come to any, and a client may come back."""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Protocol, cast

import anyio
import httpx2
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

import holdfast
from holdfast.testing.asgi_bridge import Bridge, lifespan
from holdfast.testing.replicas import Fleet, replicas
from tests.flows.apps import Framework, Stage, app_factory
from tests.flows.conftest import Start
from tests.flows.sse_wire import SseWire
from tests.flows.test_auth import Verifier
from tests.flows.wire import Wire, call, said, until

HOSTILE = (
    "victim&z",
    "a'b",
    'a"b',
    "a%0Ab",
    "*",
    "..",
    "a b",
    "x" * 8192,
    "%F0%9F%A6%8A",
    "{a}",
    "",
    "-",
    "~",
)


class Old(Protocol):
    """Start a fleet that serves HTTP+SSE: `async with old() as wire`."""

    def __call__(
        self, framework: Framework = "sdk", **options: Any
    ) -> AbstractAsyncContextManager[SseWire]: ...


@pytest.fixture
def old(start: Start) -> Old:
    @asynccontextmanager
    async def connected(framework: Framework = "sdk", **options: Any) -> AsyncGenerator[SseWire, None]:
        app = {"transport": "sse", **options.pop("app", {})}
        async with start(framework, app=app, **options) as fleet, fleet.client() as client:
            yield SseWire(fleet, client)

    return connected


async def test_messages_come_to_any_replica_and_answers_find_the_stream(
    old: Old, framework: Framework
) -> None:
    async with old(framework) as wire, wire.session_open(on=0) as stream:
        for replica in (0, 1, 2):
            await wire.start("echo", "x", on=replica, id=f"r{replica}")
            answer = await stream.message()
            assert (answer["id"], said(answer)) == (f"r{replica}", f"{replica}:x")


async def test_the_handshake_may_happen_on_another_replica_than_the_stream(old: Old) -> None:
    async with old() as wire, wire.connect(on=0) as stream:
        assert (await wire.handshake(stream, on=1))["protocolVersion"] == "2024-11-05"
        await wire.start("client", on=2, id=1)
        assert said(await stream.message()) == "old:2024-11-05"


async def test_progress_comes_before_its_answer(old: Old) -> None:
    async with old() as wire, wire.session_open(on=0) as stream:
        await wire.start("count", "3", on=1, id=5)
        assert [(await stream.message())["params"]["progress"] for _ in range(3)] == [1, 2, 3]
        assert said(await stream.message()) == "1:counted"


async def test_a_question_is_answered_on_any_replica(old: Old, framework: Framework) -> None:
    async with old(framework) as wire, wire.session_open(on=0) as stream:
        await wire.start("elicit", "who?", on=1, id=5)
        asked = await stream.method("elicitation/create")
        result = {"action": "accept", "content": {"name": "ada"}}
        assert await wire.tell({"jsonrpc": "2.0", "id": asked["id"], "result": result}, on=2) == 202
        assert said(await stream.message()) == "1:accept:ada"


async def test_what_belongs_to_no_request_comes_on_the_same_stream(old: Old) -> None:
    async with old() as wire, wire.session_open(on=0) as stream:
        await wire.start("announce", on=2, id=5)
        methods = [(await stream.message()).get("method") for _ in range(2)]
        assert sorted(methods, key=str) == [None, "notifications/tools/list_changed"]


async def test_a_message_is_accepted_before_its_handler_is_done(old: Old, stage: Stage) -> None:
    async with old() as wire, wire.session_open(on=0) as stream:
        await wire.start("wait", on=1, id=5)
        await stage.until("running")
        stage.mark("go")
        assert said(await stream.message()) == "1:waited"


async def test_a_request_is_cancelled_from_any_replica(old: Old, stage: Stage) -> None:
    async with old() as wire, wire.session_open(on=0) as stream:
        await wire.start("wait", on=1, id=5)
        await stage.until("running")
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 5}}
        assert await wire.tell(cancel, on=2) == 202
        await stage.until("interrupted")
        assert "error" in await stream.message()


async def test_a_client_that_was_cut_off_gets_what_it_missed_and_what_comes(old: Old, stage: Stage) -> None:
    async with old() as wire:
        async with wire.session_open(on=0) as stream:
            await wire.start("report_and_wait", on=1, id=5)
            await stream.method("notifications/progress")
        stage.mark("go")
        await wire.start("echo", "x", on=2, id=6)
        async with wire.connect(on=2, after=stream.last_id) as resumed:
            got = [await resumed.message() for _ in range(2)]
            assert {m.get("id") for m in got} == {None, 6}
            stage.mark("end")
            assert [(await resumed.message())["params"]["progress"]] == [3]
            assert said(await resumed.message()) == "1:done"
        async with wire.connect(on=1, after=resumed.last_id) as again:
            await wire.start("echo", "y", on=0, id=7)
            assert (await again.message())["id"] == 7


async def test_nothing_is_lost_or_doubled_wherever_the_connection_breaks(old: Old) -> None:
    async with old() as wire:
        for cut in range(6):
            async with wire.session_open(on=0) as stream:
                for number in range(3):
                    await wire.start("count", "1", on=number, id=number)
                got = [await stream.message() for _ in range(cut)]
            async with wire.connect(on=1, after=stream.last_id) as resumed:
                got += [await resumed.message() for _ in range(6 - cut)]
                await wire.start("echo", "end", on=2, id="end")
                assert (await resumed.message())["id"] == "end"
            assert sorted(m["id"] for m in got if "id" in m) == [0, 1, 2]
            assert len([m for m in got if "method" in m]) == 3


async def test_a_question_is_still_there_for_a_client_that_comes_back(old: Old) -> None:
    async with old() as wire:
        async with wire.session_open(on=0) as stream:
            pass
        await wire.start("elicit", "who?", on=1, id=5)
        async with wire.connect(on=2, after=stream.last_id) as resumed:
            asked = await resumed.method("elicitation/create")
            await wire.tell({"jsonrpc": "2.0", "id": asked["id"], "result": {"action": "decline"}}, on=0)
            assert said(await resumed.message()) == "1:decline:None"


async def test_a_newer_connection_takes_the_session_over(old: Old) -> None:
    async with (
        old() as wire,
        wire.session_open(on=0) as stream,
        wire.connect(on=1, after=stream.last_id) as newer,
    ):
        assert (await stream.rest())[-1].retry is not None
        await wire.start("echo", "x", on=2, id=5)
        assert said(await newer.message()) == "2:x"


@pytest.fixture
def quick_deaths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who is silent for a second is dead: the real bound is tested in test_ending.py."""
    monkeypatch.setattr("holdfast.sessions.replica.HEARTBEAT_SECONDS", 0.3)
    monkeypatch.setattr("holdfast.sessions.pulse.HEARTBEAT_SECONDS", 0.3)
    monkeypatch.setattr("holdfast.sessions.pulse.DEAD_AFTER_SECONDS", 1.0)
    monkeypatch.setattr("holdfast.sessions.pulse.SEEN_AGAIN_SECONDS", 0.0)


@pytest.mark.usefixtures("quick_deaths")
@pytest.mark.parametrize("connected", [True, False], ids=["connected", "away"])
async def test_the_request_of_a_replica_that_dies_is_answered(
    old: Old, stage: Stage, *, connected: bool
) -> None:
    async with old() as wire:
        async with wire.session_open(on=0) as stream:
            await wire.start("wait", on=1, id=5)
            await stage.until("running")
            if connected:
                await wire.fleet.kill(1)
                assert (await stream.message())["error"]["data"]["reason"] == "replica-died"
                return
        await wire.fleet.kill(1)
        async with wire.connect(on=2, after=stream.last_id) as resumed:
            answer = await resumed.message()
            assert (answer["id"], answer["error"]["data"]["reason"]) == (5, "replica-died")


async def test_deleting_a_session_ends_its_stream_elsewhere(old: Old) -> None:
    async with old() as wire, wire.session_open(on=0) as stream:
        assert await wire.delete(on=1) == 200
        await stream.rest()
        for replica in (0, 1, 2):
            assert await wire.tell(call("echo", id=1), on=replica) == 404
        assert await wire.delete(on=2) == 404
        async with wire.connect(on=1, after=stream.last_id) as resumed:
            assert resumed.status == 404


async def test_a_stream_that_is_open_keeps_its_session(old: Old) -> None:
    async with old(ttl_seconds=2.0) as wire:
        async with wire.session_open(on=0) as stream:
            await anyio.sleep(4.0)  # the passing of time is what this test is about
            await wire.start("echo", "x", on=1, id=5)
            assert said(await stream.message()) == "1:x"
        replica = wire.fleet.replicas[1].attached.replica
        assert replica is not None

        async def ended() -> bool:
            return not await replica.backend.sessions.list()

        await until(ended)  # asking the session itself would keep it alive
        assert await wire.tell({"jsonrpc": "2.0", "method": "notifications/x"}) == 404


async def test_before_the_handshake_nothing_runs(old: Old) -> None:
    async with old() as wire, wire.connect(on=0) as stream:
        for replica, method, code in (
            (1, "tools/call", -32600),
            (2, "server/discover", -32601),
            (0, "ping", None),
        ):
            assert await wire.tell({"jsonrpc": "2.0", "id": 9, "method": method}, on=replica) == 202
            assert (await stream.message()).get("error", {}).get("code") == code
        assert await wire.tell({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}, on=1) == 202
        await wire.handshake(stream, on=2)


async def test_a_session_is_initialized_once(old: Old) -> None:
    async with old() as wire, wire.session_open(on=0) as stream:
        for replica in (0, 1):
            message = {"jsonrpc": "2.0", "id": 7, "method": "initialize"}
            assert await wire.tell(message, on=replica) == 202
            assert (await stream.message())["error"]["code"] == -32600
        await wire.start("client", on=2, id=8)
        assert said(await stream.message()) == "old:2024-11-05"


REFUSED: tuple[tuple[bytes, dict[str, str], int], ...] = (
    (b"{}", {"content_type": "text/plain"}, 415),
    (b"{", {}, 400),
    (b"[]", {}, 400),
    (b"[1]", {}, 400),
    (b"5", {}, 400),
    (b"null", {}, 400),
    (b'{"jsonrpc":"1.0","method":"x"}', {}, 400),
    (b'{"jsonrpc":"2.0"}', {}, 400),
    (b'{"jsonrpc":"2.0","id":7.5,"method":"ping"}', {}, 400),
    (b'{"jsonrpc":"2.0","id":"forged","result":{}}', {}, 202),
    (b" " * (5 * 1024 * 1024), {}, 413),
)


async def test_what_is_no_message_is_refused(old: Old) -> None:
    async with old() as wire, wire.session_open(on=0) as stream:
        for body, headers, status in REFUSED:
            assert await wire.tell(body, on=1, **headers) == status, body[:50]
        await wire.start("echo", "x", on=2, id=5)
        assert said(await stream.message()) == "2:x"


async def test_a_hostile_session_id_is_an_unknown_one(old: Old) -> None:
    async with old() as wire, wire.session_open(on=0) as stream:
        known, store = wire.path, wire.fleet.replicas[1].store
        for hostile in HOSTILE:
            before = len(store.calls)
            wire.path = f"/messages/?session_id={hostile}"
            assert await wire.tell(call("echo", id=1), on=1) in {400, 404}, hostile[:50]
            wrote = [name for name in store.calls[before:] if name.startswith(("log.", "sessions.open"))]
            assert not wrote, hostile[:50]
        wire.path = known
        await wire.start("echo", "x", on=2, id=5)
        assert (await stream.message())["id"] == 5


FORGED = (
    "h1",
    "h1~",
    "h1~1~x~s",
    "h1~999999~s",
    "h1~-1~s",
    "1.-.abc.3",
    "h1~0~",
    "h1~1~1.-.AAAA.7~{s}",
    "h1~0~{s}x",
)


async def test_a_forged_event_id_is_refused(old: Old) -> None:
    async with old() as wire, wire.session_open(on=0) as stream:
        for forged in FORGED:
            async with wire.connect(on=1, after=forged.replace("{s}", str(wire.session))) as refused:
                assert refused.status in {400, 404}, forged
        await wire.start("echo", "x", on=2, id=5)
        assert said(await stream.message()) == "2:x"


async def test_another_principal_gets_what_an_unknown_session_gets(old: Old) -> None:
    async with old(verifier=Verifier()) as wire:
        wire.token = "alice-1"
        async with wire.session_open(on=0) as stream:
            for token, status in (("bob", 404), ("robot", 404), ("alice-2", 202), (None, 401)):
                wire.token = token
                assert await wire.tell(call("echo", "x", id=3), on=1) == status
            assert said(await stream.message()) == "1:x"
            wire.token = "bob"
            async with wire.connect(on=1, after=stream.last_id) as stolen:
                assert stolen.status == 404
            assert await wire.delete(on=2) == 404


async def test_the_transports_own_checks_of_host_and_origin_hold(old: Old) -> None:
    async with old() as wire, wire.session_open(on=0):
        for headers, status in (
            ({"host": "evil.example"}, 421),
            ({"origin": "http://evil.example"}, 403),
            ({"origin": "http://localhost:3000"}, 202),
            ({}, 202),
        ):
            for _ in range(2):
                assert await wire.tell({"jsonrpc": "2.0", "method": "x"}, on=1, **headers) == status
            async with wire.connect(on=2, **headers) as stream:
                assert stream.status == (200 if status == 202 else status)


async def test_no_session_serves_two_transports(old: Old) -> None:
    async with old(count=1) as wire, wire.session_open() as stream:
        store = wire.fleet._make_store  # pyright: ignore[reportPrivateUsage]
        async with replicas(app_factory(), count=1, store=store) as fleet, fleet.client() as client:
            other = Wire(fleet, client)
            await other.initialize()
            theirs, other.session = other.session, wire.session
            for response in (await other.post(call("echo", id=1)), await other.send("GET")):
                assert response.status_code == 404
            assert await other.delete() == 404
            wire.path = wire.path.replace(str(wire.session), str(theirs))
            assert await wire.tell(call("echo", id=1)) == 404
        wire.path = wire.path.replace(str(theirs), str(wire.session))
        await wire.start("echo", "x", id=5)
        assert said(await stream.message()) == "0:x"


async def test_a_drained_replica_sends_its_clients_elsewhere(old: Old) -> None:
    async with old() as wire:
        async with wire.session_open(on=0) as stream:
            wire.fleet.replicas[0].attached.drain(700)
            retry = (await stream.rest())[-1].retry
            assert retry is not None
            assert 700 <= retry <= 1400
            async with wire.connect(on=0) as refused:
                assert refused.status == 503
        async with wire.connect(on=1, after=stream.last_id) as resumed:
            await wire.start("echo", "x", on=2, id=5)
            assert said(await resumed.message()) == "2:x"


async def test_a_store_that_fails_fails_one_message(old: Old) -> None:
    async with old() as wire, wire.session_open(on=0) as stream:
        store = wire.fleet.replicas[1].store
        for pattern in ("sessions.find", "log.open_stream", "log.append"):
            store.fail(pattern)
            assert await wire.tell(call("echo", id=3), on=1) == 503
            store.heal()
        await wire.start("echo", "x", on=2, id=5)
        assert said(await stream.message()) == "2:x"


async def test_a_silent_stream_is_kept_alive(old: Old) -> None:
    async with old(keepalive_seconds=0.1) as wire, wire.session_open(on=0) as stream:
        event = await stream.next()
        assert event is not None
        assert event.comment == "keepalive"


async def test_other_methods_are_refused(old: Old) -> None:
    async with old() as wire, wire.session_open(on=0):
        response = await wire.send("PUT", b"{}", on=1)
        assert response.status_code == 405
        assert "POST" in response.headers["allow"]


async def test_a_limit_of_sessions_is_kept(old: Old) -> None:
    async with old(max_sessions=1) as wire, wire.session_open(on=0), wire.connect(on=1) as refused:
        assert refused.status == 503


async def test_the_log_level_holds_on_every_replica(old: Old, stage: Stage) -> None:
    async with old() as wire, wire.session_open(on=0) as stream:
        level = {"jsonrpc": "2.0", "id": 2, "method": "logging/setLevel", "params": {"level": "warning"}}
        assert await wire.tell(level, on=1) == 202
        assert "result" in await stream.message()
        await wire.start("chatter", on=2, id=3)
        assert [(await stream.message())["params"]["data"] for _ in range(2)] == ["2:warning", "2:error"]
        assert said(await stream.message()) == "chattered"


async def test_the_endpoint_is_below_where_the_application_is_mounted() -> None:
    app = app_factory(transport="sse")(0)
    holdfast.attach(app, store="memory://")
    parent: Any = Starlette(routes=[Mount("/below", app)], lifespan=cast("Any", app.router.lifespan_context))
    async with lifespan(parent), anyio.create_task_group() as tasks:
        bridge = Bridge(lambda _: (parent, cast("Any", tasks.start_soon)))
        async with httpx2.AsyncClient(base_url="http://localhost:8000", transport=bridge) as client:
            wire = SseWire(cast("Fleet", None), client, stream_path="/below/sse")
            async with wire.session_open() as stream:
                assert wire.path.startswith("/below/messages/?session_id=")
                await wire.start("echo", "x", id=5)
                assert said(await stream.message()) == "0:x"
        tasks.cancel_scope.cancel()

"""What a request gets that cannot be served: the table of "What gets what", line by line.

Whatever it is, the session that it was sent in goes on.
"""

import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Any, Final

import pytest
from typing_extensions import override

from holdfast.errors import StoreRefused, StoreUnavailable
from holdfast.sessions.event_id import decode_event_id, encode_event_id
from holdfast.sessions.types import Position, StreamId
from holdfast.testing.conformance.harness import HOSTILE_IDS
from tests.flows.apps import Framework, Stage
from tests.flows.conftest import Setup, Start, Wired
from tests.flows.wire import Wire, call, said
from tests.servers import RunningServer

PING: Final = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600


@dataclass(frozen=True)
class Case:
    """One request, and what it gets. `code` is that of the JSON-RPC error in the body."""

    name: str
    status: int
    code: int = INVALID_REQUEST
    method: str = "POST"
    body: bytes = PING
    headers: dict[str, Any] = field(default_factory=dict[str, Any])
    answer_headers: dict[str, str] = field(default_factory=dict[str, str])

    @override
    def __str__(self) -> str:
        return self.name


def posted(name: str, body: bytes, code: int = INVALID_REQUEST) -> Case:
    return Case(name, 400, code, body=body)


CASES: Final = (
    # Sessions
    Case("no session id", 400, headers={"mcp_session_id": None}),
    Case("an empty session id", 404, headers={"mcp_session_id": ""}),
    Case("an unknown session", 404, headers={"mcp_session_id": "0" * 48}),
    Case("an unknown session on GET", 404, method="GET", headers={"mcp_session_id": "0" * 48}),
    Case("an unknown session on DELETE", 404, method="DELETE", headers={"mcp_session_id": "0" * 48}),
    Case("no session id on GET", 400, method="GET", headers={"mcp_session_id": None}),
    Case("no session id on DELETE", 400, method="DELETE", headers={"mcp_session_id": None}),
    # Bodies
    posted("an empty body", b"", PARSE_ERROR),
    posted("no JSON", b"{nope", PARSE_ERROR),
    posted("half of a message", PING[:-1], PARSE_ERROR),
    posted("two messages in one body", PING + PING, PARSE_ERROR),
    posted("no UTF-8", b'{"jsonrpc":"2.0","id":1,"method":"\xff"}', PARSE_ERROR),
    posted("NaN", b'{"jsonrpc":"2.0","id":NaN,"method":"ping"}'),
    posted("JSON nested too deeply", b"[" * 100_000 + b"]" * 100_000, PARSE_ERROR),
    posted("a batch", b"[" + PING + b"]"),
    posted("an empty batch", b"[]"),
    posted("a batch of notifications", b'[{"jsonrpc":"2.0","method":"notifications/initialized"}]'),
    posted("a number", b"7"),
    posted("null", b"null"),
    posted("a text", b'"ping"'),
    posted("an empty object", b"{}"),
    posted("another version of JSON-RPC", b'{"jsonrpc":"1.0","id":1,"method":"ping"}'),
    posted("no version of JSON-RPC", b'{"id":1,"method":"ping"}'),
    posted("neither method nor result", b'{"jsonrpc":"2.0","id":1}'),
    posted("both result and error", b'{"jsonrpc":"2.0","id":1,"result":{},"error":{"code":1,"message":"x"}}'),
    posted("a method that is no text", b'{"jsonrpc":"2.0","id":1,"method":7}'),
    posted("params that are a list", b'{"jsonrpc":"2.0","id":1,"method":"ping","params":[1]}'),
    posted("params that are a text", b'{"jsonrpc":"2.0","id":1,"method":"ping","params":"x"}'),
    posted("an id that is null", b'{"jsonrpc":"2.0","id":null,"method":"ping"}'),
    posted("an id that is a fraction", b'{"jsonrpc":"2.0","id":7.5,"method":"ping"}'),
    posted("an id that is a truth value", b'{"jsonrpc":"2.0","id":true,"method":"ping"}'),
    posted("an id that is a list", b'{"jsonrpc":"2.0","id":[1],"method":"ping"}'),
    posted("a result without an id", b'{"jsonrpc":"2.0","id":null,"result":{}}'),
    # Types
    Case("no content type", 415, headers={"content_type": None}),
    Case("another content type", 415, headers={"content_type": "text/plain"}),
    Case("nearly the content type", 415, headers={"content_type": "application/json-patch+json"}),
    Case("accepts only JSON", 406, headers={"accept": "application/json"}),
    Case("accepts only events", 406, headers={"accept": "text/event-stream"}),
    Case("accepts something else", 406, headers={"accept": "text/html"}),
    Case("GET that accepts only JSON", 406, method="GET", headers={"accept": "application/json"}),
    # Methods
    *(
        Case(f"{method} is no method here", 405, method=method, answer_headers={"allow": "GET, POST, DELETE"})
        for method in ("PUT", "PATCH")
    ),
)


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_what_gets_what(wired: Wired, case: Case) -> None:
    async with wired() as wire:
        for n in (0, 1):
            response = await wire.send(case.method, case.body, on=n, **case.headers)
            assert response.status_code == case.status, response.text
            for name, value in case.answer_headers.items():
                assert response.headers[name] == value
            if response.headers.get("content-type") == "application/json":
                error = response.json()
                assert (error["jsonrpc"], error["id"], error["error"]["code"]) == ("2.0", None, case.code)
                assert error["error"]["message"]
        assert await wire.do("echo", "x", on=1) == "1:x"


@pytest.mark.parametrize(
    "headers",
    [
        {"content_type": "application/json; charset=utf-8"},
        {"content_type": "Application/JSON"},
        {"accept": "*/*"},
        {"accept": "application/*, text/*"},
        {"accept": "text/event-stream;q=0.5 , application/json ; q=1"},
    ],
    ids=str,
)
async def test_what_is_as_good_is_accepted(wired: Wired, headers: dict[str, Any]) -> None:
    async with wired() as wire:
        assert (await wire.send("POST", PING, **headers)).status_code == 200


@pytest.mark.guarantee("G13")
async def test_a_body_over_the_limit_gets_413(wired: Wired) -> None:
    """Whether it says how long it is or not."""
    async with wired(app={"max_request_body_size": 1000}) as wire:
        big = json.dumps(call("echo", "x" * 1000)).encode()
        assert (await wire.send("POST", big)).status_code == 413

        async def pieces() -> AsyncIterator[bytes]:
            yield big[:500]
            yield big[500:]

        response = await wire.client.post("/mcp", content=pieces(), headers=wire.headers())
        assert response.status_code == 413
        assert response.json()["error"]["code"] == INVALID_REQUEST
        assert await wire.do("echo", "x") in {"0:x", "1:x", "2:x"}


async def test_a_body_at_the_limit_is_served(wired: Wired) -> None:
    body = json.dumps(call("echo", "x")).encode()
    async with wired(app={"max_request_body_size": 1000}) as wire:
        assert (await wire.send("POST", body + b" " * (1000 - len(body)))).status_code == 200


async def test_a_foreign_host_or_origin_is_refused(wired: Wired) -> None:
    async with wired() as wire:
        assert (await wire.send("POST", PING, host="evil.example")).status_code == 421
        assert (await wire.send("POST", PING, origin="http://evil.example")).status_code == 403
        assert (await wire.send("POST", PING, origin="http://localhost:3000")).status_code == 200


async def test_an_unknown_method_is_an_error_of_json_rpc(wired: Wired, framework: Framework) -> None:
    async with wired(framework) as wire:
        for n in (0, 1):
            assert (await wire.request("no/such", on=n))["error"]["code"] == -32601


# Session ids


@pytest.mark.guarantee("G9")
@pytest.mark.parametrize("session", [*HOSTILE_IDS, "é" * 64, "a" * 129, "s\x7f", "\x01"], ids=ascii)
async def test_a_hostile_session_id_gets_404_or_400(
    wired: Wired, session: str, redis_server: RunningServer | None
) -> None:
    raw = [(b"mcp-session-id", session.encode())]
    async with wired() as wire:
        before = _keys(redis_server)
        for replica in wire.fleet.replicas:
            replica.store.calls.clear()
        for method in ("POST", "GET", "DELETE"):
            response = await wire.send(method, PING, on=1, mcp_session_id=None, raw_headers=raw)
            assert response.status_code in {400, 404}
        assert set(wire.fleet.replicas[1].store.calls) <= {"sessions.find"}
        assert _keys(redis_server) == before
        assert await wire.do("echo", "x", on=1) == "1:x"


async def test_two_session_ids_are_none(wired: Wired) -> None:
    async with wired() as wire:
        other = Wire(wire.fleet, wire.client)
        await other.initialize()
        assert other.session is not None
        raw = [(b"mcp-session-id", other.session.encode())]
        assert (await wire.send("POST", PING, raw_headers=raw)).status_code == 404


# Last-Event-ID


HOSTILE_EVENT_IDS: Final = (
    b"x",
    b"1",
    b"-1",
    b"\x00",
    b"a\x00b",
    b"\xff\xfe",
    "é漢🦊".encode(),
    b"x" * 2**20,
    b"1." * 2**19,
    b"0-0",
    b"$",
    b">",
    b"*",
    b"1.-.*.1",
    b"1.-.{}.1",
    b"1.-.a.-1",
    b"1.-.a.1e3",
    b"1.-.a.99999999999999999999",
    "1.-.a.١".encode(),  # noqa: RUF001 - a digit, but not one of ours
    b"1.-.a.1.1",
    b"2.-.a.1",
    b"1.-.aaaaaaaaaaaa.0",
    b"1.nosuch.aaaaaaaaaaaa.1",
)


@pytest.mark.parametrize("event_id", HOSTILE_EVENT_IDS, ids=lambda value: ascii(value[:24]))
async def test_a_bad_event_id_gets_400_and_touches_nothing(
    wired: Wired, event_id: bytes, redis_server: RunningServer | None
) -> None:
    async with wired() as wire, wire.open(on=2) as standalone:
        before = _keys(redis_server)
        for n in (0, 1, 2):
            response = await wire.send("GET", on=n, raw_headers=[(b"last-event-id", event_id)])
            assert response.status_code == 400
            assert response.json()["error"]["message"]
        assert _keys(redis_server) == before
        await wire.do("announce", on=0)
        await standalone.method("notifications/tools/list_changed")  # nobody has taken it away


Tamper = Callable[[StreamId, Position], tuple[StreamId, Position]]

TAMPERED: Final[dict[str, Tamper]] = {
    "another epoch": lambda s, p: (s, Position("aaaaaaaaaaaa", p.offset)),
    "a huge offset": lambda s, p: (s, Position(p.epoch, 999_999_999_999)),
    "an offset just beyond the end": lambda s, p: (s, Position(p.epoch, p.offset + 50)),
    "another stream": lambda s, p: (StreamId("AAAAAAAA"), p),
}


@pytest.mark.parametrize("tamper", TAMPERED.values(), ids=TAMPERED)
async def test_a_tampered_event_id_gets_400(
    wired: Wired, tamper: Tamper, redis_server: RunningServer | None
) -> None:
    async with wired() as wire:
        async with wire.calling("count", "2", on=0) as stream:
            await stream.rest()
        stream_id, position, _ = decode_event_id(stream.last_id or "")
        event_id = encode_event_id(*tamper(stream_id, position))
        before = _keys(redis_server)
        for n in (0, 1, 2):
            assert (await wire.send("GET", on=n, last_event_id=event_id)).status_code == 400
        assert _keys(redis_server) == before


@pytest.mark.guarantee("G9")
async def test_an_event_id_of_another_session_gets_400(wired: Wired) -> None:
    async with wired() as wire, wire.open(on=0) as standalone:
        other = Wire(wire.fleet, wire.client)
        await other.initialize(on=1)
        async with wire.calling("count", "2", on=0) as stream:
            await stream.rest()
        await standalone.next()
        for event_id in (stream.last_id, standalone.last_id):
            for n in (0, 1, 2):
                assert (await other.send("GET", on=n, last_event_id=event_id)).status_code == 400


# The store


@pytest.mark.guarantee("G11")
async def test_an_unreachable_store_gets_503_and_the_session_is_kept(
    wired: Wired, framework: Framework
) -> None:
    async with wired(framework) as wire:
        _fail_all(wire)
        for method, body in (("POST", PING), ("GET", None), ("DELETE", None)):
            for n in (0, 1, 2):
                response = await wire.send(method, body, on=n)
                assert response.status_code == 503
                assert int(response.headers["retry-after"]) >= 1
                assert response.json()["error"]["code"] == -32603
        unknown = await wire.send("POST", PING, mcp_session_id="0" * 48)
        assert unknown.status_code == 503
        for replica in wire.fleet.replicas:
            replica.store.heal()
        assert [await wire.do("echo", "x", on=n) for n in (0, 1, 2)] == ["0:x", "1:x", "2:x"]


async def test_initialize_during_an_outage_gets_503(start: Start) -> None:
    async with start() as fleet, fleet.client() as client:
        wire = Wire(fleet, client)
        _fail_all(wire)
        params = {
            "protocolVersion": "2025-11-25",
            "capabilities": {},
            "clientInfo": {"name": "x", "version": "1"},
        }
        message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
        response = await wire.post(message)
        assert response.status_code == 503
        assert "mcp-session-id" not in response.headers


@pytest.mark.guarantee("G10")
@pytest.mark.parametrize(
    "failing",
    ["sessions.*", "log.append", "log.open_stream", "log.watch", "log.read", "log.claim", "inbox.*", "bus.*"],
)
@pytest.mark.parametrize("error", [StoreUnavailable, StoreRefused])
async def test_a_failure_of_the_store_harms_one_request_and_not_the_next(
    wired: Wired, failing: str, error: type[StoreUnavailable]
) -> None:
    """Whatever fails, at whatever moment: afterwards everything works, on that very replica."""
    async with wired(stream_after_seconds=0.05) as wire:
        wire.fleet.replicas[0].store.fail(failing, error=error)
        for message in (call("count", "3"), call("touch", "res://x"), json.loads(PING)):
            response = await wire.post(message, on=0)
            assert response.status_code in {200, 503}
        # Not awaited for their end: a stream may stay open through an outage.
        async with wire.open(on=0) as stream:
            assert stream.status in {200, 503}
        told = await wire.notify("notifications/cancelled", {"requestId": "none"}, on=0)
        assert told.status_code in {202, 503}
        wire.fleet.replicas[0].store.heal()
        await _everything_works(wire)


async def test_an_answer_that_cannot_be_stored_still_reaches_the_connected_client(
    wired: Wired, stage: Stage
) -> None:
    async with wired() as wire, wire.calling("report_and_wait", on=0) as stream:
        await stream.method("notifications/progress")
        wire.fleet.replicas[0].store.fail("log.*")
        stage.mark("go")
        stage.mark("end")
        for number in (2, 3):
            assert (await stream.method("notifications/progress"))["params"]["progress"] == number
        assert said(await stream.result()) == "0:done"
        wire.fleet.replicas[0].store.heal()
        await _everything_works(wire)


async def test_an_elicitation_survives_an_outage_of_the_store(wired: Wired) -> None:
    async with wired() as wire, wire.calling("elicit", "name?", on=0) as stream:
        question = await stream.method("elicitation/create")
        _fail_all(wire)
        assert await wire.answer(question, {"action": "accept", "content": {"name": "bob"}}, on=1) == 503
        for replica in wire.fleet.replicas:
            replica.store.heal()
        assert await wire.answer(question, {"action": "accept", "content": {"name": "bob"}}, on=1) == 202
        assert said(await stream.result()) == "0:accept:bob"


async def test_a_real_outage_gets_503_and_the_store_comes_back(
    wired: Wired, setup: Setup, redis_server: RunningServer | None
) -> None:
    """The process stops answering, and goes on later with all that it had."""
    if redis_server is None:
        return  # memory has no outages
    async with wired() as wire:
        redis_server.pause()
        response = await wire.send("POST", PING, on=1)
        assert response.status_code == 503
        assert int(response.headers["retry-after"]) >= 1
        redis_server.resume()
        await _until_served(wire)
        assert await wire.do("echo", "x", on=1) == "1:x"


async def _until_served(wire: Wire) -> None:
    for _ in range(200):
        statuses = {(await wire.send("POST", PING, on=n)).status_code for n in (0, 1, 2)}
        assert statuses <= {200, 503}
        if statuses == {200}:
            return
    raise AssertionError("the session did not come back")


async def _everything_works(wire: Wire) -> None:
    assert await wire.do("echo", "x", on=0) == "0:x"
    async with wire.calling("count", "3", on=0) as stream:
        assert len([event for event in await stream.rest() if event.data]) == 4
    async with wire.calling("elicit", "name?", on=0) as stream:
        question = await stream.method("elicitation/create")
        assert await wire.answer(question, {"action": "accept", "content": {"name": "bob"}}, on=0) == 202
        assert said(await stream.result()) == "0:accept:bob"
    async with wire.open(on=0) as standalone:
        assert standalone.status == 200
        await wire.do("touch", "res://last", on=0)
        while (await standalone.method("notifications/resources/updated"))["params"]["uri"] != "res://last":
            pass


def _fail_all(wire: Wire) -> None:
    for replica in wire.fleet.replicas:
        replica.store.fail()


def _keys(server: RunningServer | None) -> list[bytes]:
    if server is None:
        return []
    keys = server.cli("KEYS", "*")
    assert isinstance(keys, list)
    return sorted(key for key in keys if isinstance(key, bytes))

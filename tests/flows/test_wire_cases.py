"""The wire cases that TMCP's transports are known by, with what is correct where they differ (W1-W66).

Each line is one request of an open session. What needs more than one request is in the other files here.
"""

import json
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.flows.conftest import Start
from tests.flows.sse_wire import SseWire
from tests.flows.wire import Wire, payload

UNKNOWN = "0" * 48


@dataclass(frozen=True)
class Case:
    """One request, and its status and error code."""

    name: str
    method: str
    body: bytes | None
    status: int
    code: int | None = None
    headers: dict[str, Any] = field(default_factory=dict[str, Any])


def rpc(**fields: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **fields}).encode()


PING = rpc(id=1, method="ping")
CASES = (
    Case("W7 a notification is accepted", "POST", rpc(method="notifications/x"), 202),
    Case("W8 initialize as a notification is accepted", "POST", rpc(method="initialize"), 202),
    Case("W9 a session never seen", "POST", PING, 404, headers={"mcp_session_id": UNKNOWN}),
    Case("W11 no session id", "POST", PING, 400, headers={"mcp_session_id": None}),
    Case("W12 DELETE of a session never seen", "DELETE", None, 404, headers={"mcp_session_id": UNKNOWN}),
    Case("W12 DELETE without a session id", "DELETE", None, 400, headers={"mcp_session_id": None}),
    Case("W26 a foreign event id", "GET", None, 400, headers={"last_event_id": "17"}),
    Case("W28 GET of a session never seen", "GET", None, 404, headers={"mcp_session_id": UNKNOWN}),
    Case("W30 another content type", "POST", PING, 415, headers={"content_type": "text/plain"}),
    Case("W31 no JSON", "POST", b"{", 400, -32700),
    Case("W32 a batch", "POST", b"[" + PING + b"]", 400, -32600),
    Case("W33 an empty batch", "POST", b"[]", 400, -32600),
    Case("W34 a primitive", "POST", b"5", 400, -32600),
    Case("W34 null", "POST", b"null", 400, -32600),
    Case("W35 the id null", "POST", rpc(id=None, method="ping"), 400, -32600),
    Case("W36 no method", "POST", rpc(id=1), 400, -32600),
    Case("W37 result and error", "POST", rpc(id=1, result={}, error={}), 400, -32600),
    Case("W38 another version of JSON-RPC", "POST", b'{"jsonrpc":"1.0","id":1,"method":"ping"}', 400, -32600),
    Case("W39 a fraction as id", "POST", rpc(id=7.5, method="ping"), 400, -32600),
    Case("W40 an unknown method", "POST", rpc(id=1, method="nope"), 200, -32601),
    Case("W40 an unknown notification", "POST", rpc(method="nope"), 202),
    Case("W41 an answer that nobody waits for", "POST", rpc(id=1, result={}), 202),
    Case("W72 an answer to another type of id", "POST", rpc(id="1", result={}), 202),
    Case("W50 PUT", "PUT", b"{}", 405),
    Case("W50 PATCH", "PATCH", b"{}", 405),
)


@pytest.mark.parametrize("count", [1, 3])
async def test_streamable_http(start: Start, count: int) -> None:
    async with start(count=count) as fleet, fleet.client() as client:
        wire = Wire(fleet, client)
        await wire.initialize()
        for number, case in enumerate(CASES):
            response = await wire.send(case.method, case.body, on=number % count, **case.headers)
            assert response.status_code == case.status, case.name
            if case.code is not None:
                assert payload(response)["error"]["code"] == case.code, case.name
            if case.status == 405:
                assert response.headers["allow"] == "GET, POST, DELETE"
        assert "result" in await wire.request("ping")


ELSEWHERE = frozenset({"W26", "W28", "W11", "W12", "W9"})
"""Over HTTP+SSE the session is in the query, and GET opens one: see test_http_sse.py."""


@pytest.mark.parametrize("count", [1, 3])
async def test_http_and_sse(start: Start, count: int) -> None:
    async with start(count=count, app={"transport": "sse"}) as fleet, fleet.client() as client:
        wire = SseWire(fleet, client)
        async with wire.session_open() as stream:
            for number, case in enumerate(CASES):
                if case.name.split()[0] in ELSEWHERE:
                    continue
                response = await wire.send(case.method, case.body, on=number % count, **case.headers)
                answered = case.status == 200
                assert response.status_code == (202 if answered else case.status), case.name
                if answered:
                    assert (await stream.message())["error"]["code"] == case.code, case.name
                elif case.code is not None:
                    assert response.json()["error"]["code"] == case.code, case.name
            assert await wire.tell(PING) == 202
            assert "result" in await stream.message()

"""A client made by hand: every request chooses its replica, and everything on the wire can be seen."""

import itertools
import json
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import anyio
import httpx2

from holdfast.testing.replicas import Fleet

__all__ = ["PATIENCE_SECONDS", "ServerEvent", "Stream", "Wire", "call", "payload", "said", "until"]

PATIENCE_SECONDS: Final = 20.0
ACCEPT: Final = "application/json, text/event-stream"
CAPABILITIES: Final = {"elicitation": {}, "sampling": {}, "roots": {"listChanged": True}}
_ids = itertools.count(100)


@dataclass(frozen=True)
class ServerEvent:
    """One server-sent event, or a comment."""

    data: str = ""
    id: str | None = None
    retry: int | None = None
    comment: str | None = None
    name: str | None = None

    @property
    def message(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.data)
        return message


class Stream:
    """An open answer: its head, and its events as they come."""

    def __init__(self, response: httpx2.Response, chunks: AsyncIterator[bytes]) -> None:
        self.status = response.status_code
        self.headers = response.headers
        self.last_id: str | None = None
        self._chunks = chunks
        self._buffer = b""

    async def next(self) -> ServerEvent | None:
        """The next event or comment; None at the end."""
        with anyio.fail_after(PATIENCE_SECONDS):
            while b"\n\n" not in self._buffer:
                try:
                    self._buffer += await self._chunks.__anext__()
                except StopAsyncIteration:
                    assert not self._buffer, f"the answer ended in the middle of an event: {self._buffer!r}"
                    return None
        block, _, self._buffer = self._buffer.partition(b"\n\n")
        event = _parse(block.decode())
        self.last_id = event.id or self.last_id
        return event

    async def message(self) -> dict[str, Any]:
        """The next message; priming events, retry hints and comments are passed over."""
        while True:
            event = await self.next()
            assert event is not None, "the stream ended"
            if event.data:
                return event.message

    async def method(self, method: str) -> dict[str, Any]:
        """The next message, which must have this method."""
        message = await self.message()
        assert message.get("method") == method, message
        return message

    async def result(self) -> dict[str, Any]:
        """The next message, which must be a response, after which the stream must end."""
        message = await self.message()
        assert "method" not in message, message
        assert await self.next() is None, "the stream went on after the response"
        return message

    async def rest(self) -> list[ServerEvent]:
        """Everything up to the end."""
        events: list[ServerEvent] = []
        while (event := await self.next()) is not None:
            events.append(event)
        return events


class Wire:
    """One session, by hand."""

    def __init__(
        self,
        fleet: Fleet,
        client: httpx2.AsyncClient,
        *,
        version: str = "2025-11-25",
        path: str = "/mcp",
        token: str | None = None,
    ) -> None:
        self.fleet = fleet
        self.client = client
        self.version = version
        self.path = path
        self.token = token
        self.session: str | None = None
        self.initialized: dict[str, Any] = {}

    async def initialize(self, on: int | None = None, **headers: Any) -> dict[str, Any]:
        """Open the session."""
        params = {
            "protocolVersion": self.version,
            "capabilities": CAPABILITIES,
            "clientInfo": {"name": "wire", "version": "1"},
        }
        message = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}
        response = await self.post(message, on=on, version=None, **headers)
        assert response.status_code == 200, response.text
        self.session = response.headers["mcp-session-id"]
        self.initialized = payload(response)["result"]
        told = await self.notify("notifications/initialized", on=on, **headers)
        assert told.status_code == 202
        return self.initialized

    def headers(self, **changes: Any) -> dict[str, str]:
        """The headers of a request of this session; None leaves one out."""
        given: dict[str, str | None] = {
            "accept": ACCEPT,
            "content-type": "application/json",
            "mcp-session-id": self.session,
            "mcp-protocol-version": self.version,
            "authorization": None if self.token is None else f"Bearer {self.token}",
        }
        if "version" in changes:
            given["mcp-protocol-version"] = changes.pop("version")
        given |= {name.replace("_", "-"): value for name, value in changes.items()}
        return {name: value for name, value in given.items() if value is not None}

    async def send(
        self,
        method: str,
        body: bytes | None = None,
        *,
        on: int | None = None,
        raw_headers: "list[tuple[bytes, bytes]] | None" = None,
        **headers: Any,
    ) -> httpx2.Response:
        """One HTTP request, answered whole."""
        extensions = {} if on is None else {"replica": on}
        sent: Any = [(k.encode(), v.encode("latin-1")) for k, v in self.headers(**headers).items()]
        sent += raw_headers or []
        with anyio.fail_after(PATIENCE_SECONDS):
            return await self.client.request(
                method, self.path, content=body, headers=sent, extensions=extensions
            )

    async def post(self, message: Any, *, on: int | None = None, **headers: Any) -> httpx2.Response:
        """POST one message, and take the whole answer."""
        return await self.send("POST", json.dumps(message).encode(), on=on, **headers)

    async def notify(
        self, method: str, params: dict[str, Any] | None = None, *, on: int | None = None, **headers: Any
    ) -> httpx2.Response:
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
        return await self.post(message | ({"params": params} if params else {}), on=on, **headers)

    async def request(
        self,
        method: str,
        params: dict[str, Any] | None = None,
        *,
        on: int | None = None,
        id: int | str | None = None,  # noqa: A002 - its name in the protocol
        **headers: Any,
    ) -> dict[str, Any]:
        """One request, and the response to it, as JSON or as the last event of a stream."""
        message = {
            "jsonrpc": "2.0",
            "id": next(_ids) if id is None else id,
            "method": method,
            "params": params or {},
        }
        response = await self.post(message, on=on, **headers)
        assert response.status_code == 200, (response.status_code, response.text)
        return payload(response)

    async def do(self, action: str, text: str = "", *, on: int | None = None) -> str:
        """Call the tool, and return what it said."""
        answer = await self.request("tools/call", _arguments(action, text), on=on)
        return said(answer)

    async def answer(
        self, request: dict[str, Any], result: Any, *, on: int | None = None, **headers: Any
    ) -> int:
        """Answer a request of the server; the status."""
        response = await self.post(
            {"jsonrpc": "2.0", "id": request["id"], "result": result}, on=on, **headers
        )
        return response.status_code

    async def delete(self, *, on: int | None = None, **headers: Any) -> int:
        return (await self.send("DELETE", on=on, **headers)).status_code

    @asynccontextmanager
    async def open(
        self, message: Any = None, *, on: int | None = None, after: str | None = None, **headers: Any
    ) -> AsyncGenerator[Stream, None]:
        """An answer that is read while it is written: of a POST with a message, of a GET without one."""
        extensions = {} if on is None else {"replica": on}
        sent = self.headers(last_event_id=after, **headers)
        content = None if message is None else json.dumps(message).encode()
        method = "GET" if message is None else "POST"
        async with self.client.stream(
            method, self.path, content=content, headers=sent, extensions=extensions
        ) as response:
            chunks = response.aiter_raw()
            try:
                yield Stream(response, chunks)
            finally:
                with anyio.CancelScope(shield=True):
                    await chunks.aclose()

    @asynccontextmanager
    async def calling(
        self,
        action: str,
        text: str = "",
        *,
        on: int | None = None,
        id: int | str | None = None,  # noqa: A002 - its name in the protocol
        progress: bool = True,
        **headers: Any,
    ) -> AsyncGenerator[Stream, None]:
        """A call of the tool whose answer is a stream."""
        async with self.open(call(action, text, id=id, progress=progress), on=on, **headers) as stream:
            assert stream.status == 200
            assert stream.headers["content-type"] == "text/event-stream"
            yield stream


async def until(condition: Callable[[], object]) -> None:
    """Return once a condition holds, which may be an awaitable; within a bound."""
    with anyio.fail_after(PATIENCE_SECONDS):
        while True:
            holds = condition()
            if await holds if isinstance(holds, Awaitable) else holds:
                return
            await anyio.sleep(0.01)


def call(
    action: str,
    text: str = "",
    *,
    id: int | str | None = None,  # noqa: A002 - its name in the protocol
    progress: bool = True,
) -> dict[str, Any]:
    """A call of the tool as a message."""
    params = _arguments(action, text) | ({"_meta": {"progressToken": "p"}} if progress else {})
    return {
        "jsonrpc": "2.0",
        "id": next(_ids) if id is None else id,
        "method": "tools/call",
        "params": params,
    }


def said(answer: dict[str, Any]) -> str:
    """What the tool said."""
    assert "result" in answer, answer
    text: str = answer["result"]["content"][0]["text"]
    return text


def payload(response: httpx2.Response) -> dict[str, Any]:
    """The response in a whole answer, whether it is JSON or a stream."""
    if response.headers["content-type"].startswith("application/json"):
        message: dict[str, Any] = response.json()
        return message
    blocks = [_parse(block) for block in response.text.split("\n\n") if block]
    return [event.message for event in blocks if event.data][-1]


def _arguments(action: str, text: str) -> dict[str, Any]:
    return {"name": "do", "arguments": {"action": action, "text": text}}


def _parse(block: str) -> ServerEvent:
    fields: dict[str, str] = {}
    comment = None
    for line in block.split("\n"):
        name, _, value = line.partition(":")
        if not name:
            comment = value.strip()
        else:
            fields[name] = value.removeprefix(" ")
    retry = fields.get("retry")
    return ServerEvent(
        fields.get("data", ""),
        fields.get("id"),
        None if retry is None else int(retry),
        comment,
        fields.get("event"),
    )

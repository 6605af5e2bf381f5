"""HTTP/1.1 and server-sent events as a client that believes nothing sees them: cut is told from ended.

One connection for each request, over asyncio streams and h11. `Answer.events()` gives whole events only: what
was cut off in the middle of one was not read.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import Any, Final

import h11

HOST: Final = "127.0.0.1"
CHUNK_BYTES: Final = 64 * 1024


class CutError(Exception):
    """The connection ended before the answer did."""


class SilentError(Exception):
    """Nothing came for longer than the client waits: it hangs up."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long a client waits for the head of an answer, and later for any byte of it, in seconds."""

    head: float = 12.0
    silence: float = 4.0


@dataclass(frozen=True, slots=True)
class ServerEvent:
    """One event. `data` is empty if it only carries an id or a time to wait."""

    id: str | None
    data: str
    retry_ms: int | None

    @property
    def message(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self.data)
        return message


class Answer:
    """An answer that is read while it is written."""

    def __init__(self, connection: "_Connection", head: h11.Response) -> None:
        self.status = head.status_code
        self.headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
        self._connection = connection

    @property
    def backend(self) -> str:
        """Which replica answers, by the proxy's word; empty if none does."""
        return self.headers.get("x-holdfast-backend", "")

    @property
    def is_stream(self) -> bool:
        return self.headers.get("content-type", "").startswith("text/event-stream")

    async def body(self) -> bytes:
        """All of it."""
        return b"".join([chunk async for chunk in self._connection.chunks()])

    async def json(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await self.body())
        return message

    async def events(self) -> AsyncGenerator[ServerEvent]:
        """The events up to the proper end of the answer; comments are passed over."""
        buffer = b""
        async for chunk in self._connection.chunks():
            *blocks, buffer = (buffer + chunk).split(b"\n\n")
            for block in blocks:
                event = _parse(block.decode())
                if event is not None:
                    yield event
        if buffer:
            raise CutError("the answer ended in the middle of an event")


@contextlib.asynccontextmanager
async def exchange(
    port: int, method: str, headers: dict[str, str], body: bytes = b"", patience: Patience | None = None
) -> AsyncGenerator[Answer]:
    """One request to the endpoint, and the answer to it.

    Raises:
        CutError: the connection could not be made, or ended early.
        SilentError: the other side does not say anything any more.
    """
    connection = await _Connection.open(port, patience or Patience())
    try:
        yield Answer(connection, await connection.send(method, headers, body))
    finally:
        connection.abort()


class _Connection:
    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, patience: Patience, port: int
    ) -> None:
        self._http = h11.Connection(h11.CLIENT)
        self._reader = reader
        self._writer = writer
        self._patience = patience
        self._port = port

    @classmethod
    async def open(cls, port: int, patience: Patience) -> "_Connection":
        try:
            async with asyncio.timeout(patience.head):
                reader, writer = await asyncio.open_connection(HOST, port)
        except OSError as error:  # a TimeoutError is one
            raise CutError(f"no connection: {error}") from error
        return cls(reader, writer, patience, port)

    async def send(self, method: str, headers: dict[str, str], body: bytes) -> h11.Response:
        host = f"{HOST}:{self._port}"
        given = [("host", host), ("content-length", str(len(body))), *headers.items()]
        request = h11.Request(method=method, target="/mcp", headers=given)
        data = [self._http.send(request), self._http.send(h11.Data(data=body))]
        self._writer.writelines([part for part in [*data, self._http.send(h11.EndOfMessage())] if part])
        while True:
            event = await self._next(self._patience.head)
            if isinstance(event, h11.Response):
                return event

    async def chunks(self) -> AsyncIterator[bytes]:
        while True:
            event = await self._next(self._patience.silence)
            if isinstance(event, h11.Data):
                yield bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return

    def abort(self) -> None:
        self._writer.transport.abort()

    async def _next(self, seconds: float) -> h11.Event:
        try:
            while True:
                event = self._http.next_event()
                if isinstance(event, h11.ConnectionClosed):
                    raise CutError("the connection ended before the answer")
                if isinstance(event, h11.Event):
                    return event
                async with asyncio.timeout(seconds):
                    self._http.receive_data(await self._reader.read(CHUNK_BYTES))
        except TimeoutError:
            raise SilentError(f"nothing came for {seconds:g} s") from None
        except (OSError, h11.RemoteProtocolError) as error:
            raise CutError(str(error)) from error


def _parse(block: str) -> ServerEvent | None:
    """One event; None for comments alone."""
    fields: dict[str, list[str]] = {}
    for line in block.split("\n"):
        name, _, value = line.partition(":")
        if name:
            fields.setdefault(name, []).append(value.removeprefix(" "))
    if not fields:
        return None
    retry = fields.get("retry", [""])[-1]
    data = "\n".join(fields.get("data", []))
    return ServerEvent(fields.get("id", [None])[-1], data, int(retry) if retry.isdecimal() else None)

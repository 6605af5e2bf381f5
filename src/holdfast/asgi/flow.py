"""One open stream on its way to its client. While nothing is said, it is a task that waits for the client."""

import random
import time
from collections.abc import Iterable, Sequence
from typing import Final

import anyio

from holdfast.asgi import sse
from holdfast.asgi.guards import Receive, Send
from holdfast.asgi.jsonrpc import INTERNAL_ERROR, encode_error
from holdfast.errors import PositionLost, SessionGone, StoreError, StreamError, StreamUnknown
from holdfast.sessions.breaker import STORE_RETRY_SECONDS
from holdfast.sessions.cancellation import is_foreign_cancellation
from holdfast.sessions.hub import Reader
from holdfast.sessions.notices import events_lost
from holdfast.sessions.replica import Replica
from holdfast.sessions.tail import Tail
from holdfast.sessions.types import STANDALONE, UNSTORED, Event

__all__ = [
    "Flow",
    "answer_lost",
    "end_stream",
    "frames",
    "go_on_behind",
    "write",
    "write_all",
]

_LAST_WORDS_SECONDS: Final = 10.0
_EARLIEST: Final = 0.75
"""Keepalives are sent after this share of the longest silence or more: not for all clients in one moment."""


class Flow:
    """Writes a stream whenever there is something to write, until it ends or the client goes away.

    It is `Pumped`: a task of `Replica.pumps` writes, and the stream's own task only waits for the client.
    """

    __slots__ = (
        "_again",
        "_at_rest",
        "_busy",
        "_ended",
        "_failure",
        "_final_sent",
        "_keepalive_seconds",
        "_parked",
        "_reader",
        "_replica",
        "_send",
        "_tail",
        "_writing",
        "due",
    )

    def __init__(
        self,
        replica: Replica,
        reader: Reader,
        tail: Tail,
        send: Send,
        *,
        keepalive_seconds: float,
        final_sent: bool = False,
    ) -> None:
        self._replica = replica
        self._reader = reader
        self._tail = tail
        self._send = send
        self._keepalive_seconds = keepalive_seconds
        self._final_sent = final_sent
        self._busy = False
        self._again = False
        self._ended = False
        self._failure: Exception | None = None
        self._parked: anyio.CancelScope | None = None
        self._writing: anyio.CancelScope | None = None
        self._at_rest: anyio.Event | None = None
        self._wait_for_silence()

    async def run(self, receive: Receive) -> None:
        """Write the stream to its end, the end of the response included; returns early if the client goes."""
        self._reader.on_change = self.stir
        self._replica.pumps.add(self, self._keepalive_seconds)
        try:
            self.stir()
            with anyio.CancelScope() as self._parked:
                while not self._ended and (await receive())["type"] != "http.disconnect":
                    pass
        finally:
            self._ended, self._reader.on_change = True, None
            self._replica.pumps.discard(self)
            await self._rest()
        if self._failure is not None:
            raise self._failure

    def stir(self) -> None:
        """There may be something to write."""
        self._again = True
        if not (self._busy or self._ended):
            self._busy = True
            self._replica.pumps.put(self)

    async def pump(self) -> None:
        """Write what there is."""
        try:
            with anyio.CancelScope() as self._writing:
                while self._again and not self._ended:
                    self._again = False
                    await self._advance()
        except Exception as error:  # noqa: BLE001 - raised where the HTTP request is served
            self._end(error)
        except anyio.get_cancelled_exc_class():
            if not is_foreign_cancellation():
                raise
            self._end(StreamError("what this stream waited for was cancelled"))
        finally:
            self._busy, self._writing = False, None
            if self._at_rest is not None:
                self._at_rest.set()

    async def _rest(self) -> None:
        """Return when nothing is written any more."""
        if self._writing is not None:
            self._at_rest = anyio.Event()
            self._writing.cancel()
            with anyio.CancelScope(shield=True):
                await self._at_rest.wait()

    def _end(self, failure: Exception | None = None) -> None:
        self._ended, self._failure = True, failure
        if self._parked is not None:
            self._parked.cancel()

    def _wait_for_silence(self) -> None:
        self.due = time.monotonic() + self._keepalive_seconds * random.uniform(_EARLIEST, 1)

    async def _advance(self) -> None:
        """Write events until there are no more for now, or for good."""
        while True:
            chunks: list[bytes] = []
            try:
                if not (self._reader.closed or self._tail.ended):
                    chunks = await self._next()
            except StreamUnknown:
                return await self._finish([])
            except SessionGone:
                await self._hear_last_words()
                return await self._finish(map(sse.frame, self._reader.unlogged), whole=True)
            if self._reader.unlogged and not self._final_sent:
                return await self._finish([*chunks, *map(sse.frame, self._reader.unlogged)], whole=True)
            if chunks:
                await self._write(chunks)
            elif self._reader.closed or self._tail.ended:
                return await self._finish([])
            elif time.monotonic() >= self.due:
                return await self._write([sse.KEEPALIVE])
            else:
                return None

    async def _next(self) -> list[bytes]:
        """What to write next; empty: nothing for now."""
        try:
            events = await self._tail.present()
        except PositionLost as lost:
            return await self._told(lost)
        except StoreError as error:
            return await self._store_failed(error)
        self._final_sent = self._final_sent or any(event.final for event in events)
        return [*frames(self._tail, events)]

    async def _told(self, lost: PositionLost) -> list[bytes]:
        """Go on behind a gap; what tells of it. A store that fails meanwhile is asked again from the gap."""
        try:
            gap = await go_on_behind(self._replica, self._reader, self._tail, lost)
        except StoreError as error:
            return await self._store_failed(error)
        if gap is None:
            raise StreamUnknown from lost
        return [*map(sse.frame, gap)]

    async def _store_failed(self, error: StoreError) -> list[bytes]:
        self._replica.observer.store_failed("read", error)
        await anyio.sleep(random.uniform(*STORE_RETRY_SECONDS))
        self._again = True
        return []

    async def _write(self, chunks: Iterable[bytes]) -> None:
        await write_all(self._send, chunks)
        self._wait_for_silence()

    async def _finish(self, chunks: Iterable[bytes], *, whole: bool = False) -> None:
        """Write the last chunks, what is to be said if the answer is not among them, and the end."""
        reader, tail = self._reader, self._tail
        last = [*chunks]
        lost_answer = tail.restarted if tail.ended else tail.stream is not None and not reader.closed
        if lost_answer and not (whole or self._final_sent):
            last.append(sse.frame(answer_lost(tail)))
        if reader.closed and reader.retry_milliseconds is not None:
            last.append(sse.retry(reader.retry_milliseconds))
        await write_all(self._send, last)
        await end_stream(self._send)
        self._end()

    async def _hear_last_words(self) -> None:
        """The session is gone: the handler of this very stream is being told so; its answer is still sent."""
        with anyio.move_on_after(_LAST_WORDS_SECONDS if self._reader.writes else 0):
            while not (self._reader.unlogged or self._reader.closed):
                await self._reader.wait()


async def go_on_behind(
    replica: Replica, reader: Reader, tail: Tail, lost: PositionLost
) -> list[bytes] | None:
    """Skip what is lost, and return what tells the client of it. None: there is no place to go on from.

    Who misses something on the standalone stream is told to look at everything again: at all lists, and at
    each resource that it subscribed to.

    Raises:
        StoreError: the subscriptions cannot be read. Nothing was skipped.
    """
    standalone = reader.stream == STANDALONE
    subscribed = await replica.backend.subscriptions.uris(reader.session) if standalone else ()
    requested = None if tail.cursor == UNSTORED else tail.id_at(tail.cursor)
    if not tail.go_on_behind(lost):
        return None
    replica.observer.gap_told(reader.session, reader.stream, lost.reason)
    told = events_lost(
        lost.reason,
        standalone=standalone,
        subscribed=subscribed,
        requested=requested,
        complete_again_after=tail.id_at(tail.cursor),
    )
    return [*told, *lost.unanswered]


def answer_lost(tail: Tail) -> bytes:
    """The answer to a request of which the stream has none any more."""
    request_id = tail.stream.request_id if tail.stream is not None else None
    data = {"reason": "trimmed", "retryable": True}
    return encode_error(request_id, INTERNAL_ERROR, "The answer to this request is no longer stored", data)


def frames(tail: Tail, events: Sequence[Event]) -> Iterable[bytes]:
    """Events of a stream as they go over the wire."""
    for event in events:
        if event.position == UNSTORED:
            yield sse.frame(event.payload)
        elif event.payload:
            yield sse.frame(event.payload, tail.id_of(event))
        elif tail.ids_alone:
            yield sse.place(tail.id_of(event))


async def write(send: Send, chunk: bytes) -> None:
    """Send one piece of a response."""
    await send({"type": "http.response.body", "body": chunk, "more_body": True})


async def write_all(send: Send, chunks: Iterable[bytes]) -> None:
    """Send several pieces at once, if there are any."""
    if joined := b"".join(chunks):
        await write(send, joined)


async def end_stream(send: Send) -> None:
    """Send the end of a response."""
    await send({"type": "http.response.body", "body": b"", "more_body": False})

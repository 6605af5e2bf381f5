"""Answering with a stream: the stream of a POST, and what a GET reads or resumes."""

import contextlib
import secrets
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Final, TypeVar

import anyio

from holdfast.asgi import sse
from holdfast.asgi.exchange import primes
from holdfast.asgi.flow import Flow, end_stream, frames, go_on_behind, write, write_all
from holdfast.asgi.guards import Http, Receive, Refusal, Send
from holdfast.asgi.options import EdgeOptions
from holdfast.errors import PositionLost, StreamUnknown
from holdfast.sessions.event_id import decode_event_id
from holdfast.sessions.hub import Reader
from holdfast.sessions.relay import LoggedStream, UnloggedStream
from holdfast.sessions.replica import Replica
from holdfast.sessions.tail import Tail
from holdfast.sessions.types import (
    GENESIS,
    STANDALONE,
    UNSTORED,
    Claim,
    Event,
    Position,
    SessionFacts,
    SessionId,
    StreamId,
)

__all__ = ["Streaming", "not_before", "start_stream", "while_connected"]

T = TypeVar("T")

_CLAIM_PATIENCE_SECONDS: Final = 10.0
_LONGEST_EVENT_ID: Final = 128
"""No id of ours is that long, so what is cut off here does not make a foreign one ours."""


class Streaming:
    """Writes streams to clients."""

    def __init__(self, replica: Replica, options: EdgeOptions) -> None:
        self._replica = replica
        self._options = options

    async def serve_own(self, outlet: LoggedStream, facts: SessionFacts, http: Http) -> None:
        """Write the stream of a POST whose handler runs here."""
        reader, start = outlet.opened()
        tail = self._replica.tail(reader, start)
        tail.start_live()
        tail.ids_alone = primes(facts.protocol_version)
        await start_stream(http.send, facts.id)
        if tail.ids_alone and start != UNSTORED:
            await write(http.send, self._prime(tail, start))
            reader.primed = True
        await self._flow(reader, tail, http).run(http.receive)

    async def serve_unlogged(self, outlet: UnloggedStream, facts: SessionFacts, http: Http) -> None:
        """Write the stream of a POST that is in no log."""
        await start_stream(http.send, facts.id)
        await while_connected(http, partial(self._write_unlogged, outlet, http.send))
        await end_stream(http.send)

    async def _write_unlogged(self, outlet: UnloggedStream, send: Send) -> None:
        with contextlib.suppress(anyio.EndOfStream):
            while True:
                chunk = sse.KEEPALIVE
                with anyio.move_on_after(self._options.keepalive_seconds):
                    chunk = sse.frame(await outlet.messages.receive())
                await write(send, chunk)
        if outlet.last is not None:
            await write(send, sse.frame(outlet.last))

    async def serve_get(self, facts: SessionFacts, http: Http) -> None:
        """Serve the standalone stream, or whatever stream the client was cut off from.

        Raises:
            Refusal: the event id is not one of this session, or too many clients want the stream.
        """
        stream, after, heard = STANDALONE, None, GENESIS
        last_event_id = http.headers.get(b"last-event-id")
        if last_event_id:
            stream, after, heard = _decode(last_event_id)
        if self._replica.drain.leaving:
            await start_stream(http.send, facts.id)
            await write(http.send, sse.retry(self._options.retry_milliseconds))
            await end_stream(http.send)
            return
        reader = self._replica.hub.open(facts.id, stream, secrets.token_urlsafe(9))
        try:
            async with self._replica.backend.log.watch(facts.id, reader.hear):
                # A client that is gone must not take the stream from one that is there.
                flow = await while_connected(http, partial(self._begin, after, heard, facts, reader, http))
                if flow is not None:
                    await flow.run(http.receive)
        finally:
            self._replica.hub.release(reader)

    async def _begin(
        self, after: Position | None, heard: Position, facts: SessionFacts, reader: Reader, http: Http
    ) -> Flow:
        """Write the head of the response and what is there already."""
        # A position is looked at before the stream is claimed with it: a bad one must displace nobody.
        tail = self._replica.tail(reader, after or Position("", 0))
        tail.ids_alone = primes(facts.protocol_version)
        events, gap = await self._first(tail, reader) if after is not None else ((), [])
        resume_from = "earliest" if gap else None
        if reader.stream == STANDALONE:
            claim = await self._claim(reader, after)
            # Without ids: they lie before the start, and the client's cursor must not go back.
            gap += [event.payload for event in claim.unanswered]
            if after is not None:
                heard = not_before(facts.broadcast, heard)
            else:
                after = claim.start
                tail.restart(after)
                heard = facts.broadcast if claim.first else await self._replica.broadcasts.top()
            tail.listening = self._replica.listen(heard)
        if resume_from is None and after is not None:
            resume_from = tail.id_at(after)
        await start_stream(http.send, facts.id, resume_from=resume_from)
        if after is not None and tail.ids_alone:
            await write(http.send, self._prime(tail, after))
        await write_all(http.send, [*map(sse.frame, gap), *frames(tail, events)])
        return self._flow(reader, tail, http, final_sent=any(event.final for event in events))

    def _flow(self, reader: Reader, tail: Tail, http: Http, *, final_sent: bool = False) -> Flow:
        seconds = self._options.keepalive_seconds
        return Flow(self._replica, reader, tail, http.send, keepalive_seconds=seconds, final_sent=final_sent)

    async def _first(self, tail: Tail, reader: Reader) -> tuple[Sequence[Event], list[bytes]]:
        """What lies after the client's position, or what tells it that some of that is gone."""
        try:
            events = await tail.first()
        except StreamUnknown:
            raise Refusal(
                400, "Bad Request: Last-Event-ID names a stream that this session does not have"
            ) from None
        except PositionLost as lost:
            gap = await go_on_behind(self._replica, reader, tail, lost)
            if gap is None:
                raise Refusal(400, "Bad Request: Last-Event-ID is not known to this session") from None
            return (), gap
        self._replica.observer.resumed(reader.session, reader.stream, len(events))
        return events, []

    async def _claim(self, reader: Reader, after: Position | None) -> Claim:
        """Take the standalone stream. It changes hands at most once a second; until then the client waits."""
        deadline = anyio.current_time() + _CLAIM_PATIENCE_SECONDS
        claim = await self._replica.backend.log.claim(reader.session, reader.token, after=after)
        while claim.wait_seconds > 0:
            if anyio.current_time() > deadline:
                raise Refusal(
                    429, "Too many clients read this session's stream", headers=((b"retry-after", b"10"),)
                )
            await anyio.sleep(claim.wait_seconds)
            claim = await self._replica.backend.log.claim(reader.session, reader.token, after=after)
        reader.claimed = True
        if claim.displaced is not None:
            self._replica.observer.taken_over(reader.session)
            await self._replica.displace(claim.displaced, reader.session)
        return claim

    def _prime(self, tail: Tail, position: Position) -> bytes:
        return sse.prime(tail.id_at(position), self._options.retry_milliseconds)


def not_before(opened: Position, heard: Position) -> Position:
    """A place in the broadcast log that lies in the session's life: nobody hears what came before.

    An id of version 1 names none: nothing was broadcast then, or its release did not deliver it.
    """
    if heard == GENESIS or (heard.epoch == opened.epoch and heard.offset < opened.offset):
        return opened
    return heard


def _decode(last_event_id: bytes) -> tuple[StreamId, Position, Position]:
    try:
        return decode_event_id(last_event_id[:_LONGEST_EVENT_ID].decode("ascii"))
    except ValueError:
        raise Refusal(400, "Bad Request: Last-Event-ID is not an event id of this server") from None


async def while_connected(http: Http, work: Callable[[], Awaitable[T]]) -> T | None:
    """What comes of some work; None if the client went away before it was done."""
    result: T | None = None
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_cancel_on_disconnect, http.receive, tasks.cancel_scope)
        try:
            result = await work()
        except Exception as error:  # noqa: BLE001 - carried out of the group, which would wrap it
            failure = error
        tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure
    return result


async def _cancel_on_disconnect(receive: Receive, scope: anyio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()


async def start_stream(send: Send, session: SessionId, *, resume_from: str | None = None) -> None:
    """Send the head of an answer that is a stream.

    Args:
        send: where to.
        session: whose.
        resume_from: the event id behind which it goes on without a gap, or `earliest`: something is lost.
    """
    headers = [
        (b"content-type", b"text/event-stream"),
        (b"cache-control", b"no-cache, no-transform"),
        (b"x-accel-buffering", b"no"),
        (b"mcp-session-id", session.encode("latin-1")),
    ]
    if resume_from is not None:
        headers.append((b"mcp-resume-from", resume_from.encode("ascii")))
    await send({"type": "http.response.start", "status": 200, "headers": headers})

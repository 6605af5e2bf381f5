"""Ending the stream of a request whose replica died: its questions are taken back, it is answered itself."""

import contextlib
import itertools
import json
from collections.abc import Iterable
from typing import Any, Final, cast

from holdfast.errors import PositionLost, SessionGone, StreamError
from holdfast.sessions.inbox import writer_of
from holdfast.sessions.protocols import EventLog
from holdfast.sessions.types import AppendKey, Position, RequestId, SessionId, StreamId, StreamState

__all__ = ["end_for_dead"]

_PAGE: Final = 500
_REPLICA_DIED: Final = -32603


async def end_for_dead(
    log: EventLog, session: SessionId, stream: StreamId, state: StreamState, *, epoch: str
) -> None:
    """Say what a dead replica cannot say any more, and end its stream. Whoever comes second changes nothing.

    Args:
        log: where the stream is.
        session: whose it is.
        stream: which.
        state: of the stream, with the replica that wrote it.
        epoch: the present life of the log.
    """
    # The same keys for all who come to this at once, and they find the same questions.
    keys = (AppendKey(f"after.{state.replica}", number) for number in itertools.count(1))
    with contextlib.suppress(StreamError, SessionGone, ValueError):  # ValueError: somebody else is ahead
        for question in await _questions(log, session, stream, state, epoch):
            await log.append(session, stream, _cancelled(question), key=next(keys))
        await log.append(session, stream, _died(state.request_id), key=next(keys), final=True)


async def _questions(
    log: EventLog, session: SessionId, stream: StreamId, state: StreamState, epoch: str
) -> Iterable[str]:
    """Ids of the requests that a replica sent to the client on a stream, answered or not: that is not known.

    A client knows which of them it still works on, and has to ignore the others.
    """
    place, complete = Position(epoch, 0), False
    found: list[str] = []
    while not complete:
        try:
            page = await log.read(session, stream, after=place, limit=_PAGE)
        except PositionLost as lost:
            if not lost.resume_epoch:
                break
            found += _asked(lost.unanswered, state)
            place = Position(lost.resume_epoch, lost.resume_offset)
        else:
            found += _asked((event.payload for event in page.events), state)
            place, complete = page.cursor, page.complete
    return dict.fromkeys(found)


def _asked(payloads: Iterable[bytes], state: StreamState) -> Iterable[str]:
    writer = (state.replica or "").encode()
    for payload in payloads:
        if writer not in payload:
            continue
        with contextlib.suppress(ValueError):
            message = json.loads(payload)
            fields = cast("dict[str, Any]", message if isinstance(message, dict) else {})
            if "method" in fields and writer_of(fields.get("id")) == state.replica:
                yield fields["id"]


def _cancelled(request_id: str) -> bytes:
    params = {"requestId": request_id, "reason": "The server process that asked this died"}
    return _encode({"method": "notifications/cancelled", "params": params})


def _died(request_id: RequestId | None) -> bytes:
    """The answer to a request whose handler died with its process."""
    error = {
        "code": _REPLICA_DIED,
        "message": "The server process that handled this request died before it answered",
        "data": {"reason": "replica-died", "retryable": True},
    }
    return _encode({"id": request_id, "error": error})


def _encode(message: dict[str, Any]) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **message}, separators=(",", ":")).encode()

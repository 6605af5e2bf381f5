"""The words of the sessions domain as frozen types. No I/O, no imports but the standard library."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NewType, TypeAlias

SessionId = NewType("SessionId", str)
"""Opaque, at least 128 bits, visible ASCII without braces. A secret: shorten it before it is logged."""

StreamId = NewType("StreamId", str)
"""Names one stream inside a session. Minted by the server for each POST, never derived from a request id."""

ReplicaId = NewType("ReplicaId", str)
"""One life of one server process: minted at start, so an id never outlives its incarnation. No `.` in it."""

RequestId: TypeAlias = str | int
"""A JSON-RPC id as the client wrote it. Type-exact: `1` and `"1"` are two requests."""

STANDALONE: Final = StreamId("-")
"""The stream that a GET without `Last-Event-ID` reads. Every session has it from the start; it never ends."""

BROADCAST: Final = StreamId("*")
"""Marks events of the broadcast log, which is no session's own. They are delivered on standalone streams."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a session's event log: everything up to and including `offset`, in one life (`epoch`)."""

    epoch: str
    offset: int


UNSTORED: Final = Position("", -1)
"""Of an event that is on its way to its client while the store is away, and of a stream that begins so."""

GENESIS: Final = Position("", 0)
"""In the broadcast log: before anything was ever broadcast. Then there is no log, and no epoch yet."""


@dataclass(frozen=True, slots=True)
class Event:
    """One message of one stream.

    Attributes:
        stream: the stream it belongs to.
        position: its place in the session's log.
        previous: offset of the event before it in the same stream, 0 if there was none. A reader whose
            cursor lies at or after `previous` misses nothing by taking this event.
        payload: the JSON-RPC message, as it goes to the client.
        final: no event of this stream comes after it.
    """

    stream: StreamId
    position: Position
    previous: int
    payload: bytes
    final: bool = False


@dataclass(frozen=True, slots=True)
class StreamState:
    """What the store knows of a stream.

    Attributes:
        running: the final event has not been appended. Always true for the standalone stream.
        replica: whose handler writes it; None for the standalone stream.
        request_id: the request that it answers; None for the standalone stream.
    """

    running: bool
    replica: ReplicaId | None = None
    request_id: RequestId | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """The answer to one read.

    Attributes:
        events: the stream's events after the asked position, in order.
        cursor: where to read on. May lie beyond the last event (events of other streams were passed over),
            and is always of the present epoch.
        complete: nothing more was there when the page was read. False: read on at once.
        stream: state of the stream in the same instant.
    """

    events: Sequence[Event]
    cursor: Position
    complete: bool
    stream: StreamState = StreamState(running=True)


@dataclass(frozen=True, slots=True)
class Claim:
    """The standalone stream, taken by one reader.

    Attributes:
        start: read on from here.
        unanswered: requests to the client that were sent before `start` and still wait for an answer.
        displaced: replica and reader token of the reader who held the stream before, if any.
        wait_seconds: above zero, nothing was taken: the stream changed hands too recently, try again then.
        first: nobody had claimed the stream of this session before.
    """

    start: Position
    unanswered: Sequence[Event] = ()
    displaced: tuple[ReplicaId, str] | None = None
    wait_seconds: float = 0.0
    first: bool = False


@dataclass(frozen=True, slots=True)
class Renewed:
    """A session whose expiry was slid.

    Attributes:
        top: the position of the newest event in its log.
        reader: the token of the reader who has the standalone stream; None: nobody ever took it.
    """

    top: Position
    reader: str | None = None


@dataclass(frozen=True, slots=True)
class SessionFacts:
    """What is settled at `initialize` and never changes, so that replicas may cache it.

    Attributes:
        id: the session.
        owner: digest of the principal that opened it; None if it was opened without authentication.
        protocol_version: the negotiated version, e.g. `2025-11-25`. Empty: nothing is settled yet, the
            session was opened before its `initialize`, and these facts must not be cached.
        client: the params of the client's `initialize` request, as JSON.
        ttl_seconds: how long the session lives without any activity.
        broadcast: the top of the broadcast log when the session was opened: it hears what came after.
    """

    id: SessionId
    owner: str | None
    protocol_version: str
    client: bytes
    ttl_seconds: float
    broadcast: Position = GENESIS


@dataclass(frozen=True, slots=True)
class Settings:
    """What a client may change in its session. `version` grows by one with each change."""

    version: int = 0
    log_level: str | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """A live session of the asking principal. `facts` is None when the caller said that it has them."""

    settings: Settings
    facts: SessionFacts | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """A live session of the asking principal."""

    facts: SessionFacts
    settings: Settings


@dataclass(frozen=True, slots=True)
class AppendKey:
    """Makes an append idempotent: who writes, and that writer's own counter (1, 2, 3 ...).

    A writer has at most one append under way per stream, so the store need remember only the last counter.
    """

    writer: str
    counter: int


@dataclass(frozen=True, slots=True)
class AskOptions:
    """How to ask the client something.

    Attributes:
        timeout_seconds: how long to wait for the answer; None: as long as the session lives.
        on_progress: receives the params of the client's progress notifications for the request.
    """

    timeout_seconds: float | None = None
    on_progress: Callable[[Mapping[str, Any]], None] | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a framework answered: the whole JSON-RPC response, and whether it is a success."""

    response: bytes
    succeeded: bool


@dataclass(frozen=True, slots=True)
class Initialized:
    """What a framework made of an `initialize` request.

    Attributes:
        response: the whole JSON-RPC response, or the error with which the handshake was refused.
        protocol_version: the negotiated version; None: refused, no session is opened.
        client: the params of the request as JSON, to be handed back in `SessionFacts.client`.
    """

    response: bytes
    protocol_version: str | None = None
    client: bytes = b"{}"


def advisory_ttl(facts: SessionFacts) -> float:
    """How long an index that is refreshed lazily remembers a session: somewhat longer than it may live."""
    return facts.ttl_seconds * 5 / 4


def shorten(session: str) -> str:
    """The part of a session id that may appear in logs."""
    return f"{session[:6]}…"

"""A whole session as data, to be carried from one store to another. No I/O."""

from collections.abc import Sequence
from dataclasses import dataclass

from holdfast.sessions.types import Event, ReplicaId, SessionFacts, Settings, StreamId, StreamState

__all__ = ["AskedImage", "SessionImage", "StreamImage"]


@dataclass(frozen=True, slots=True)
class StreamImage:
    """One stream.

    Attributes:
        name: of the stream.
        state: what `EventLog.read` tells of it.
        opened_at: top of the log when it was opened.
        trimmed: highest offset of its events that were dropped; a position below that has a hole behind it.
    """

    name: StreamId
    state: StreamState
    opened_at: int
    trimmed: int


@dataclass(frozen=True, slots=True)
class AskedImage:
    """A request to the client that waits for its answer, or an answer that waits to be taken.

    Attributes:
        request_id: of the request.
        replica: who waits; empty when the answer is there.
        offset: of the request in the log; None: it is not there, or the answer is.
        answer: what the client said; None: nothing yet.
    """

    request_id: str
    replica: ReplicaId
    offset: int | None = None
    answer: bytes | None = None


@dataclass(frozen=True, slots=True)
class SessionImage:
    """All that a store knows of a session, but for its time to live, which begins anew where it arrives.

    What is left behind belongs to replicas that will not go on with it: leases of those that watch, and the
    last append keys of those that wrote.

    Attributes:
        facts: what was settled at `initialize`.
        settings: what the client may change.
        epoch: the present life of the log.
        top: offset of the newest event, kept or not.
        fences: earlier epochs with what survived of each, newest first.
        streams: all that are recorded, by name.
        events: all that are kept, by offset.
        asked: by request id.
        holder: replica and reader that took the standalone stream last; None: nobody ever did.
    """

    facts: SessionFacts
    settings: Settings
    epoch: str
    top: int
    fences: Sequence[tuple[str, int]]
    streams: Sequence[StreamImage]
    events: Sequence[Event]
    asked: Sequence[AskedImage]
    holder: tuple[ReplicaId, str] | None

    @property
    def state(self) -> tuple[str, int, int]:
        """Changes whenever something is appended to the session, or set in it."""
        return self.epoch, self.top, self.settings.version

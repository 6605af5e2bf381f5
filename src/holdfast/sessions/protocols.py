"""The seams of the sessions domain. Read this first when you write a backend.

A backend implements the protocols that it can honour, one file each, and proves it with the suites in
`holdfast.testing.conformance`. Common to all of them:

* Every method raises `StoreUnavailable` when the store cannot be reached or the outcome is unknown, and
  `StoreRefused` when the store refuses. Errors of a client library never leave a backend.
* Nothing but `SessionStore.open` creates a session. Any other call on a session that is not there raises
  `SessionGone` (or says so in its result) and leaves nothing behind.
* Callbacks (of `watch`, `listen`, `subscribe`) are plain functions, called on the event loop, perhaps
  outside of any task; they must not block or raise. They are hints: one may be lost, doubled or late.
* Everything that is stored expires, at the latest with its session.
"""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Protocol, Self

from holdfast.sessions.diagnosis import Diagnosis
from holdfast.sessions.image import SessionImage
from holdfast.sessions.kernel import Channel, Exchange, Kernel
from holdfast.sessions.types import (
    AppendKey,
    Claim,
    Event,
    Found,
    Page,
    Position,
    Renewed,
    ReplicaId,
    RequestId,
    SessionFacts,
    SessionId,
    Settings,
    StreamId,
)

__all__ = [
    "Backend",
    "BroadcastLog",
    "Bus",
    "Channel",
    "EventLog",
    "Exchange",
    "Inbox",
    "Kernel",
    "ReplicaDirectory",
    "SessionStore",
    "SubscriptionIndex",
    "Transfer",
]


class EventLog(Protocol):
    """Per session: every message to its client, in one dense order given by the store."""

    async def open_stream(self, session: SessionId, stream: StreamId, request_id: RequestId) -> Position:
        """Record `stream` as running on this replica, and return the position before its first event.

        Doing it again with the same arguments returns the same position.

        Raises:
            SessionGone: there is no such session.
            StoreRefused: the stream was opened by another replica, or for another request (`1` and `"1"` are
                two).
        """
        ...

    async def append(
        self,
        session: SessionId,
        stream: StreamId,
        payload: bytes,
        *,
        key: AppendKey | None = None,
        final: bool = False,
        expects: str | None = None,
    ) -> Event:
        """Store one event, give it the next offset, trim and announce it to who watches: one atomic step.

        The replica that appends is not woken by its own event: it has it in hand.

        Args:
            session: the session.
            stream: `STANDALONE`, or a stream that `open_stream` recorded.
            payload: the JSON-RPC message.
            key: the same key again returns the event that was stored the first time, and stores nothing.
            final: nothing may be appended to this stream afterwards, and what was asked on it is withdrawn.
            expects: the event is a request to the client with this id: from this very step on `Inbox.put`
                accepts one answer to it, and the event is trimmed last.

        Raises:
            SessionGone: there is no such session.
            StreamUnknown: `stream` was never opened.
            StreamClosed: its final event is already there.
        """
        ...

    async def read(self, session: SessionId, stream: StreamId, *, after: Position, limit: int) -> Page:
        """The events of `stream` after a position, at most `limit`, oldest first.

        Raises:
            SessionGone: there is no such session.
            StreamUnknown: the session has no such stream.
            PositionLost: events of this stream after `after` were trimmed, or `after` is from another epoch
                of which it is not certain that nothing was lost. Its `unanswered` are requests of this stream
                that lie behind `after` (all, if it is from another epoch) and not behind the resume place.
        """
        ...

    def watch(
        self, session: SessionId, heard: Callable[[Event | None], None]
    ) -> AbstractAsyncContextManager[Position]:
        """Call `heard` when another replica appends to the session (or may have: after a reconnect).

        It gets the event, of whichever stream, if that came with the announcement, which saves its reader a
        round trip; else None: the log may have grown. Announcements may be lost, doubled, late and out of
        order, so an event is taken only by a reader who has everything up to its `previous`.

        Entering returns the present top of the log, once listening is really in effect.

        Raises:
            SessionGone: there is no such session.
        """
        ...

    async def renew(self, sessions: Sequence[SessionId]) -> Sequence[Renewed | None]:
        """Slide the expiry of sessions in use here, refresh this replica's leases, and say where each one is.

        None stands for a session that is gone.
        """
        ...

    async def claim(self, session: SessionId, reader: str, *, after: Position | None) -> Claim:
        """Take the standalone stream for one reader; the newest wins.

        Without `after`, the first claim of a session starts at its `initialize`, later ones at the present
        top with the requests to the client that still wait for an answer.

        Args:
            session: the session.
            reader: an unguessable token of the reader, without `|`.
            after: where the client says it stopped.

        Raises:
            SessionGone: there is no such session.
        """
        ...


class BroadcastLog(Protocol):
    """What is said to all sessions: one log for the whole fleet, bounded like a session's.

    It is created by the first append, with a random epoch, and again if it was lost; it expires when it was
    neither appended to nor looked at for days. Its events are of the stream `BROADCAST`, their offsets dense.
    What any of these calls costs depends neither on the number of sessions nor on that of their readers.
    """

    async def append(self, payload: bytes, *, key: AppendKey | None = None) -> Event:
        """Store one event, give it the next offset, trim and announce it to all replicas: one atomic step.

        Args:
            payload: the JSON-RPC message.
            key: the same key again returns the event that was stored the first time, and stores nothing.
        """
        ...

    async def read(self, *, after: Position, limit: int) -> Page:
        """The events after a position, at most `limit`, oldest first. `GENESIS` is before all of them.

        Raises:
            PositionLost: some were trimmed, or `after` is from another epoch of which it is not certain that
                nothing was lost. Unlike with a session's log its `resume_` fields always say where to read
                on, if need be with the oldest event that is kept: everybody may read this log.
        """
        ...

    async def top(self) -> Position:
        """The position of the newest event, `GENESIS` without a log. Slides the expiry of the log."""
        ...

    def watch(self, heard: Callable[[Event | None], None]) -> AbstractAsyncContextManager[Position]:
        """Call `heard` after each append, this replica's own may be left out.

        It gets the event, or None: the log may have grown (the event was too big for an announcement, or
        announcements may have been lost). Entering returns the top, once listening is really in effect.
        """
        ...


class SessionStore(Protocol):
    """Who is connected."""

    async def open(self, facts: SessionFacts, *, limit: int | None) -> None:
        """Create the session and its empty log with a new random epoch.

        Args:
            facts: what is settled at `initialize`.
            limit: the most sessions that may be open over the fleet. May be exceeded by the few that were
                deleted or expired, never the other way round by more than the expiry of the index.

        Raises:
            SessionExists: the id is in use, or was deleted.
            TooManySessions: `limit` is reached. Nothing was created.
        """
        ...

    async def find(self, session: SessionId, *, owner: str | None, with_facts: bool) -> Found | None:
        """The session if it lives and `owner` opened it, its expiry slid in the same round trip.

        Another principal's session is None, as an unknown one, and stays untouched.
        """
        ...

    async def settle(self, session: SessionId, *, protocol_version: str, client: bytes) -> bool:
        """Give a session what its `initialize` negotiated, if it was opened before that: without a version.

        The first one wins. False: something else is settled already. The same again is True.

        Raises:
            SessionGone: there is no such session.
        """
        ...

    async def configure(self, session: SessionId, *, log_level: str) -> Settings:
        """Change the session's settings and return them with their new version.

        Raises:
            SessionGone: there is no such session.
        """
        ...

    async def close(self, session: SessionId) -> bool:
        """Delete the session with all that belongs to it, for good. False: it was not there."""
        ...

    async def count(self) -> int:
        """About how many sessions are open over the fleet. Never below the truth by much; see `open`."""
        ...

    async def list(
        self, *, owner: str | None = None, limit: int = 100, after: SessionId | None = None
    ) -> Sequence[SessionId]:
        """Ids of open sessions, of one owner or of all, from an index; some may have just ended.

        In the order of their ids; `after` continues a listing.
        """
        ...

    async def refresh(self, sessions: Sequence[SessionFacts]) -> None:
        """Keep living sessions in the index. Called every 20 to 30 s with those that were in use here."""
        ...


class Inbox(Protocol):
    """Answers of clients to requests of the server, on their way to the replica that waits."""

    async def expect(self, session: SessionId, request_id: str) -> None:
        """Accept one answer for `request_id`, as `EventLog.append(expects=...)` does for a logged request.

        Raises:
            SessionGone: there is no such session.
        """
        ...

    async def put(self, session: SessionId, request_id: str, answer: bytes) -> bool:
        """Store an answer and wake the replica that waits. False: nobody waits for it, nothing is stored."""
        ...

    async def take(self, session: SessionId, request_id: str) -> bytes | None:
        """Remove and return the answer, None if it is not there yet.

        Raises:
            SessionGone: there is no such session.
        """
        ...

    async def withdraw(self, session: SessionId, request_id: str) -> None:
        """Nobody waits any more: forget the request and its answer. A session that is gone is no error."""
        ...

    def listen(
        self, arrived: Callable[[SessionId | None, str | None], None]
    ) -> AbstractAsyncContextManager[None]:
        """Call `arrived(session, request_id)` when an answer for this replica is there to be taken.

        `arrived(None, None)` says that hints may have been lost: look at everything.
        """
        ...


class Bus(Protocol):
    """Fire-and-forget fan-out between replicas. No promise of delivery, order only from one publisher."""

    async def publish(self, topic: str, message: bytes) -> None:
        """Send `message` to every present subscriber of `topic`, this replica's included."""
        ...

    def subscribe(self, topic: str, receive: Callable[[bytes], None]) -> AbstractAsyncContextManager[None]:
        """Receive messages of `topic`. Entering returns once listening is really in effect."""
        ...


class SubscriptionIndex(Protocol):
    """Which sessions subscribed to which resource. Advisory: a session in it may have just ended."""

    async def add(self, session: SessionId, uri: str, *, ttl_seconds: float) -> None:
        """Remember that `session` wants updates of `uri`. Doing it again refreshes it."""
        ...

    async def remove(self, session: SessionId, uri: str) -> None:
        """Forget one subscription."""
        ...

    async def drop(self, session: SessionId) -> None:
        """Forget all subscriptions of a session."""
        ...

    async def refresh(self, session: SessionId, *, ttl_seconds: float) -> None:
        """Keep all subscriptions of a living session from expiring."""
        ...

    async def uris(self, session: SessionId) -> Sequence[str]:
        """What a session subscribed to, sorted."""
        ...

    def sessions(self, uri: str) -> AsyncIterator[Sequence[SessionId]]:
        """The sessions that subscribed to `uri`, in batches of bounded size."""
        ...


class ReplicaDirectory(Protocol):
    """Which replicas live."""

    async def beat(self, ttl_seconds: float, *, of: ReplicaId | None = None) -> None:
        """This replica lives; it counts as dead after `ttl_seconds` without another beat.

        Args:
            ttl_seconds: how long.
            of: whose beat it is, if not this replica's: a name that several may share.
        """
        ...

    async def alive(self, replica: ReplicaId) -> bool:
        """Whether `replica` had a beat that has not run out."""
        ...

    async def retire(self) -> None:
        """This replica ends: it counts as dead at once."""
        ...


class Transfer(Protocol):
    """Whole sessions out of a store, and into another one. For operators who move; no request needs it."""

    async def dump(self, session: SessionId) -> SessionImage | None:
        """The session as it is in this instant, None if it is not there. Its expiry does not slide."""
        ...

    async def restore(self, image: SessionImage, *, over: SessionImage | None = None) -> None:
        """Create a session as it was elsewhere, so that positions in its log stay good: one atomic step.

        Its time to live begins anew. Subscriptions are not part of it; see `SubscriptionIndex`.

        Args:
            image: what `dump` returned, perhaps that of another backend.
            over: replace the session that is there, if its `state` is that of this image.

        Raises:
            SessionExists: the id is in use (with `over`: what is there has changed since), or was deleted.
                Nothing was changed.
        """
        ...


class Backend(Protocol):
    """A store as one replica sees it. An async context manager; it closes only what it opened."""

    @property
    def replica(self) -> ReplicaId:
        """This process, in this life."""
        ...

    @property
    def log(self) -> EventLog:
        """What was said to clients."""
        ...

    @property
    def broadcasts(self) -> BroadcastLog:
        """What was said to all clients."""
        ...

    @property
    def sessions(self) -> SessionStore:
        """Who is connected."""
        ...

    @property
    def inbox(self) -> Inbox:
        """What clients answered."""
        ...

    @property
    def bus(self) -> Bus:
        """Hints between replicas."""
        ...

    @property
    def subscriptions(self) -> SubscriptionIndex:
        """Who wants to hear about which resource."""
        ...

    @property
    def replicas(self) -> ReplicaDirectory:
        """Who lives."""
        ...

    @property
    def transfer(self) -> Transfer:
        """The way out, to another store."""
        ...

    @property
    def diagnosis(self) -> Diagnosis:
        """How the store is. Asking it must not depend on how it was a moment ago."""
        ...

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            StoreUnavailable: the store did not answer in time.
            StoreRefused: it refused (wrong password, too old).
        """
        ...

    async def __aexit__(self, *exc_info: object) -> None:
        """Close what was opened."""
        ...

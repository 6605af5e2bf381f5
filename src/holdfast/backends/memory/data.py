"""What all replicas of a memory store share."""

from bisect import bisect_left, bisect_right, insort
from collections import defaultdict
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from heapq import heappop, heappush
from time import monotonic
from typing import Final, Generic, TypeVar

from holdfast.backends.memory.session_log import SessionLog
from holdfast.errors import ConfigurationError, SessionGone
from holdfast.sessions.image import SessionImage
from holdfast.sessions.types import Event, ReplicaId, SessionFacts, SessionId, Settings, StreamId

__all__ = ["Holder", "Listeners", "MemoryData", "Session", "Waiting"]

PURGED_PER_LOOK: Final = 4
"""Expired sessions removed in passing. More than one, so that removal is faster than opening."""

T = TypeVar("T")


@dataclass(slots=True)
class Waiting:
    """A request to the client: who waits, where it is in the log, and the answer once it is there."""

    replica: ReplicaId
    offset: int | None = None
    answer: bytes | None = None
    stream: StreamId | None = None


@dataclass(frozen=True, slots=True)
class Holder:
    """Who reads the standalone stream, and since when."""

    replica: ReplicaId
    reader: str
    since: float


@dataclass(slots=True)
class Session:
    """All that belongs to one session."""

    facts: SessionFacts
    log: SessionLog
    expires_at: float
    settings: Settings = field(default_factory=Settings)
    waiting: dict[str, Waiting] = field(default_factory=dict[str, Waiting])
    holder: Holder | None = None

    def withdraw(self, stream: StreamId) -> None:
        """Nobody waits any more for answers to what was asked on a stream."""
        for request_id, waiting in list(self.waiting.items()):
            if waiting.stream == stream and waiting.answer is None:
                self.log.settle(self.waiting.pop(request_id).offset)


class Listeners(Generic[T]):
    """Who wants to hear of what: callbacks by key."""

    def __init__(self) -> None:
        self._by_key: defaultdict[str, list[T]] = defaultdict(list)

    @contextmanager
    def added(self, key: str, listener: T) -> Generator[None]:
        """Listen while the block runs."""
        self._by_key[key].append(listener)
        try:
            yield
        finally:
            listeners = self._by_key[key]
            # By identity: the same function may listen twice, and equal ones are not the same.
            del listeners[next(index for index, other in enumerate(listeners) if other is listener)]
            if not listeners:
                del self._by_key[key]

    def of(self, key: str) -> tuple[T, ...]:
        """A snapshot: a callback may end its own listening."""
        return tuple(self._by_key.get(key, ()))

    def all(self) -> tuple[T, ...]:
        """Everybody."""
        return tuple(listener for listeners in self._by_key.values() for listener in listeners)


class MemoryData:
    """One memory store. Give the same one to several `MemoryBackend`s, and they are replicas of a fleet.

    Everything in it is done in one step without waiting, on one event loop; it is not thread-safe.

    Args:
        max_events: events kept per session, over all its streams. See `TrimOrder` for which go first.
        max_bytes: bytes of payload kept per session. A single bigger event is kept until the next one.
        clock: seconds that never go back. Tests may turn its hands.
    """

    def __init__(
        self,
        *,
        max_events: int = 1000,
        max_bytes: int = 16 * 2**20,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        for name, value in (("max_events", max_events), ("max_bytes", max_bytes)):
            if value < 1:
                raise ConfigurationError(f"{name} is {value}: it must be at least 1")
        self.clock = clock
        self.watchers = Listeners[tuple[ReplicaId, Callable[[Event | None], None]]]()
        self.answer_listeners = Listeners[Callable[[SessionId | None, str | None], None]]()
        self.broadcast_listeners = Listeners[Callable[[Event | None], None]]()
        self.broadcasts: SessionLog | None = None
        self.subscribers = Listeners[Callable[[bytes], None]]()
        self.subscriptions: dict[SessionId, dict[str, float]] = {}
        self.subscribed: dict[str, dict[SessionId, float]] = {}
        self.subscription_deadlines: list[tuple[float, SessionId]] = []
        self.subscription_queued: set[SessionId] = set()
        self.replicas: dict[ReplicaId, float] = {}
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._sessions: dict[SessionId, Session] = {}
        self._tombstones: dict[SessionId, float] = {}
        self._deadlines: list[tuple[float, SessionId]] = []
        self._ids: list[SessionId] = []
        self._ids_by_owner: defaultdict[str | None, list[SessionId]] = defaultdict(list)

    def fail_over(self, keep: int | None = None) -> None:
        """For tests of recovery: every log begins a new epoch, as if another server had taken over.

        Args:
            keep: what the other server knew: each log's offsets up to this one. None: everything. Positions
                of the old epoch at or below it stay good, those above are lost. What was trimmed before
                is not brought back: `keep` an offset below that, and some positions are refused for safety.
        """
        for session in self._sessions.values():
            surviving = session.log.fail_over(keep)
            for request_id, waiting in list(session.waiting.items()):
                if waiting.offset is not None and waiting.offset > surviving:
                    del session.waiting[request_id]
        if self.broadcasts is not None:
            self.broadcasts.fail_over(keep)
        for _, heard in self.watchers.all():
            heard(None)
        for listening in self.broadcast_listeners.all():
            listening(None)
        for arrived in self.answer_listeners.all():
            arrived(None, None)

    def broadcast_log(self) -> SessionLog:
        """The log of what is said to all, created if there is none."""
        if self.broadcasts is None:
            self.broadcasts = SessionLog(max_events=self._max_events, max_bytes=self._max_bytes)
        return self.broadcasts

    def add(self, facts: SessionFacts) -> None:
        """Create a session."""
        log = SessionLog(max_events=self._max_events, max_bytes=self._max_bytes)
        deadline = self.clock() + facts.ttl_seconds
        self._sessions[facts.id] = Session(facts, log, deadline)
        heappush(self._deadlines, (deadline, facts.id))
        insort(self._ids, facts.id)
        insort(self._ids_by_owner[facts.owner], facts.id)

    def restore(self, image: SessionImage) -> Session:
        """Create a session with the log in an image."""
        self.add(image.facts)
        session = self._sessions[image.facts.id]
        session.log = SessionLog.of(image, max_events=self._max_events, max_bytes=self._max_bytes)
        return session

    def forget(self, session: Session) -> None:
        """Remove a session; its id is free."""
        self._remove(session)

    def get(self, session: SessionId) -> Session | None:
        """The session if it lives."""
        now = self.clock()
        self._purge(now, PURGED_PER_LOOK)
        found = self._sessions.get(session)
        if found is not None and found.expires_at <= now:
            self._remove(found)
            return None
        return found

    def live(self, session: SessionId) -> Session:
        """The session.

        Raises:
            SessionGone: it does not live.
        """
        found = self.get(session)
        if found is None:
            raise SessionGone
        return found

    def touch(self, session: Session) -> None:
        """Slide the expiry of a session. Its place in the queue is put right when its old turn comes."""
        session.expires_at = self.clock() + session.facts.ttl_seconds

    def bury(self, session: Session) -> None:
        """Remove a session, and refuse its id for as long as it would have lived."""
        self._remove(session)
        deadline = self.clock() + session.facts.ttl_seconds
        self._tombstones[session.facts.id] = deadline
        heappush(self._deadlines, (deadline, session.facts.id))

    def used(self, session: SessionId) -> bool:
        """Whether the id belongs to a session that lives or was deleted."""
        return self.get(session) is not None or self._tombstones.get(session, 0.0) > self.clock()

    def count(self) -> int:
        """How many sessions live."""
        # All that are due: each was opened once, so that is paid for.
        self._purge(self.clock(), len(self._deadlines))
        return len(self._sessions)

    def ids(self, owner: str | None, after: SessionId | None, limit: int) -> list[SessionId]:
        """Ids of sessions of one owner, or of all, in order."""
        self.count()
        ids = self._ids if owner is None else self._ids_by_owner.get(owner, [])
        first = 0 if after is None else bisect_right(ids, after)
        return ids[first : first + limit]

    def _purge(self, now: float, most: int) -> None:
        while most and self._deadlines and self._deadlines[0][0] <= now:
            most -= 1
            _, session_id = heappop(self._deadlines)
            session = self._sessions.get(session_id)
            if session is None:
                if self._tombstones.get(session_id, now + 1) <= now:
                    del self._tombstones[session_id]
            elif session.expires_at <= now:
                self._remove(session)
            else:
                heappush(self._deadlines, (session.expires_at, session_id))

    def _remove(self, session: Session) -> None:
        session_id, owner = session.facts.id, session.facts.owner
        del self._sessions[session_id]
        ids = self._ids_by_owner[owner]
        del self._ids[bisect_left(self._ids, session_id)]
        del ids[bisect_left(ids, session_id)]
        if not ids:
            del self._ids_by_owner[owner]

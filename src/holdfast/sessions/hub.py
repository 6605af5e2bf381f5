"""This process's readers: who reads which session here, and how they are woken, fed and closed."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, TypeVar

import anyio

from holdfast.observe import NOBODY, Observer
from holdfast.sessions.spool import Spooled
from holdfast.sessions.types import STANDALONE, Event, Position, ReplicaId, SessionId, StreamId

__all__ = ["DISPLACED_RETRY_MILLISECONDS", "Hub", "Reader"]

T = TypeVar("T")

DISPLACED_RETRY_MILLISECONDS: Final = 30_000
"""A displaced reader stays away for long, so that two living clients do not evict each other for ever."""

_HANDED_EVENTS: Final = 64
"""Events handed to a reader that it has not taken yet. Beyond this they are dropped: the log has them."""


@dataclass(eq=False, slots=True)
class Reader:
    """One open stream to a client in this process.

    Attributes:
        session: whose.
        stream: which of its streams.
        token: names this reader among all of the fleet, so that another one can take its place.
        writes: it belongs to the POST whose handler runs in this process.
        primed: its client was given an id before anything else, and so can resume whatever happens.
        handed: events that were appended in this process or came with an announcement, to be used if they
            follow the cursor.
        unlogged: messages that could not be stored, for the client that is connected now.
        closed: the reader must end its response; the client may come back.
        retry_milliseconds: how long the client should stay away after that, None: the usual.
        claimed: it has taken the standalone stream, so whoever has that now has displaced it.
        writer: the other replica whose running handler writes this stream, once that is known.
        hinted: the log may hold more than was read of it.
        cursor: how far the log has been read.
        latest: the last event that was handed, taken or not.
        unstored: what waits for the store and goes to this client all the same; None: nothing does.
        based: the stream was recorded only now, and begins here.
        on_change: called whenever any of this changed from outside.
    """

    session: SessionId
    stream: StreamId
    token: str
    writes: bool = False
    primed: bool = False
    handed: list[Event] = field(default_factory=list[Event])
    unlogged: list[bytes] = field(default_factory=list[bytes])
    closed: bool = False
    retry_milliseconds: int | None = None
    claimed: bool = False
    writer: ReplicaId | None = None
    hinted: bool = False
    cursor: Position | None = None
    latest: Position | None = None
    unstored: "Unstored | None" = None
    based: Position | None = None
    on_change: Callable[[], None] | None = None
    _changed: bool = False
    _signal: anyio.Event | None = None

    def wake(self) -> None:
        """The log may have grown."""
        self.hinted = True
        self._change()

    def hear(self, event: Event | None) -> None:
        """Another replica appended to the session: this event, or something."""
        if event is None:
            self.wake()
        elif event.stream == self.stream:
            self.hand(event)

    def nudge(self) -> None:
        """Something other than the session's log may have grown."""
        self._change()

    def hand(self, event: Event) -> None:
        """Take an event without a read."""
        self.latest = event.position
        _keep(self.handed, event)
        self._change()

    def show(self, item: Spooled) -> None:
        """Take an event that is not stored yet."""
        if self.unstored is None:
            self.unstored = Unstored()
        self.unstored.waiting.append(item)
        self._change()

    def stored(self, item: Spooled, event: Event) -> None:
        """An event that may have been shown is stored."""
        if self.unstored is not None:
            self.unstored.settle(item, event.position)
        self.hand(event)

    def unstorable(self, item: Spooled) -> None:
        """An event that may have been shown will never be stored."""
        if self.unstored is not None:
            self.unstored.settle(item, None)
            self._change()

    def hand_unlogged(self, payload: bytes) -> None:
        """Take a message that could not be stored."""
        _keep(self.unlogged, payload)
        self._change()

    def close(self, retry_milliseconds: int | None = None) -> None:
        """End this reader's response."""
        self.closed = True
        self.retry_milliseconds = retry_milliseconds
        self._change()

    async def wait(self) -> None:
        """Return once something may have changed since the last return."""
        if not self._changed:
            self._signal = anyio.Event()
            await self._signal.wait()
        self._changed = False

    def _change(self) -> None:
        self._changed = True
        if self._signal is not None:
            self._signal.set()
        if self.on_change is not None:
            self.on_change()


class Unstored:
    """What one client is given before it is stored (DESIGN 8, Outage).

    Attributes:
        waiting: not yet given.
        given: not yet stored; until their places are known, reading the log would give them twice.
        places: of those that were given and are stored now: when the log comes to these, only the id is new.
    """

    __slots__ = ("given", "places", "waiting")

    def __init__(self) -> None:
        self.waiting: list[Spooled] = []
        self.given: set[Spooled] = set()
        self.places: set[Position] = set()

    def settle(self, item: Spooled, place: Position | None) -> None:
        """An event is stored there, or will never be."""
        if item in self.given:
            self.given.discard(item)
            if place is not None:
                self.places.add(place)
        elif item in self.waiting and place is not None:
            self.waiting.remove(item)  # it is handed over as any other

    def give(self) -> Spooled:
        """The next one, to be sent to the client."""
        item = self.waiting.pop(0)
        if not item.settled:
            self.given.add(item)
        return item

    @property
    def over(self) -> bool:
        """Whether nothing is left to be remembered."""
        return not (self.waiting or self.given or self.places)


def _keep(newest: list[T], item: T) -> None:
    """Not a bounded deque: an empty one takes twelve times the memory of a list, and most stay empty."""
    if len(newest) >= _HANDED_EVENTS:
        del newest[0]
    newest.append(item)


class Hub:
    """The readers of this process, by session."""

    def __init__(self, observer: Observer = NOBODY) -> None:
        self._observer = observer
        self._readers: dict[SessionId, set[Reader]] = {}
        self._standalone: set[Reader] = set()

    def open(self, session: SessionId, stream: StreamId, token: str, *, writes: bool = False) -> Reader:
        """Register a reader. `release` it when its response ends."""
        reader = Reader(session, stream, token, writes=writes)
        self._readers.setdefault(session, set()).add(reader)
        if stream == STANDALONE:
            self._standalone.add(reader)
        self._observer.stream_opened(session, stream)
        return reader

    def release(self, reader: Reader) -> None:
        """The reader's response ended."""
        self._standalone.discard(reader)
        readers = self._readers.get(reader.session, set())
        if reader not in readers:
            return
        readers.remove(reader)
        if not readers:
            del self._readers[reader.session]
        self._observer.stream_closed(reader.session, reader.stream)

    def readers(self) -> list[Reader]:
        """All open streams here."""
        return [reader for readers in self._readers.values() for reader in readers]

    def sessions(self) -> list[SessionId]:
        """Sessions with an open stream here."""
        return list(self._readers)

    def standalone_readers(self) -> list[Reader]:
        """Readers of standalone streams, of all sessions."""
        return list(self._standalone)

    def claimants(self, session: SessionId) -> list[Reader]:
        """Readers here that have taken the standalone stream, as far as they know."""
        return [r for r in self._readers.get(session, ()) if r.claimed and not r.closed]

    def writers(self) -> set[ReplicaId]:
        """Replicas whose running handlers are waited for by readers here."""
        return {reader.writer for readers in self._readers.values() for reader in readers if reader.writer}

    def hand(self, session: SessionId, event: Event) -> None:
        """Give an event that this process appended to the readers of its stream here."""
        for reader in self._readers.get(session, ()):
            if reader.stream == event.stream:
                reader.hand(event)

    def hand_unlogged(self, session: SessionId, stream: StreamId, payload: bytes) -> bool:
        """Give a message that could not be stored to whoever reads the stream here. False: nobody does."""
        readers = [r for r in self._readers.get(session, ()) if r.stream == stream and not r.closed]
        for reader in readers:
            reader.hand_unlogged(payload)
        return bool(readers)

    def show(self, session: SessionId, stream: StreamId, item: Spooled) -> None:
        """Give an event that waits for the store to whoever reads its stream here."""
        for reader in self._readers.get(session, ()):
            if reader.stream == stream and not reader.closed:
                item.shown = True
                reader.show(item)

    def stored(self, session: SessionId, event: Event, item: Spooled) -> None:
        """What waited is stored; give it to those who have not had it."""
        for reader in self._readers.get(session, ()):
            if reader.stream == event.stream:
                reader.stored(item, event)

    def unstorable(self, session: SessionId, stream: StreamId, item: Spooled) -> None:
        """What waited will never be stored."""
        for reader in self._readers.get(session, ()):
            if reader.stream == stream:
                reader.unstorable(item)

    def based(self, session: SessionId, stream: StreamId, start: Position) -> None:
        """A stream that could not be recorded when it began is recorded now."""
        for reader in self._readers.get(session, ()):
            if reader.stream == stream:
                reader.based = start

    def wake(self, session: SessionId | None = None) -> None:
        """Make the readers of a session, or all of them, look at the log again."""
        for readers in [self._readers.get(session, ())] if session else self._readers.values():
            for reader in readers:
                reader.wake()

    def wake_behind(self, session: SessionId, top: Position) -> None:
        """Make the readers of a session that have not read up to its top look again: a hint was lost."""
        for reader in self._readers.get(session, ()):
            if reader.cursor != top:
                self._observer.hint_missed(session)
                reader.wake()

    def wake_readers_of(self, writer: ReplicaId) -> None:
        """Make the readers that wait for a replica look again: it died."""
        for readers in self._readers.values():
            for reader in readers:
                if reader.writer == writer:
                    reader.wake()

    def close(
        self,
        session: SessionId | None = None,
        *,
        stream: StreamId | None = None,
        token: str | None = None,
        retry_milliseconds: int | None = None,
    ) -> int:
        """Close readers: of one session, stream or token, or of all. How many those were."""
        closed = 0
        for readers in [self._readers.get(session, ())] if session else self._readers.values():
            for reader in readers:
                if stream in (None, reader.stream) and token in (None, reader.token):
                    closed += not reader.closed
                    reader.close(retry_milliseconds)
        return closed

    def end(self, session: SessionId) -> None:
        """A session ended: close its readers, but for those whose handler is about to say so itself."""
        for reader in self._readers.get(session, ()):
            if not reader.writes:
                reader.close()

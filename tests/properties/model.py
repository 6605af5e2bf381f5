"""What a log is, said as simply as possible: lists, and no bound. Knows nothing of any backend."""

from dataclasses import dataclass, field

from holdfast.sessions.types import STANDALONE, Position, SessionId, StreamId


@dataclass
class ModelEvent:
    offset: int
    stream: StreamId
    previous: int
    payload: bytes
    final: bool


@dataclass
class ModelStream:
    """`was_closed`: it may have been forgotten, if the log was ever full."""

    opened_at: int = 0
    closed: bool = False
    was_closed: bool = False
    resume: int = 0


@dataclass
class ModelReader:
    """A client that remembers where it stopped, perhaps in an earlier life of the log."""

    stream: StreamId
    cursor: Position


@dataclass
class ModelSession:
    id: SessionId
    epoch: str
    alive: bool = True
    appended: int = 0
    events: list[ModelEvent] = field(default_factory=list[ModelEvent])
    streams: dict[StreamId, ModelStream] = field(default_factory=lambda: {STANDALONE: ModelStream()})
    keys: dict[tuple[StreamId, str], tuple[int, int]] = field(
        default_factory=dict[tuple[StreamId, str], tuple[int, int]]
    )
    waiting: dict[str, tuple[int, bytes | None]] = field(default_factory=dict[str, tuple[int, bytes | None]])
    readers: list[ModelReader] = field(default_factory=list[ModelReader])
    holder: tuple[str, str] | None = None
    lives: dict[str, int] = field(default_factory=dict[str, int])

    @property
    def top(self) -> int:
        return len(self.events)

    def of(self, stream: StreamId) -> list[ModelEvent]:
        return [event for event in self.events if event.stream == stream]

    def append(self, stream: StreamId, payload: bytes, *, final: bool) -> ModelEvent:
        before = self.of(stream)
        previous = before[-1].offset if before else 0
        event = ModelEvent(self.top + 1, stream, previous, payload, final)
        self.events.append(event)
        self.appended += 1
        if final:
            self.streams[stream].closed = self.streams[stream].was_closed = True
        return event

    def honours(self, position: Position) -> bool:
        """Whether nothing after the position can have been lost in a failover."""
        surviving = self.top if position.epoch == self.epoch else self.lives[position.epoch]
        return position.offset <= surviving

    def fail_over(self, keep: int, epoch: str) -> None:
        kept = min(keep, self.top)
        self.lives = {old: min(top, kept) for old, top in self.lives.items()} | {self.epoch: kept}
        self.epoch = epoch
        del self.events[kept:]
        self.streams = {name: one for name, one in self.streams.items() if one.opened_at <= kept}
        for name, stream in self.streams.items():
            stream.closed = any(event.final for event in self.of(name))
            stream.resume = min(stream.resume, kept)
        self.keys = {key: value for key, value in self.keys.items() if value[1] <= kept}
        self.waiting = {name: one for name, one in self.waiting.items() if one[0] <= kept}
        self.readers = [reader for reader in self.readers if reader.stream in self.streams]

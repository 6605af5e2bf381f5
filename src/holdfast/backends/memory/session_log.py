"""The log of one session as a state machine: no clock, no waiting, no other session."""

from bisect import bisect_right
from collections import OrderedDict, deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from secrets import token_hex
from typing import Final, Self

from holdfast.backends.memory.trim_order import Entry, TrimOrder
from holdfast.errors import PositionLost, StoreRefused, StreamClosed, StreamUnknown
from holdfast.sessions.image import SessionImage, StreamImage
from holdfast.sessions.types import (
    STANDALONE,
    AppendKey,
    Event,
    Page,
    Position,
    StreamId,
    StreamState,
)

__all__ = ["SessionLog"]

WRITERS_REMEMBERED: Final = 64
"""Per stream. A writer is one life of one replica: the standalone stream may see many."""

FENCES_REMEMBERED: Final = 8
"""Positions from lives before these are lost."""


@dataclass(slots=True)
class _Stream:
    """What is known of one stream.

    Attributes:
        opened_at: top of the log when it was opened.
        last: offset of its newest event, kept or not.
        trimmed: highest offset of it that was trimmed. A cursor below that has a gap before it.
        entries: what is kept of it, by age.
        accepted: the last counter of each writer and what was stored under it.
    """

    state: StreamState
    opened_at: int = 0
    last: int = 0
    trimmed: int = 0
    entries: list[Entry] = field(default_factory=list[Entry])
    accepted: OrderedDict[str, tuple[int, Entry]] = field(default_factory=OrderedDict[str, tuple[int, Entry]])


class SessionLog:
    """Every message of every stream of one session, in one dense order."""

    def __init__(self, *, max_events: int, max_bytes: int) -> None:
        self._epoch = token_hex(6)
        self._top = 0
        self._streams = {STANDALONE: _Stream(StreamState(running=True))}
        self._entries: dict[int, Entry] = {}
        self._trim_order = TrimOrder(max_events=max_events, max_bytes=max_bytes)
        self._fences: deque[tuple[str, int]] = deque(maxlen=FENCES_REMEMBERED)

    @classmethod
    def of(cls, image: SessionImage, *, max_events: int, max_bytes: int) -> Self:
        """The log in an image."""
        log = cls(max_events=max_events, max_bytes=max_bytes)
        log._epoch, log._top = image.epoch, image.top
        log._fences.extend(reversed(image.fences))
        log._streams = {
            each.name: _Stream(each.state, each.opened_at, last=each.trimmed, trimmed=each.trimmed)
            for each in image.streams
        }
        waited_for = {asked.offset for asked in image.asked}
        for event in image.events:
            stream, offset = log._streams[event.stream], event.position.offset
            precious = event.final or offset in waited_for
            entry = Entry(offset, event.stream, event.previous, event.payload, event.final, precious)
            stream.last = offset
            stream.entries.append(entry)
            log._entries[offset] = entry
            log._trim_order.add(entry)
        log._trim()
        return log

    @property
    def epoch(self) -> str:
        """The present life of the log."""
        return self._epoch

    @property
    def fences(self) -> tuple[tuple[str, int], ...]:
        """Earlier epochs with what survived of each, newest first."""
        return tuple(reversed(self._fences))

    @property
    def streams(self) -> tuple[StreamImage, ...]:
        """What is recorded of all streams, by name."""
        return tuple(
            StreamImage(name, stream.state, stream.opened_at, stream.trimmed)
            for name, stream in sorted(self._streams.items())
        )

    @property
    def events(self) -> tuple[Event, ...]:
        """All that are kept, oldest first."""
        return tuple(self._event(self._entries[offset]) for offset in sorted(self._entries))

    @property
    def top(self) -> Position:
        """The position of the newest event."""
        return self.position(self._top)

    def position(self, offset: int) -> Position:
        """A place in the present life of the log."""
        return Position(self._epoch, offset)

    def trimmed(self, stream: StreamId) -> int:
        """The highest offset of a stream that was trimmed.

        Raises:
            StreamUnknown: there is no such stream.
        """
        return self._stream(stream).trimmed

    def open_stream(self, stream: StreamId, state: StreamState) -> Position:
        """Record a stream; one that is recorded stays as it is.

        Raises:
            StoreRefused: it was recorded for something else.
        """
        opened = self._streams.setdefault(stream, _Stream(state, opened_at=self._top))
        if _origin(opened.state) != _origin(state):
            raise StoreRefused("a stream with this id was opened for something else")
        return self.position(opened.opened_at)

    def repeated(self, stream: StreamId, key: AppendKey | None, payload: bytes) -> Event | None:
        """The event that was stored under this key, or None if the key is new.

        Raises:
            StreamUnknown: there is no such stream.
            ValueError: the writer has used a higher counter already.
        """
        accepted = self._stream(stream).accepted
        if key is None or key.writer not in accepted:
            return None
        counter, entry = accepted[key.writer]
        if key.counter > counter:
            return None
        if key.counter < counter:
            raise ValueError(f"append key {key.counter} of a writer that is at {counter}: counters must grow")
        # The payload of the caller: it is the same one, and the stored one may have been trimmed.
        return replace(self._event(entry), payload=payload)

    def append(
        self, stream: StreamId, payload: bytes, *, key: AppendKey | None, final: bool, precious: bool
    ) -> Event:
        """Store an event and trim.

        Raises:
            StreamUnknown: there is no such stream.
            StreamClosed: its final event is there.
        """
        to = self._stream(stream)
        if not to.state.running:
            raise StreamClosed
        self._top += 1
        entry = Entry(self._top, stream, to.last, payload, final, precious or final)
        to.last = self._top
        to.entries.append(entry)
        if final:
            to.state = replace(to.state, running=False)
        if key is not None:
            _remember(to.accepted, key, entry)
        self._entries[self._top] = entry
        self._trim_order.add(entry)
        self._trim()
        return self._event(entry)

    def settle(self, offset: int | None) -> None:
        """The request to the client at `offset` needs no answer any more: it is trimmed by its age."""
        entry = self._entries.get(offset or 0)
        if entry is not None and not entry.final:
            self._trim_order.settle(entry)

    def read(self, stream: StreamId, after: Position, limit: int) -> Page:
        """The events of one stream after a position.

        Raises:
            StreamUnknown: there is no such stream.
            PositionLost: the answer would have a hole.
        """
        wanted = self._stream(stream)
        offset = self._present_offset(after, wanted)
        if offset < wanted.trimmed:
            raise PositionLost("trimmed", resume_offset=wanted.trimmed, resume_epoch=self._epoch)
        first = bisect_right(wanted.entries, offset, key=lambda entry: entry.offset)
        entries = wanted.entries[first : first + limit]
        complete = first + len(entries) == len(wanted.entries)
        cursor = self._top if complete else entries[-1].offset if entries else offset
        events = tuple(self._event(entry) for entry in entries)
        return Page(events, self.position(cursor), complete, wanted.state)

    def events_at(self, offsets: Iterable[int], stream: StreamId) -> tuple[Event, ...]:
        """Those of the given events that belong to `stream` and are kept."""
        found = (self._entries.get(offset) for offset in offsets)
        return tuple(self._event(entry) for entry in found if entry is not None and entry.stream == stream)

    def fail_over(self, keep: int | None) -> int:
        """Begin a new life that knows only the first `keep` offsets (None: all), and return its top."""
        surviving = self._top if keep is None else min(keep, self._top)
        fences = [(epoch, min(top, surviving)) for epoch, top in self._fences]
        self._fences = deque([*fences, (self._epoch, surviving)], maxlen=FENCES_REMEMBERED)
        self._epoch, self._top = token_hex(6), surviving
        for name, stream in list(self._streams.items()):
            if stream.opened_at > surviving:
                self._drop_stream(name)
            else:
                self._rewind(stream, surviving)
        return surviving

    def _rewind(self, stream: _Stream, top: int) -> None:
        for entry in [entry for entry in stream.entries if entry.offset > top]:
            self._drop(entry)
            stream.entries.remove(entry)
            stream.state = replace(stream.state, running=True)
        for writer, (_, entry) in list(stream.accepted.items()):
            if entry.offset > top:
                del stream.accepted[writer]
        stream.trimmed = min(stream.trimmed, top)
        stream.last = max(stream.trimmed, stream.entries[-1].offset if stream.entries else 0)

    def _present_offset(self, after: Position, stream: _Stream) -> int:
        """`after` as an offset of this life, if nothing was lost on the way."""
        surviving = self._top if after.epoch == self._epoch else dict(self._fences).get(after.epoch)
        if surviving is None or (after.offset > surviving and after.epoch == self._epoch):
            raise PositionLost("epoch")
        if after.offset > surviving:
            resume = max(surviving, stream.trimmed)
            raise PositionLost("epoch", resume_offset=resume, resume_epoch=self._epoch)
        return after.offset

    def _stream(self, stream: StreamId) -> _Stream:
        found = self._streams.get(stream)
        if found is None:
            raise StreamUnknown
        return found

    def _event(self, entry: Entry) -> Event:
        position = self.position(entry.offset)
        return Event(entry.stream, position, entry.previous, entry.payload, entry.final)

    def _trim(self) -> None:
        while entry := self._trim_order.next(self._top):
            stream = self._streams[entry.stream]
            stream.trimmed = max(stream.trimmed, entry.offset)
            stream.entries.remove(entry)
            self._drop(entry)
            if entry.final:
                self._drop_stream(entry.stream)

    def _drop_stream(self, name: StreamId) -> None:
        for entry in self._streams.pop(name).entries:
            self._drop(entry)

    def _drop(self, entry: Entry) -> None:
        self._trim_order.drop(entry)
        del self._entries[entry.offset]


def _origin(state: StreamState) -> tuple[object, ...]:
    """Who writes a stream, and for which request. `1` and `"1"` are two."""
    return state.replica, type(state.request_id), state.request_id


def _remember(accepted: OrderedDict[str, tuple[int, Entry]], key: AppendKey, entry: Entry) -> None:
    # Without its payload: a remembered event must not outlive the bound on bytes.
    accepted[key.writer] = (key.counter, replace(entry, payload=b""))
    accepted.move_to_end(key.writer)
    if len(accepted) > WRITERS_REMEMBERED:
        accepted.popitem(last=False)

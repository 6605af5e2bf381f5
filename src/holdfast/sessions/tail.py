"""Reading a stream from a cursor. Replay and live are this one loop, so no event can fall between them."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from holdfast.errors import PositionLost
from holdfast.sessions.broadcasts import BroadcastsLost, Listening
from holdfast.sessions.event_id import encode_event_id
from holdfast.sessions.hub import Reader
from holdfast.sessions.protocols import EventLog
from holdfast.sessions.types import BROADCAST, GENESIS, UNSTORED, Event, Position, ReplicaId, StreamState

__all__ = ["PAGE_EVENTS", "Tail"]

PAGE_EVENTS: Final = 1_000
"""Most events of one read: who missed a thousand gets them in one round trip."""


class Tail:
    """The rest of one stream after a cursor, as it comes.

    Events that this process appended are handed over without a read when they follow the cursor; whenever
    they do not, the log is read. Hints only decide when to look.

    Attributes:
        cursor: how far the session's log has been delivered.
        listening: the same for the broadcast log, if that is merged into the stream. Each of the two logs
            keeps its order; how they are interleaved does not matter, as every event id names both places.
        ids_alone: whether the client understands an id without a message (from 2025-11-25 on).
    """

    def __init__(
        self,
        log: EventLog,
        reader: Reader,
        cursor: Position,
        *,
        end_orphan: Callable[[StreamState, str], Awaitable[bool]],
        replica: ReplicaId,
    ) -> None:
        """Start after `cursor`.

        Args:
            log: where the stream is.
            reader: its registration in this process.
            cursor: everything up to here has been delivered.
            end_orphan: appends the final event if the replica that writes the stream is gone, and says so;
                its second argument is the present epoch.
            replica: this process.
        """
        self.cursor = cursor
        self.ended = False
        self.restarted = False
        self.stream: StreamState | None = None
        self.listening: Listening | None = None
        self.ids_alone = True
        self._log = log
        self._reader = reader
        self._replica = replica
        self._end_orphan = end_orphan
        self._stale = True
        self._own_turn = True

    def restart(self, cursor: Position) -> None:
        """Go on from another place, after the cursor was lost."""
        self.cursor = cursor
        self.restarted = True
        self._stale = True
        if self._reader.unstored is not None:
            self._reader.unstored.places.clear()

    def go_on_behind(self, lost: PositionLost) -> bool:
        """Skip what is lost. False: there is no place to go on from."""
        place = Position(lost.resume_epoch, lost.resume_offset)
        if isinstance(lost, BroadcastsLost):
            if self.listening is not None:
                self.listening.position = place
        elif lost.resume_epoch:
            self.restart(place)
        else:
            return False
        return True

    def id_of(self, event: Event) -> str:
        """The id of an event of those that were returned last and are stored."""
        if event.stream == BROADCAST:
            return encode_event_id(self._reader.stream, self.cursor, event.position)
        return self.id_at(event.position)

    def id_at(self, position: Position) -> str:
        """The id of a place in the session's log and the present one in the broadcast log."""
        heard = GENESIS if self.listening is None else self.listening.position
        return encode_event_id(self._reader.stream, position, heard)

    def start_live(self) -> None:
        """Skip the first read: nothing but what this process appends can come after the cursor."""
        self._stale = False

    async def next(self) -> Sequence[Event]:
        """Wait for events and return them. Empty: the reader was closed, has unlogged messages, or the end.

        May be cancelled at any point without losing an event.

        Raises:
            SessionGone: the session ended.
            StreamUnknown: the stream's last trace was trimmed.
            PositionLost: the next events were trimmed before they could be read; see `go_on_behind`.
            StoreError: the log cannot be read now; calling again goes on where it stopped.
        """
        while not (events := await self.present()):
            if self._reader.closed or self.ended or self._reader.unlogged:
                break
            await self._reader.wait()
        return events

    async def present(self) -> Sequence[Event]:
        """The same without waiting: empty as well if there is nothing yet."""
        while not self._reader.closed:
            if events := await self._take():
                return events
            if self.ended or self._reader.unlogged or self._waits_for_places or not self._stale:
                break
        return ()

    async def first(self) -> Sequence[Event]:
        """What is there already, without waiting for more. Raises as `next` does."""
        self._stale = True
        return await self._read_if_stale()

    async def _take(self) -> Sequence[Event]:
        """Events of one of the two logs. They take turns, so that a busy one does not silence the other."""
        self._own_turn = self.listening is None or not self._own_turn
        if self.listening is None or self._own_turn:
            own = self._take_own() or await self._read_if_stale()
            return own or (await self.listening.next() if self.listening else ())
        return await self.listening.next() or self._take_own() or await self._read_if_stale()

    def _take_own(self) -> Sequence[Event]:
        """Events of the session's log that are here already, and those that wait for the store."""
        reader = self._reader
        if reader.based is not None:
            self.cursor, reader.based = reader.based, None
        if taken := self._take_handed():
            return taken
        unstored = reader.unstored
        if unstored is None:
            return ()
        if unstored.over:
            reader.unstored = None
        if not unstored.waiting or self._behind:
            return ()
        item = unstored.give()
        self.ended = item.final
        return [Event(reader.stream, UNSTORED, 0, item.payload, item.final)]

    def _take_handed(self) -> list[Event]:
        """Handed events that follow the cursor. One that does not means that the log must be read."""
        taken: list[Event] = []
        handed = self._reader.handed
        while handed:
            event = handed.pop(0)
            if event.position.epoch == self.cursor.epoch and event.position.offset <= self.cursor.offset:
                continue
            if event.position.epoch != self.cursor.epoch or event.previous > self.cursor.offset:
                handed.clear()
                self._stale = True
                break
            taken.append(self._without_what_was_given(event))
            self._advance(event.position, ended=event.final)
        return taken

    @property
    def _behind(self) -> bool:
        """Whether events came before that the client has not had: it gets everything in order."""
        latest = self._reader.latest
        if latest is None:
            return False
        return latest.epoch != self.cursor.epoch or latest.offset > self.cursor.offset

    @property
    def _waits_for_places(self) -> bool:
        """Whether the client was given events of which it is not known where in the log they will be."""
        unstored = self._reader.unstored
        return self.cursor == UNSTORED or (unstored is not None and bool(unstored.given))

    def _without_what_was_given(self, event: Event) -> Event:
        """The event; if the client was given it before it was stored, only its place is new."""
        unstored = self._reader.unstored
        if unstored is None or event.position not in unstored.places:
            return event
        unstored.places.discard(event.position)
        return replace(event, payload=b"")

    async def _read_if_stale(self) -> Sequence[Event]:
        if self._reader.hinted:
            self._reader.hinted = False
            self._stale = True
        if not self._stale or self._waits_for_places:
            return ()
        session, stream = self._reader.session, self._reader.stream
        page = await self._log.read(session, stream, after=self.cursor, limit=PAGE_EVENTS)
        self.stream = page.stream
        if page.complete and page.stream.running:
            await self._look_after_writer(page.stream, page.cursor.epoch)
        self._stale = not page.complete or self._reader.hinted
        self._advance(page.cursor, ended=page.complete and not page.stream.running)
        return [self._without_what_was_given(event) for event in page.events]

    async def _look_after_writer(self, stream: StreamState, epoch: str) -> None:
        """Remember which other replica writes a running stream; if it is gone, end the stream for it."""
        if stream.replica in (None, self._replica):
            return
        self._reader.writer = stream.replica
        if await self._end_orphan(stream, epoch):
            self._reader.wake()

    def _advance(self, position: Position, *, ended: bool) -> None:
        self.cursor = self._reader.cursor = position
        self.ended = ended

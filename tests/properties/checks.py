"""What must hold between a store and the model, after each step."""

from collections.abc import Callable, Sequence

from hypothesis.stateful import RuleBasedStateMachine
from typing_extensions import override

from holdfast.errors import PositionLost, SessionGone, StreamUnknown
from holdfast.sessions.protocols import Backend
from holdfast.sessions.types import STANDALONE, Event, Page, Position, StreamId
from holdfast.testing.conformance import StoreUnderTest
from tests.properties.bridge import Bridge
from tests.properties.model import ModelReader, ModelSession


class Checks(RuleBasedStateMachine):
    """A store, the model of it, and how they are compared."""

    def __init__(self, new_store: Callable[[], StoreUnderTest]) -> None:
        super().__init__()
        self.bridge = Bridge(new_store())
        self.sessions: list[ModelSession] = []
        self.asked = 0
        self.lives = 0

    @override
    def teardown(self) -> None:
        try:
            for session in self.sessions:
                if session.alive:
                    self.check_bound(session)
        finally:
            self.bridge.close()

    # --- choices

    def session(self, number: int) -> ModelSession:
        return self.sessions[number % len(self.sessions)]

    def stream(self, session: ModelSession, number: int) -> StreamId:
        return list(session.streams)[number % len(session.streams)]

    def request(self, session: ModelSession, number: int) -> str:
        requests = [*session.waiting, "forged"]
        return requests[number % len(requests)]

    def replica(self, number: int) -> Backend:
        return self.bridge.replicas[number % 2]

    # --- comparisons

    def read_page(self, session: ModelSession, reader: ModelReader, on: int, limit: int) -> None:
        """Read on, and compare whatever the answer is."""
        read = self.replica(on).log.read
        try:
            page = self.bridge.call(read, session.id, reader.stream, after=reader.cursor, limit=limit)
        except SessionGone:
            assert not session.alive
        except StreamUnknown:
            self.check_forgotten(session, reader.stream)
        except PositionLost as lost:
            self.check_loss(session, reader, lost)
        else:
            assert session.alive
            self.check_page(session, reader, page, limit)
            reader.cursor = page.cursor

    def check_event(self, session: ModelSession, event: Event, offset: int) -> None:
        wanted = session.events[offset - 1]
        previous = wanted.previous
        if session.lives and event.previous != previous:
            # What a failover took back may have been trimmed before: the store then errs on the safe side.
            assert previous < event.previous < offset
            assert self.was_full(session)
            previous = event.previous
        position = Position(session.epoch, offset)
        assert event == Event(wanted.stream, position, previous, wanted.payload, wanted.final)

    def check_appended(
        self, session: ModelSession, event: Event, stream: StreamId, payload: bytes, *, final: bool
    ) -> None:
        """It has the next offset, and whoever had read everything before can read it."""
        before = Position(session.epoch, session.top)
        session.append(stream, payload, final=final)
        self.check_event(session, event, session.top)
        page = self.bridge.call(self.replica(0).log.read, session.id, stream, after=before, limit=9)
        assert list(page.events) == [event]

    def check_page(self, session: ModelSession, reader: ModelReader, page: Page, limit: int) -> None:
        """It has exactly what comes next."""
        assert session.honours(reader.cursor), "a position is honoured though something after it was lost"
        expected = [event for event in session.of(reader.stream) if event.offset > reader.cursor.offset]
        assert len(page.events) == min(limit, len(expected))
        for event, wanted in zip(page.events, expected, strict=False):
            self.check_event(session, event, wanted.offset)
        assert page.complete == (len(page.events) == len(expected))
        assert page.cursor.epoch == session.epoch
        reached = [reader.cursor.offset, *(event.offset for event in expected[: len(page.events)])][-1]
        unread = [*(event.offset for event in expected[len(page.events) :]), session.top + 1]
        assert reached <= page.cursor.offset < unread[0], "the cursor skips what was not read"
        assert page.stream.running == (not session.streams[reader.stream].closed)

    def check_loss(self, session: ModelSession, reader: ModelReader, lost: PositionLost) -> None:
        """Something is lost indeed, and there is a place to go on from."""
        stream = session.streams[reader.stream]
        assert session.alive
        if not lost.resume_epoch:
            assert not session.honours(reader.cursor)
            reader.cursor = Position(session.epoch, stream.resume)
            return
        assert lost.resume_epoch == session.epoch
        assert stream.resume <= lost.resume_offset <= session.top
        if lost.reason == "epoch":
            assert not session.honours(reader.cursor)
        else:
            assert session.honours(reader.cursor)
            assert self.was_full(session), "nothing is dropped before the log is full"
            if not session.lives:
                dropped = range(reader.cursor.offset + 1, lost.resume_offset + 1)
                assert any(event.offset in dropped for event in session.of(reader.stream))
            stream.resume = lost.resume_offset
        reader.cursor = Position(session.epoch, lost.resume_offset)

    def check_forgotten(self, session: ModelSession, stream: StreamId) -> None:
        assert session.alive
        assert session.streams[stream].was_closed, "a running stream is known"
        assert self.was_full(session), "nothing is forgotten before the log is full"

    def check_unanswered(self, session: ModelSession, unanswered: Sequence[Event]) -> None:
        waiting = sorted(offset for offset, answer in session.waiting.values() if answer is None)
        wanted = [offset for offset in waiting if session.events[offset - 1].stream == STANDALONE]
        offsets = [event.position.offset for event in unanswered]
        assert offsets == [offset for offset in wanted if offset in offsets]
        assert offsets == wanted or self.was_full(session)
        for event in unanswered:
            self.check_event(session, event, event.position.offset)

    def check_bound(self, session: ModelSession) -> None:
        """What is left is what was said last, and not more than is allowed."""
        kept = sum(self.kept(session, stream) for stream in session.streams)
        assert kept <= self.bridge.store.max_events
        assert kept > 0 or not session.events or session.lives

    def kept(self, session: ModelSession, stream: StreamId) -> int:
        reader = ModelReader(stream, Position(session.epoch, 0))
        read = self.replica(1).log.read
        for _ in range(2):
            try:
                page = self.bridge.call(read, session.id, stream, after=reader.cursor, limit=10**6)
            except PositionLost as lost:
                self.check_loss(session, reader, lost)
            except StreamUnknown:
                self.check_forgotten(session, stream)
                return 0
            else:
                self.check_page(session, reader, page, 10**6)
                return len(page.events)
        raise AssertionError("the place to go on from is lost as well")

    def was_full(self, session: ModelSession) -> bool:
        return session.appended > self.bridge.store.max_events

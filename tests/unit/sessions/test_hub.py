"""The hub: who reads what in this process, and what reaches whom."""

from typing import Final

import anyio
from typing_extensions import override

from holdfast.observe import Observer
from holdfast.sessions.hub import Hub
from holdfast.sessions.types import STANDALONE, Event, Position, ReplicaId, SessionId, StreamId

ONE: Final = SessionId("one")
TWO: Final = SessionId("two")
STREAM: Final = StreamId("stream")


def event(offset: int = 1, stream: StreamId = STREAM) -> Event:
    return Event(stream, Position("e", offset), offset - 1, b"x")


def test_an_event_reaches_the_readers_of_its_stream_alone() -> None:
    hub = Hub()
    mine, also = hub.open(ONE, STREAM, "a"), hub.open(ONE, STREAM, "b")
    others = [hub.open(ONE, STANDALONE, "c"), hub.open(TWO, STREAM, "d")]
    hub.hand(ONE, event())
    assert [list(reader.handed) for reader in (mine, also)] == [[event()], [event()]]
    assert [list(reader.handed) for reader in others] == [[], []]


def test_a_slow_reader_keeps_a_bounded_number_of_events() -> None:
    hub = Hub()
    reader = hub.open(ONE, STREAM, "a")
    for offset in range(1, 10_001):
        hub.hand(ONE, event(offset))
    assert len(reader.handed) < 1000
    assert reader.handed[-1] == event(10_000)


def test_closing_chooses_by_session_stream_and_token() -> None:
    hub = Hub()
    readers = {
        name: hub.open(session, stream, name)
        for name, session, stream in (
            ("a", ONE, STANDALONE),
            ("b", ONE, STANDALONE),
            ("c", ONE, STREAM),
            ("d", TWO, STANDALONE),
        )
    }

    def closed() -> set[str]:
        return {name for name, reader in readers.items() if reader.closed}

    hub.close(ONE, stream=STANDALONE, token="nobody")
    assert closed() == set()
    hub.close(ONE, stream=STANDALONE, token="a", retry_milliseconds=5)
    assert closed() == {"a"}
    assert readers["a"].retry_milliseconds == 5
    hub.close(ONE, stream=STREAM)
    assert closed() == {"a", "c"}
    hub.close(stream=STANDALONE)
    assert closed() == {"a", "b", "c", "d"}


def test_the_end_of_a_session_leaves_the_answering_to_its_own_handlers() -> None:
    hub = Hub()
    own, other = hub.open(ONE, STREAM, "a", writes=True), hub.open(ONE, STREAM, "b")
    elsewhere = hub.open(TWO, STREAM, "c")
    hub.end(ONE)
    assert (own.closed, other.closed, elsewhere.closed) == (False, True, False)


def test_only_readers_that_are_behind_are_woken() -> None:
    hub = Hub()
    behind, there = hub.open(ONE, STREAM, "a"), hub.open(ONE, STANDALONE, "b")
    behind.cursor, there.cursor = Position("e", 1), Position("e", 2)
    hub.wake_behind(ONE, Position("e", 2))
    assert (behind.hinted, there.hinted) == (True, False)
    hub.wake_behind(ONE, Position("f", 2))
    assert there.hinted


def test_readers_are_known_by_the_replica_that_they_wait_for() -> None:
    hub = Hub()
    waits, another = hub.open(ONE, STREAM, "a"), hub.open(TWO, STREAM, "b")
    waits.writer, another.writer = ReplicaId("x"), ReplicaId("y")
    assert hub.writers() == {"x", "y"}
    hub.wake_readers_of(ReplicaId("x"))
    assert (waits.hinted, another.hinted) == (True, False)


def test_nothing_is_kept_of_readers_that_left() -> None:
    hub = Hub()
    one, two = hub.open(ONE, STREAM, "a"), hub.open(ONE, STREAM, "b")
    hub.release(one)
    assert hub.sessions() == [ONE]
    hub.release(two)
    hub.release(two)
    assert hub.sessions() == []
    assert not hub.hand_unlogged(ONE, STREAM, b"x")
    hub.wake(ONE)
    hub.close(ONE)


async def test_a_signal_that_comes_before_the_wait_is_not_lost() -> None:
    hub = Hub()
    reader = hub.open(ONE, STREAM, "a")
    hub.wake()
    with anyio.fail_after(5):
        await reader.wait()
    with anyio.move_on_after(0.01) as silence:
        await reader.wait()
    assert silence.cancelled_caught


class _Missed(Observer):
    """Remembers whose hints got lost."""

    def __init__(self) -> None:
        self.sessions: list[str] = []

    @override
    def hint_missed(self, session: str) -> None:
        self.sessions.append(session)


def test_events_that_no_hint_told_of_are_seen() -> None:
    seen = _Missed()
    hub = Hub(seen)
    behind, abreast = hub.open(ONE, STREAM, "a"), hub.open(TWO, STREAM, "b")
    behind.cursor, abreast.cursor = Position("e", 1), Position("e", 2)
    for session in (ONE, TWO):
        hub.wake_behind(session, Position("e", 2))
    assert seen.sessions == [ONE]

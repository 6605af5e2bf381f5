"""What waits for the store: in order, within bounds, and nothing given up in silence."""

import json
from typing import Any

import pytest

from holdfast.sessions.spool import Spool, Spooled, Spools
from holdfast.sessions.types import STANDALONE, AppendKey, ReplicaId, SessionId, StreamId

SESSION = SessionId("s")


def progress(token: object, number: int) -> bytes:
    params = {"progressToken": token, "progress": number}
    return json.dumps({"jsonrpc": "2.0", "method": "notifications/progress", "params": params}).encode()


class Waiting:
    """A spool that is filled."""

    def __init__(self, stream: str = "stream") -> None:
        self.spools = Spools()
        self.spool: Spool = self.spools.begin(SESSION, StreamId(stream))
        self._counter = 0

    def put(self, payload: bytes, **more: Any) -> list[bytes]:
        self._counter += 1
        item = Spooled(payload, AppendKey(ReplicaId("r"), self._counter), **more)
        return [dropped.payload for dropped in self.spools.put(self.spool, item)]

    @property
    def payloads(self) -> list[bytes]:
        return [item.payload for item in self.spool.waiting]

    @property
    def lost(self) -> list[str]:
        return [each["method"] for each in map(json.loads, self.payloads) if isinstance(each, dict)]


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("holdfast.sessions.spool.MOST_EVENTS", 3)


def test_they_are_counted_and_forgotten() -> None:
    waiting = Waiting()
    waiting.put(b"1")
    waiting.put(b"22")
    spools = waiting.spools
    assert (spools.events, spools.bytes, spools.sessions, len(spools)) == (2, 3, 1, 1)
    spools.done(waiting.spool, waiting.spool.waiting[0])
    assert (spools.events, spools.bytes) == (1, 2)
    spools.end(waiting.spool)
    assert (spools.events, spools.bytes, spools.sessions, len(spools)) == (0, 0, 0, 0)


@pytest.mark.usefixtures("few")
def test_superseded_progress_gives_way_without_a_word() -> None:
    waiting = Waiting()
    waiting.put(b"0")
    for number in range(4):
        waiting.put(progress("t", number))
    waiting.put(progress(1, 0))
    assert waiting.payloads == [b"0", progress("t", 3), progress(1, 0)]
    assert waiting.spools.lost == 0


@pytest.mark.usefixtures("few")
def test_in_the_place_of_what_else_gives_way_there_is_a_notice() -> None:
    waiting = Waiting()
    waiting.put(b"0", final=False, expects="question")
    for number in range(1, 8):
        waiting.put(b"%d" % number)
    assert waiting.payloads[0] == b"0"
    assert waiting.lost == ["notifications/message"]
    assert waiting.payloads[2:] == [b"7"]
    assert waiting.spools.lost == 6
    waiting.put(b"8", final=True)
    assert waiting.payloads[-1] == b"8"


@pytest.mark.usefixtures("few")
def test_on_the_standalone_stream_the_notice_makes_the_client_ask_again() -> None:
    waiting = Waiting(STANDALONE)
    for number in range(5):
        waiting.put(b"%d" % number)
    assert waiting.lost[0] == "notifications/message"
    assert "notifications/tools/list_changed" in waiting.lost


@pytest.mark.usefixtures("few")
def test_what_a_client_has_seen_gives_way_before_what_it_has_not() -> None:
    waiting = Waiting()
    waiting.put(b"0")
    waiting.put(b"1", shown=True)
    waiting.put(b"2")
    assert waiting.put(b"3")[0] == b"1"


@pytest.mark.usefixtures("few")
def test_answers_and_questions_never_give_way() -> None:
    waiting = Waiting()
    for number in range(6):
        assert waiting.put(b"%d" % number, final=True) == []
    assert len(waiting.payloads) == 6

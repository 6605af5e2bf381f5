"""Event ids: what we wrote can be read, and nothing else can."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.sessions.event_id import decode_event_id, encode_event_id
from holdfast.sessions.types import GENESIS, STANDALONE, Position, StreamId

NAMES = st.text(string.ascii_letters + string.digits + "-_", min_size=1, max_size=32)
OFFSETS = st.integers(0, 10**15 - 1)


PLACES = st.one_of(st.just(GENESIS), st.builds(Position, NAMES, OFFSETS))


@given(NAMES, NAMES, OFFSETS, PLACES)
def test_what_was_encoded_is_decoded(stream: str, epoch: str, offset: int, broadcast: Position) -> None:
    place = (StreamId(stream), Position(epoch, offset), broadcast)
    text = encode_event_id(*place)
    assert decode_event_id(text) == place
    assert text.isascii()
    assert text.isprintable()
    assert " " not in text
    assert len(text) <= 128


@given(st.text())
def test_other_text_is_refused_or_is_one_of_ours(text: str) -> None:
    """No text has two meanings: what is accepted is what we would have written."""
    try:
        place = decode_event_id(text)
    except ValueError:
        return
    assert encode_event_id(*place) == text


def test_an_id_without_a_broadcast_is_what_the_release_before_reads() -> None:
    assert encode_event_id(STANDALONE, Position("e", 5)) == "1.-.e.5"
    assert decode_event_id("1.-.e.5") == (STANDALONE, Position("e", 5), GENESIS)
    assert encode_event_id(STANDALONE, Position("e", 5), Position("b", 7)) == "2.-.e.5.b.7"


@given(NAMES, NAMES, OFFSETS, PLACES, st.data())
def test_one_changed_character_changes_the_meaning_or_is_refused(
    stream: str, epoch: str, offset: int, broadcast: Position, data: st.DataObject
) -> None:
    text = encode_event_id(StreamId(stream), Position(epoch, offset), broadcast)
    index = data.draw(st.integers(0, len(text) - 1))
    other = data.draw(st.characters().filter(lambda character: character != text[index]))
    changed = text[:index] + other + text[index + 1 :]
    try:
        place = decode_event_id(changed)
    except ValueError:
        return
    assert place != (stream, Position(epoch, offset), broadcast)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "1",
        "1.-.a",
        "1.-.a.",
        "1.-.a.-1",
        "1.-.a.+1",
        "1.-.a.01",
        "1.-.a.1 ",
        " 1.-.a.1",
        "1.-.a.1\n",
        "1.-.a.1e3",
        "1.-.a.1.1",
        "1..a.1",
        "1.-..1",
        "2.-.a.1",
        "1.-.a.9999999999999999",
        "1.-.é.1",
        "1.-.a.\u0661",
        "1.-.{a}.1",
        "1.-.*.1",
        "1.-.a\x00.1",
        f"1.{'x' * 33}.a.1",
        "1." * 2**19,
    ],
    ids=lambda text: ascii(text[:20]),
)
def test_what_is_not_ours_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ValueError, match="not an event id of this server") as refused:
        decode_event_id(text)
    assert not text or text not in str(refused.value)


def test_the_standalone_stream_has_an_id() -> None:
    assert encode_event_id(STANDALONE, Position("e", 0)) == "1.-.e.0"

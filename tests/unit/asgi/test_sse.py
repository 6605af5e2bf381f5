"""Server-sent events: what a client parses is what was framed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.asgi import sse

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


def parse(stream: bytes) -> list[dict[str, str]]:
    """The algorithm of the HTML standard: any of CR LF, LF and CR ends a line."""
    events: list[dict[str, str]] = []
    fields: dict[str, str] = {}
    for line in stream.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        if not line:
            if fields:
                events.append(fields)
            fields = {}
        elif not line.startswith(":"):
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            fields[name] = f"{fields[name]}\n{value}" if name == "data" and "data" in fields else value
    assert not fields, "the last event has no end"
    return events


@given(JSON, st.sampled_from([None, 1, 4]), st.sampled_from([None, "1.-.e.1"]))
def test_a_message_arrives_as_it_was(value: object, indent: int | None, event_id: str | None) -> None:
    payload = json.dumps(value, ensure_ascii=False, indent=indent).encode("utf-8", "surrogatepass")
    try:
        payload.decode()
    except UnicodeDecodeError:
        return
    (event,) = parse(sse.frame(payload, event_id))
    assert json.loads(event["data"]) == value
    assert event.get("id") == event_id
    assert event["event"] == "message"


@pytest.mark.parametrize("blank", [b"\n", b"\r", b"\r\n", b"\n\n", b"\r\r", b"\n\r\n"])
def test_line_ends_between_tokens_break_no_event(blank: bytes) -> None:
    payload = b'{"a":1,%b"b":"event: x"%b}' % (blank, blank)
    (event,) = parse(sse.frame(payload, "i"))
    assert json.loads(event["data"]) == {"a": 1, "b": "event: x"}


def test_a_plain_message_is_framed_in_one_line() -> None:
    assert sse.frame(b"{}", "i") == b"id: i\nevent: message\ndata: {}\n\n"
    assert sse.frame(b"{}") == b"event: message\ndata: {}\n\n"


def test_a_priming_event_has_an_id_a_retry_and_no_data() -> None:
    assert parse(sse.prime("i", 500)) == [{"id": "i", "retry": "500", "data": ""}]


def test_a_retry_hint_and_a_comment_are_no_messages() -> None:
    assert parse(sse.retry(7)) == [{"retry": "7"}]
    assert parse(sse.KEEPALIVE) == []


@pytest.mark.parametrize("framed", [b"event: joined\ndata: bob\n\n", b"data: x\ndata: y\n\n"])
def test_an_event_that_is_framed_already_only_gets_an_id(framed: bytes) -> None:
    assert sse.frame(framed) == framed
    assert sse.frame(framed, "i") == b"id: i\n" + framed

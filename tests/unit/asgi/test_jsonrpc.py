"""One JSON-RPC message: what is one, what is none, and which error says so."""

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from holdfast.asgi.jsonrpc import (
    INVALID_REQUEST,
    PARSE_ERROR,
    Answer,
    InvalidMessageError,
    Message,
    Notification,
    Request,
    decode,
    encode_error,
    encode_notification,
    encode_request,
)


def text(**fields: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **fields}).encode()


MESSAGES: list[tuple[bytes, Message]] = [
    (text(id=1, method="m"), Request(1, "m", None)),
    (text(id="1", method="m", params={}), Request("1", "m", {})),
    (text(id=0, method="", params={"a": [1]}), Request(0, "", {"a": [1]})),
    (text(id=-5, method="m", params=None), Request(-5, "m", None)),
    (text(id="", method="m"), Request("", "m", None)),
    (text(id=2**70, method="m"), Request(2**70, "m", None)),
    (text(id=1, method="m", result={}), Request(1, "m", None)),
    (text(method="m"), Notification("m", None)),
    (text(method="m", params={"a": 1}), Notification("m", {"a": 1})),
    (text(id=1, result={}), Answer(1)),
    (text(id="x", result=None), Answer("x")),
    (text(id="x", error={"code": 1, "message": "m"}), Answer("x")),
    (text(id=None, error={"code": 1, "message": "m"}), Answer(None)),
    (text(error={"code": 1, "message": "m"}), Answer(None)),
    (b' \r\n\t{"jsonrpc" : "2.0", "id" : 1, "method" : "m"}\n', Request(1, "m", None)),
    ('{"jsonrpc":"2.0","id":"é漢🦊","method":"m"}'.encode(), Request("é漢🦊", "m", None)),
]


@pytest.mark.parametrize(("body", "message"), MESSAGES, ids=lambda value: ascii(value)[:60])
def test_what_is_a_message_is_decoded_type_exactly(body: bytes, message: Message) -> None:
    decoded = decode(body)
    assert decoded == message
    assert type(getattr(decoded, "id", None)) is type(getattr(message, "id", None))


WRONG_FIELDS: list[dict[str, Any]] = [
    {},
    {"id": 1},
    {"id": 1, "result": {}, "error": {}},
    {"id": None, "result": {}},
    {"result": {}},
    {"id": None, "method": "m"},
    {"id": 1.0, "method": "m"},
    {"id": 1.5, "method": "m"},
    {"id": True, "method": "m"},
    {"id": [1], "method": "m"},
    {"id": {}, "method": "m"},
    {"id": True, "result": {}},
    {"id": 1, "method": None},
    {"id": 1, "method": 1},
    {"id": 1, "method": ["m"]},
    {"id": 1, "method": "m", "params": []},
    {"id": 1, "method": "m", "params": "x"},
    {"id": 1, "method": "m", "params": 0},
    {"method": 1},
]

NO_MESSAGES: list[tuple[bytes, int]] = [
    *(
        (body, PARSE_ERROR)
        for body in (b"", b" ", b"{", b"{]", b"nul", b"'x'", b"\xff", b"{}{}", b'"\\ud800"')
    ),
    (b"[" * 100_000, PARSE_ERROR),
    (b'{"a":' * 100_000, PARSE_ERROR),
    *((body, INVALID_REQUEST) for body in (b"[]", b"[{}]", b"{}", b"1", b'"x"', b"true", b"null", b"1.5")),
    (json.dumps({"id": 1, "method": "m"}).encode(), INVALID_REQUEST),
    (json.dumps({"jsonrpc": 2.0, "id": 1, "method": "m"}).encode(), INVALID_REQUEST),
    (json.dumps({"jsonrpc": "1.0", "id": 1, "method": "m"}).encode(), INVALID_REQUEST),
    *((text(**fields), INVALID_REQUEST) for fields in WRONG_FIELDS),
]


@pytest.mark.parametrize(("body", "code"), NO_MESSAGES, ids=lambda value: ascii(value)[:60])
def test_what_is_no_message_is_refused_with_the_code_that_says_why(body: bytes, code: int) -> None:
    with pytest.raises(InvalidMessageError) as refused:
        decode(body)
    assert refused.value.code == code
    assert len(str(refused.value)) < 500


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_are_refused(body: bytes) -> None:
    with contextlib.suppress(InvalidMessageError):
        decode(body)


def test_what_we_encode_we_decode() -> None:
    assert decode(encode_request("a.b", "m", {"x": 1})) == Request("a.b", "m", {"x": 1})
    assert decode(encode_request(1, "m", None)) == Request(1, "m", None)
    assert decode(encode_notification("m")) == Notification("m", None)
    assert decode(encode_notification("m", {})) == Notification("m", {})
    assert decode(encode_error("x", -1, "no")) == Answer("x")
    assert decode(encode_error(None, -1, "no")) == Answer(None)


def test_data_of_an_error_is_left_out_when_there_is_none() -> None:
    assert json.loads(encode_error(1, -1, "no")) == {
        "jsonrpc": "2.0",
        "id": 1,
        "error": {"code": -1, "message": "no"},
    }
    assert json.loads(encode_error(1, -1, "no", {"a": 1}))["error"]["data"] == {"a": 1}

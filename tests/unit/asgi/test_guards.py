"""What a request must satisfy before anything is done for it."""

from collections.abc import MutableMapping
from typing import Any

import pytest

from holdfast.asgi.guards import Guards, Http, Refusal, accepts, is_json, read_body, read_headers
from holdfast.asgi.options import EdgeOptions
from holdfast.errors import ConfigurationError

LOCAL = Guards(
    allowed_hosts=("127.0.0.1:*", "localhost:*", "example.org"),
    allowed_origins=("http://localhost:*", "https://example.org"),
)


@pytest.mark.parametrize(
    ("accept", "expected"),
    [
        ("application/json, text/event-stream", (True, True)),
        ("text/event-stream;q=0.9,application/json;charset=utf-8", (True, True)),
        ("APPLICATION/JSON", (True, False)),
        ("text/event-stream", (False, True)),
        ("*/*", (True, True)),
        ("application/*", (True, False)),
        ("text/*", (False, True)),
        ("text/html", (False, False)),
        ("application/jsonl", (False, False)),
        ("", (False, False)),
        (",;,", (False, False)),
        ("é", (False, False)),
    ],
)
def test_what_a_client_accepts(accept: str, expected: tuple[bool, bool]) -> None:
    assert accepts({b"accept": accept.encode()}) == expected
    assert accepts({}) == (False, False)


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/json", True),
        ("application/json;charset=utf-8", True),
        (" Application/JSON ; x=y", True),
        ("application/json-rpc", False),
        ("text/json", False),
        ("application/json,text/plain", False),
        ("", False),
    ],
)
def test_what_is_declared_to_be_json(content_type: str, expected: bool) -> None:
    assert is_json({b"content-type": content_type.encode()}) is expected
    assert not is_json({})


def test_headers_sent_twice_are_joined() -> None:
    assert read_headers({"headers": [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]})[1] == {
        b"a": b"1,3",
        b"b": b"2",
    }


@pytest.mark.parametrize("host", ["127.0.0.1:1", "localhost:65535", "example.org"])
def test_allowed_hosts_are_served(host: str) -> None:
    LOCAL.check({b"host": host.encode()})


@pytest.mark.parametrize(
    "host", ["", "evil.org", "127.0.0.1", "localhost.evil.org:80", "example.org:80", "xlocalhost:1", "é"]
)
def test_foreign_hosts_get_421(host: str) -> None:
    with pytest.raises(Refusal) as refused:
        LOCAL.check({b"host": host.encode()})
    assert refused.value.status == 421


def test_a_missing_host_gets_421() -> None:
    with pytest.raises(Refusal):
        LOCAL.check({})


@pytest.mark.parametrize("origin", ["http://localhost:3000", "https://example.org"])
def test_allowed_origins_are_served(origin: str) -> None:
    LOCAL.check({b"host": b"localhost:1", b"origin": origin.encode()})


@pytest.mark.parametrize(
    "origin",
    ["null", "http://evil.org", "https://localhost:3000", "http://localhost", "https://example.org.evil"],
)
def test_foreign_origins_get_403(origin: str) -> None:
    with pytest.raises(Refusal) as refused:
        LOCAL.check({b"host": b"localhost:1", b"origin": origin.encode()})
    assert refused.value.status == 403


def test_without_protection_everything_is_served() -> None:
    Guards().check({b"host": b"evil.org", b"origin": b"null"})


def http_of(*messages: MutableMapping[str, Any], declared: bytes | None = None) -> tuple[Http, list[int]]:
    """A request whose body comes in pieces, and how many of them were taken."""
    taken: list[int] = []

    async def receive() -> MutableMapping[str, Any]:
        taken.append(1)
        return messages[len(taken) - 1]

    async def send(_message: MutableMapping[str, Any]) -> None:
        raise AssertionError("nothing is to be sent")

    headers = {} if declared is None else {b"content-length": declared}
    return Http({}, headers, receive, send), taken


def piece(body: bytes, *, more: bool = False) -> dict[str, Any]:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_is_put_together() -> None:
    assert await read_body(http_of(piece(b"ab"))[0], 10) == b"ab"
    assert (
        await read_body(http_of(piece(b"a", more=True), piece(b"", more=True), piece(b"b"))[0], 10) == b"ab"
    )
    assert await read_body(http_of({"type": "http.request"})[0], 10) == b""


async def test_a_client_that_goes_away_has_no_body() -> None:
    http, _ = http_of(piece(b"a", more=True), {"type": "http.disconnect"})
    assert await read_body(http, 10) is None


async def test_a_declared_length_over_the_limit_is_refused_unread() -> None:
    http, taken = http_of(piece(b""), declared=b"11")
    with pytest.raises(Refusal) as refused:
        await read_body(http, 10)
    assert (refused.value.status, taken) == (413, [])


async def test_a_body_that_grows_over_the_limit_is_refused_at_once() -> None:
    http, taken = http_of(piece(b"x" * 6, more=True), piece(b"x" * 6, more=True), piece(b"never"))
    with pytest.raises(Refusal) as refused:
        await read_body(http, 10)
    assert (refused.value.status, len(taken)) == (413, 2)


async def test_a_body_at_the_limit_is_read() -> None:
    assert await read_body(http_of(piece(b"x" * 10), declared=b"10")[0], 10) == b"x" * 10


@pytest.mark.parametrize("declared", [b"", b"x", b"-1", b"1e9", "\u0661\u0662".encode(), b"9" * 5000])
async def test_a_nonsensical_length_is_not_believed(declared: bytes) -> None:
    assert await read_body(http_of(piece(b"ab"), declared=declared)[0], 10) == b"ab"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(
            (name, bad)
            for name in ("ttl_seconds", "stream_after_seconds", "keepalive_seconds")
            for bad in (0, -1)
        ),
        ("ttl_seconds", float("nan")),
        ("ttl_seconds", float("inf")),
        ("max_sessions", 0),
        ("max_sessions", -1),
        ("resumable", "sometimes"),
        ("resumable", True),
        ("retry_milliseconds", -1),
    ],
)
def test_a_wrong_option_is_named_with_what_was_given(option: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as refused:
        EdgeOptions(**{option: value})
    assert str(refused.value).startswith(f"{option}: got {value!r}, expected ")

"""URLs: what is wrong is said at once, and passwords are never said."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast.backends.redis import RedisBackend, RedisOptions
from holdfast.backends.redis.url import parse_url
from holdfast.errors import ConfigurationError
from holdfast.sessions.types import ReplicaId


def test_parts_of_a_url() -> None:
    endpoint = parse_url("redis://us%40er:p%2Fw%3A@example.org:7000/3?connect_timeout=1.5")
    assert (endpoint.host, endpoint.port, endpoint.db) == ("example.org", 7000, 3)
    assert (endpoint.username, endpoint.password) == ("us@er", "p/w:")
    assert endpoint.connect_timeout == 1.5
    assert endpoint.tls is None


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("redis://", "localhost", 6379),
        ("valkey://example.org", "example.org", 6379),
        ("redis://[::1]:7000", "::1", 7000),
        ("redis://:secret@127.0.0.1/", "127.0.0.1", 6379),
        ("REDIS://Example.org", "example.org", 6379),
    ],
)
def test_defaults(url: str, host: str, port: int) -> None:
    endpoint = parse_url(url)
    assert (endpoint.host, endpoint.port, endpoint.db, endpoint.username) == (host, port, 0, None)


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
def test_schemes_with_tls(scheme: str) -> None:
    tls = parse_url(f"{scheme}://host").tls
    assert tls is not None
    assert tls.check_hostname
    unchecked = parse_url(f"{scheme}://host?ssl_check_hostname=false").tls
    assert unchecked is not None
    assert not unchecked.check_hostname


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("example.org:6379", "scheme"),
        ("http://host", "http"),
        ("redis-sentinel://host", "redis-sentinel"),
        ("redis://host:99999", "port"),
        ("redis://host:x", "port"),
        ("redis://[::1", "host"),
        ("redis://a:1,b:2", "port"),
        ("redis://a,b", "Sentinel"),
        ("redis://host/x", "'x'"),
        ("redis://host/-1", "-1"),
        ("redis://host/1/2", "1/2"),
        ("redis://host/²", "²"),
        ("redis://host?nonsense=1", "nonsense"),
        ("redis://host?connect_timeout=0", "connect_timeout"),
        ("redis://host?connect_timeout=inf", "connect_timeout"),
        ("redis://host?connect_timeout=x", "connect_timeout"),
        ("redis://host?ssl_ca_certs=/ca.pem", "rediss"),
        ("rediss://host?ssl_ca_certs=/no/such/file", "/no/such/file"),
        ("rediss://host?ssl_keyfile=/key", "ssl_certfile"),
        ("rediss://host?ssl_check_hostname=perhaps", "perhaps"),
    ],
)
def test_what_is_wrong_is_named(url: str, named: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        RedisBackend(url)
    assert named in str(error.value)


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_text("nonsense")
    with pytest.raises(ConfigurationError, match=r"ca\.pem"):
        parse_url(f"rediss://host?ssl_ca_certs={file}")


@pytest.mark.parametrize(
    "url",
    [
        "redis://user:hunter2@host/x",
        "redis://user:hunter2@host:x",
        "redis://user:hunter2@host?nonsense=1",
        "redis://:hunter2@a,b",
        "user:hunter2@host",
        "hunter2@host://",
        "redis://user:hunter2@[host",
    ],
)
def test_no_error_repeats_the_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        parse_url(url)
    chain: BaseException | None = error.value
    while chain is not None:
        assert "hunter2" not in str(chain) or url.startswith("hunter2")
        chain = chain.__cause__


def test_no_repr_shows_the_password() -> None:
    url = "redis://user:hunter2@host:1/2"
    endpoint = parse_url(url)
    assert "hunter2" not in f"{endpoint} {endpoint!r} {RedisBackend(url)!r}"
    assert str(endpoint) == "redis://host:1/2"


@pytest.mark.parametrize("prefix", ["", "a{b", "a}b", "a b", "a|b", "é", "a\n"])
def test_prefixes_that_would_break_keys_are_refused(prefix: str) -> None:
    with pytest.raises(ConfigurationError, match="prefix"):
        RedisBackend("redis://", prefix=prefix)


@pytest.mark.parametrize("replica", ["a.b", "a|b", "a;b", "a b", "{a}", "é"])
def test_replica_ids_that_would_break_values_are_refused(replica: str) -> None:
    with pytest.raises(ConfigurationError, match="replica"):
        RedisBackend("redis://", replica=ReplicaId(replica))


def test_bounds_must_be_above_zero() -> None:
    with pytest.raises(ConfigurationError, match="max_events is 0"):
        RedisOptions(max_events=0)

"""URLs: what is wrong is said at once, and passwords are never said."""

from __future__ import annotations

from pathlib import Path

import pytest

from holdfast import open_store
from holdfast.backends.redis import RedisBackend, RedisOptions
from holdfast.backends.redis.url import parse_url
from holdfast.errors import ConfigurationError
from holdfast.sessions.types import ReplicaId


def test_parts_of_a_url() -> None:
    location = parse_url("redis://us%40er:p%2Fw%3A@example.org:7000/3?connect_timeout=1.5&timeout=9")
    server = location.server
    assert (server.host, server.port, server.db) == ("example.org", 7000, 3)
    assert (server.username, server.password) == ("us@er", "p/w:")
    assert server.tls is None
    assert location.seeds == (server,)
    options = location.adjust(RedisOptions(connect_timeout=7, retry_seconds=7))
    assert (options.connect_timeout, options.retry_seconds) == (1.5, 9)


def test_an_at_in_a_password_of_one_server_needs_no_quoting() -> None:
    """`redis-cli` and others take it, too."""
    server = parse_url("redis://:sec@ret@host").server
    assert (server.host, server.password) == ("host", "sec@ret")


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
    server = parse_url(url).server
    assert (server.host, server.port, server.db, server.username) == (host, port, 0, None)


@pytest.mark.parametrize(
    "scheme",
    [
        "redis-sentinel",
        "redis+sentinel",
        "rediss-sentinel",
        "rediss+sentinel",
        "valkey-sentinel",
        "valkey+sentinel",
        "valkeys-sentinel",
        "valkeys+sentinel",
    ],
)
def test_sentinels(scheme: str) -> None:
    location = parse_url(
        f"{scheme}://user:secret@s1:1,s2,[::1]:3/my.master_1/2?sentinel_username=watch&sentinel_password=dog"
    )
    assert location.mode == "sentinel"
    assert [seed.address for seed in location.seeds] == [("s1", 1), ("s2", 26379), ("::1", 3)]
    assert {(seed.username, seed.password) for seed in location.seeds} == {("watch", "dog")}
    assert (location.service, location.server.db) == ("my.master_1", 2)
    assert (location.server.username, location.server.password) == ("user", "secret")
    secure = scheme.partition("-")[0].partition("+")[0].endswith(("ss", "ys"))
    assert [seed.tls is not None for seed in (*location.seeds, location.server)] == [secure] * 4
    assert parse_url(f"{scheme}://s1/main").server.db == 0


def test_sentinels_have_tls_like_the_servers_unless_it_is_said_that_they_have_not() -> None:
    location = parse_url("rediss-sentinel://s1/main?sentinel_tls=false")
    assert location.seeds[0].tls is None
    assert location.server.tls is not None


def test_sentinels_do_not_get_the_password_of_the_servers() -> None:
    assert parse_url("redis-sentinel://:secret@s1/main").seeds[0].password is None


@pytest.mark.parametrize(
    "scheme",
    [
        "redis-cluster",
        "redis+cluster",
        "rediss-cluster",
        "rediss+cluster",
        "valkey-cluster",
        "valkey+cluster",
        "valkeys-cluster",
        "valkeys+cluster",
    ],
)
def test_clusters(scheme: str) -> None:
    location = parse_url(f"{scheme}://user:secret@n1:7000,n2,[::1]:7002")
    assert location.mode == "cluster"
    assert [seed.address for seed in location.seeds] == [("n1", 7000), ("n2", 6379), ("::1", 7002)]
    assert {seed.password for seed in location.seeds} == {"secret"}
    assert {seed.tls is not None for seed in location.seeds} == {
        scheme[:7] in {"rediss-", "rediss+", "valkeys"}
    }
    assert parse_url(f"{scheme}://n1/0").server.db == 0


@pytest.mark.parametrize("scheme", ["unix", "redis+unix", "valkey+unix", "redis-unix"])
def test_unix_sockets(scheme: str) -> None:
    server = parse_url(f"{scheme}://:secret@/run/my%20redis.sock?db=2&connect_timeout=1").server
    assert (server.path, server.db, server.password) == ("/run/my redis.sock", 2, "secret")
    assert str(server) == "unix:///run/my redis.sock"


@pytest.mark.parametrize("scheme", ["rediss", "valkeys"])
def test_schemes_with_tls(scheme: str) -> None:
    tls = parse_url(f"{scheme}://host").server.tls
    assert tls is not None
    assert tls.check_hostname
    unchecked = parse_url(f"{scheme}://host?ssl_check_hostname=false").server.tls
    assert unchecked is not None
    assert not unchecked.check_hostname
    assert parse_url(f"{scheme}://host?ssl_cert_reqs=required").server.tls is not None


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("example.org:6379", "scheme"),
        ("http://host", "http"),
        ("redis-ring://host", "redis-ring"),
        ("rediss+unix:///run/redis.sock", "unix://"),
        ("redis://host:99999", "port"),
        ("redis://host:x", "port"),
        ("redis://[::1", "host"),
        ("redis://a:1,b:2", "redis-sentinel"),
        ("redis://a,b", "redis-cluster"),
        ("redis://host/x", "'x'"),
        ("redis://host/-1", "-1"),
        ("redis://host/1/2", "1/2"),
        ("redis://host/²", "²"),
        ("redis://host#x", "%23"),
        ("redis://host?nonsense=1", "nonsense"),
        ("redis://host?db=1", "db"),
        ("redis://host?sentinel_password=x", "sentinel_password"),
        ("redis://host?timeout=1&timeout=2", "timeout"),
        ("redis://host?connect_timeout=0", "connect_timeout"),
        ("redis://host?connect_timeout=inf", "connect_timeout"),
        ("redis://host?connect_timeout=x", "connect_timeout"),
        ("redis://host?timeout=nan", "timeout"),
        ("redis://host?client_name=a%20b", "client_name"),
        ("redis://host?prefix=a%20b", "prefix"),
        ("redis://host?ssl_ca_certs=/ca.pem", "rediss"),
        ("redis://host?ssl=true", "rediss"),
        ("redis-cluster://host?ssl_ca_certs=/ca.pem", "rediss"),
        ("rediss://host?ssl_cert_reqs=none", "ssl_cert_reqs"),
        ("rediss://host?ssl_ca_certs=/no/such/file", "/no/such/file"),
        ("rediss://host?ssl_keyfile=/key", "ssl_certfile"),
        ("rediss://host?ssl_check_hostname=perhaps", "perhaps"),
        ("redis-sentinel://s1,s2", "service"),
        ("redis-sentinel://s1/0/main", "'main'"),
        ("redis-sentinel://s1/my service", "service"),
        ("redis-sentinel://s1,,s2/main", "host or port"),
        ("redis-sentinel://s1/main?sentinel_tls=true", "sentinel_tls"),
        ("rediss-sentinel://s1/main?sentinel_tls=maybe", "maybe"),
        ("redis-cluster://n1:1,n2:x", "host or port"),
        ("redis-cluster://n1,n2/1", "cluster has no other"),
        ("redis-cluster://u:a@n1:1,u:b@n2:2", "%40"),
        ("unix://run/redis.sock", "socket"),
        ("unix://", "socket"),
        ("unix:///run/redis.sock?db=x", "'x'"),
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
        "redis-cluster://:a@hunter2@host",
        "redis://host/hunter2@host",
        "redis://:a/hunter2@host",
        "redis://:a?hunter2@host",
        "redis://:hunter2#x@host",
        "redis-sentinel://s1/main/x?sentinel_password=hunter2",
        "redis-sentinel://:hunter2@s1",
        "redis-cluster://u:hunter2@n1:1,u:hunter2@n2:2",
        "unix://:hunter2@run/redis.sock",
        "rediss://h?ssl_keyfile_password=hunter2",
        "user:hunter2@host",
        "user:hunter2@host://",
        "redis://user:hunter2@[host",
    ],
)
def test_no_error_repeats_the_password(url: str) -> None:
    with pytest.raises(ConfigurationError) as error:
        parse_url(url)
    chain: BaseException | None = error.value
    while chain is not None:
        assert "hunter2" not in str(chain)
        chain = chain.__cause__


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("redis://user:hunter2@host:1/2", "redis://host:1/2"),
        ("rediss://user:hunter2@[::1]", "rediss://[::1]:6379/0"),
        (
            "redis-sentinel://:hunter2@s1,s2:1/main/3?sentinel_password=hunter2",
            "redis-sentinel://s1:26379,s2:1/main/3",
        ),
        ("valkeys-cluster://:hunter2@n1,n2:7000", "rediss-cluster://n1:6379,n2:7000"),
        ("unix://:hunter2@/run/redis.sock", "unix:///run/redis.sock"),
    ],
)
def test_no_repr_shows_the_password(url: str, said: str) -> None:
    location = parse_url(url)
    assert (
        "hunter2" not in f"{location} {location!r} {location.server} {location.seeds} {RedisBackend(url)!r}"
    )
    assert str(location) == said


@pytest.mark.parametrize(
    "scheme",
    ["redis", "rediss", "valkey", "valkeys", "REDIS", "rediss-sentinel", "valkey+cluster", "redis-x"],
)
def test_every_such_scheme_is_for_this_store(scheme: str) -> None:
    with pytest.raises(ConfigurationError, match="store URL"):
        open_store(f"{scheme}://host:x")
    with pytest.raises(ConfigurationError, match="store URL: the path of the socket"):
        open_store("unix://host")


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

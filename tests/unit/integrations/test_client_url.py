"""What a client of redis-py or valkey-py lends to a session manager: honoured, or refused by name."""

from collections.abc import Callable
from typing import Any

import pytest
from valkey.asyncio import Valkey
from valkey.asyncio.cluster import ValkeyCluster
from valkey.asyncio.sentinel import Sentinel

import holdfast
from holdfast.backends.redis.url import parse_url
from holdfast.errors import ConfigurationError
from holdfast.integrations.plain.client_url import url_of_client

SECRET = "p:@/?#%& é"
UNTYPED_SENTINEL: Any = Sentinel


def test_host_port_database_login_and_name_are_taken_over() -> None:
    client = Valkey(host="h", port=1234, db=3, username="u@", password=SECRET, client_name="mine")
    location = parse_url(url_of_client(client))
    server = location.server
    assert (server.host, server.port, server.db) == ("h", 1234, 3)
    assert (server.username, server.password, location.client_name) == ("u@", SECRET, "mine")
    assert server.tls is None


def test_an_ipv6_address_is_taken_over() -> None:
    server = parse_url(url_of_client(Valkey(host="::1", port=7))).server
    assert (server.host, server.port) == ("::1", 7)


def test_a_client_made_from_a_url_is_taken_over() -> None:
    server = parse_url(url_of_client(Valkey.from_url("valkey://u:p@h:1/2"))).server
    assert (server.host, server.port, server.db, server.username, server.password) == ("h", 1, 2, "u", "p")


def test_a_unix_socket_is_taken_over() -> None:
    server = parse_url(
        url_of_client(Valkey(unix_socket_path="/run/my redis.sock", db=2, password=SECRET))
    ).server
    assert (server.path, server.db, server.password) == ("/run/my redis.sock", 2, SECRET)


@pytest.mark.parametrize("check", [True, False])
def test_whether_the_name_of_the_server_is_checked_is_taken_over(check: bool) -> None:
    server = parse_url(url_of_client(Valkey(host="h", ssl=True, ssl_check_hostname=check))).server
    assert server.tls is not None
    assert server.tls.check_hostname is check


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("ssl_cert_reqs", "none"),
        ("ssl_cert_reqs", "optional"),
        ("ssl_cert_reqs", None),
        ("ssl_ca_data", "a certificate"),
        ("ssl_ciphers", "AES128-SHA"),
    ],
)
def test_a_tls_setting_that_a_url_cannot_say_is_refused_by_name(setting: str, value: Any) -> None:
    client: Any = Valkey(host="h", ssl=True)
    client.connection_pool.connection_kwargs[setting] = value
    with pytest.raises(
        ConfigurationError, match=f"RedisSessionManager: {setting} of the client is .*expected"
    ):
        holdfast.RedisSessionManager(client)


def test_a_source_of_credentials_is_refused_by_name() -> None:
    client: Any = Valkey(host="h")
    client.connection_pool.connection_kwargs["credential_provider"] = object()
    with pytest.raises(
        ConfigurationError, match="credential_provider of the client is given, expected username"
    ):
        holdfast.RedisSessionManager(client)


@pytest.mark.parametrize(
    "make",
    [
        lambda: UNTYPED_SENTINEL([("h", 26379)]).master_for("main", password=SECRET),
        lambda: ValkeyCluster(host="h", password=SECRET),
        object,
        lambda: None,
    ],
    ids=["sentinel", "cluster", "no client", "none"],
)
async def test_what_is_no_client_of_one_server_is_refused_and_the_url_named(make: Callable[[], Any]) -> None:
    with pytest.raises(ConfigurationError, match="for Sentinel and Cluster give the URL") as error:
        holdfast.RedisSessionManager(make())
    assert SECRET not in str(error.value)

"""TLS is on whenever the URL asks for it, on every connection, or there is no connection."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from holdfast.backends.redis import RedisBackend, RedisOptions
from holdfast.errors import StoreRefused, StoreUnavailable
from tests.backends.redis.everything import everything
from tests.certificates import make_certificates
from tests.servers import RunningServer, start_server
from tests.topologies import start_cluster, start_sentinels

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def locked() -> Iterator[RunningServer]:
    """A server with TLS and a password, which also wants to know who its clients are."""
    with start_server(
        "redis",
        tls=True,
        password="secret",
        extra=["--tls-auth-clients", "yes", "--bind", "127.0.0.1", "127.0.0.2"],
    ) as server:
        yield server


@pytest.fixture(scope="module")
def url(locked: RunningServer) -> str:
    assert locked.certificates is not None
    certificate, key = locked.certificates.certificate, locked.certificates.key
    return f"{locked.url}?ssl_ca_certs={locked.ca_file}&ssl_certfile={certificate}&ssl_keyfile={key}"


async def enter(url: str) -> None:
    async with RedisBackend(url, options=RedisOptions(start_wait=0.5, connect_timeout=3)):
        pass


async def test_a_server_that_wants_a_certificate_gets_one(url: str) -> None:
    async with RedisBackend(url) as a, RedisBackend(url.replace("rediss", "valkeys", 1)) as b:
        await everything(a, b)


async def test_without_the_certificate_it_does_not_talk_to_us(locked: RunningServer) -> None:
    with pytest.raises((StoreRefused, StoreUnavailable)):
        await enter(f"{locked.url}?ssl_ca_certs={locked.ca_file}")


async def test_a_certificate_that_nobody_trusts_is_refused_at_once(url: str, tmp_path: Path) -> None:
    other = make_certificates(tmp_path)
    for untrusted in (url.partition("?")[0], f"{url.partition('?')[0]}?ssl_ca_certs={other.ca}"):
        # At once: not after the minute in which it might come to be there.
        with anyio.fail_after(20), pytest.raises(StoreRefused, match="not trusted"):
            async with RedisBackend(untrusted, options=RedisOptions(start_wait=60, connect_timeout=10)):
                pass


async def test_a_certificate_for_another_host_is_refused(url: str) -> None:
    """It is for 127.0.0.1 and localhost."""
    with pytest.raises(StoreRefused, match="not trusted"):
        await enter(url.replace("127.0.0.1", "127.0.0.2"))
    await enter(url.replace("127.0.0.1", "127.0.0.2") + "&ssl_check_hostname=false")


async def test_a_port_without_tls_is_refused(valkey: RunningServer) -> None:
    with pytest.raises((StoreRefused, StoreUnavailable), match="without TLS"):
        await enter(f"rediss://127.0.0.1:{valkey.port}")


async def test_a_port_with_tls_gets_no_password_in_the_clear_and_the_scheme_is_named(
    locked: RunningServer,
) -> None:
    with pytest.raises(StoreUnavailable, match="rediss"):
        await enter(f"redis://127.0.0.1:{locked.port}")


@pytest.mark.parametrize("kind", ["sentinels", "cluster"])
async def test_every_server_of_a_topology_is_reached_with_tls(kind: str, tmp_path: Path) -> None:
    """None of their ports talks without it, also those that the servers name themselves."""
    start = start_sentinels if kind == "sentinels" else start_cluster
    with start("redis", tls=True, password="secret") as setup:
        async with RedisBackend(setup.url) as a, RedisBackend(setup.url) as b:
            await everything(a, b)
        other = make_certificates(tmp_path)
        with pytest.raises(StoreRefused, match="not trusted"):
            await enter(f"{setup.url.partition('?')[0]}?ssl_ca_certs={other.ca}")
        with pytest.raises(StoreUnavailable):
            await enter(setup.url.partition("?")[0].replace("rediss", "redis"))
        setup.check_and_empty()


async def test_sentinels_without_tls_have_to_be_asked_for() -> None:
    with start_sentinels("redis", tls=True, plain_sentinels=True) as setup:
        with pytest.raises((StoreRefused, StoreUnavailable), match="without TLS"):
            await enter(setup.url.replace("&sentinel_tls=false", ""))
        async with RedisBackend(setup.url) as a, RedisBackend(setup.url) as b:
            await everything(a, b)

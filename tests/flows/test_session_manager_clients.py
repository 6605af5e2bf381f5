"""`RedisSessionManager(client)` on real servers: what the client may do, the manager does."""

from pathlib import Path
from typing import Any

import pytest
from valkey.asyncio import Valkey

import holdfast
from tests.flows.test_session_manager import Collected
from tests.flows.wire import until
from tests.servers import Flavour, start_server

pytestmark = pytest.mark.parametrize("anyio_backend", ["asyncio"])  # valkey-py runs on asyncio only


async def meet(client: Any, url: str) -> None:
    """A message from who has the URL reaches who has the client."""
    lent = holdfast.RedisSessionManager(client)
    async with lent, holdfast.RedisSessionManager(url) as other:
        connection = Collected()
        await lent.create("alice", connection)
        assert await other.has("alice")
        await other.send(["alice"], "data: hello\n\n")
        await until(lambda: connection.data == ["hello"])


async def test_a_client_with_a_password_and_a_database(redis_flavour: Flavour) -> None:
    with start_server(redis_flavour, password="p:@/?#") as server:
        url = f"redis://:p%3A%40%2F%3F%23@127.0.0.1:{server.port}/3"
        lent: Any = Valkey(host="127.0.0.1", port=server.port, password="p:@/?#", db=3)
        async with lent as client:
            await meet(client, url)
            assert await client.dbsize() > 0, "they met in another database"
            assert await client.ping(), "the client is its owner's, who closes it"


async def test_a_client_with_tls() -> None:
    with start_server("redis", tls=True, password="secret") as server:
        url = f"{server.url}?ssl_ca_certs={server.ca_file}"
        client = Valkey(
            host="127.0.0.1", port=server.port, password="secret", ssl=True, ssl_ca_certs=str(server.ca_file)
        )
        async with client:
            await meet(client, url)


async def test_a_client_of_a_unix_socket(redis_flavour: Flavour, tmp_path: Path) -> None:
    socket = tmp_path / "s.sock"
    with start_server(redis_flavour, password="secret", extra=["--unixsocket", str(socket)]):
        async with Valkey(unix_socket_path=str(socket), password="secret", db=2) as client:
            await meet(client, f"unix://:secret@{socket}?db=2")

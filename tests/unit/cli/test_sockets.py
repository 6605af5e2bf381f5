"""Binding: what cannot be listened on is said, and nothing listens before it serves."""

from __future__ import annotations

import socket

import pytest

from holdfast.ops.cli.errors import CliError
from holdfast.ops.cli.sockets import bind, url_of


def test_nobody_gets_in_before_it_serves() -> None:
    (bound,) = bind("127.0.0.1", 0)
    with bound, pytest.raises(ConnectionRefusedError):
        socket.create_connection(bound.getsockname(), timeout=5)


def test_all_addresses_of_a_name_share_one_port() -> None:
    bound = bind("localhost", 0)
    assert len({each.getsockname()[1] for each in bound}) == 1
    for each in bound:
        each.close()


def test_the_url_names_the_port_that_was_found() -> None:
    (bound,) = bind("127.0.0.1", 0)
    with bound:
        assert url_of([bound], "::1", "/mcp") == f"http://[::1]:{bound.getsockname()[1]}/mcp"


def test_an_address_of_another_machine_is_said() -> None:
    with pytest.raises(CliError, match=r"--host 192\.0\.2\.1 --port 0: Cannot assign"):
        bind("192.0.2.1", 0)


def test_a_host_that_is_no_address_is_said() -> None:
    with pytest.raises(CliError, match=r"--host: 'not an address'"):
        bind("not an address", 0)

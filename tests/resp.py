"""A small blocking Redis client for tests: it must share no code with the client that it checks."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Sequence
from typing import TypeAlias, cast

import hiredis

from tests.certificates import Certificates

Argument: TypeAlias = str | bytes | int | float
Reply: TypeAlias = "bytes | int | list[Reply] | None"

TIMEOUT_SECONDS = 10.0


def pack(command: Sequence[Argument]) -> bytes:
    """Return the bytes of one command: an array of strings."""
    parts = [part if isinstance(part, bytes) else str(part).encode() for part in command]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%b\r\n" % (len(part), part) for part in parts)


def exchange(
    port: int,
    commands: Sequence[Sequence[Argument]],
    *,
    password: str | None = None,
    tls: Certificates | None = None,
) -> list[Reply | hiredis.ReplyError]:
    """Send commands over one new connection to this machine, and return a reply for each.

    Args:
        port: Where the server listens.
        commands: Sent at once, answered in order.
        password: Sent first, if there is one.
        tls: Whom to trust, and who we are if the server asks; None means no TLS.

    Raises:
        hiredis.ReplyError: the password was refused. Errors of `commands` are among the replies.
    """
    login: list[Sequence[Argument]] = [("AUTH", password)] if password else []
    with _connect(port, tls) as connection:
        connection.sendall(b"".join(map(pack, (*login, *commands))))
        replies = _receive(connection, len(login) + len(commands))
    if login and isinstance(replies[0], hiredis.ReplyError):
        raise replies[0]
    return replies[len(login) :]


def _receive(connection: socket.socket, count: int) -> list[Reply | hiredis.ReplyError]:
    reader = hiredis.Reader()
    replies: list[Reply | hiredis.ReplyError] = []
    while len(replies) < count:
        reply: object = reader.gets()
        if reply is not False:  # which means "not complete yet": RESP2 has no booleans
            replies.append(cast("Reply | hiredis.ReplyError", reply))
            continue
        data = connection.recv(65536)
        if not data:
            raise ConnectionResetError(f"closed after {len(replies)} of {count} replies")
        reader.feed(data)
    return replies


def _connect(port: int, tls: Certificates | None) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=TIMEOUT_SECONDS)
    if tls is None:
        return plain
    context = ssl.create_default_context(cafile=str(tls.ca))
    context.load_cert_chain(tls.certificate, tls.key)
    return context.wrap_socket(plain, server_hostname="127.0.0.1")

"""The sockets that a server listens on, bound before anything is loaded: a taken port is said at once."""

import contextlib
import errno
import socket

from holdfast.ops.cli.errors import FAILED, CliError

__all__ = ["bind", "url_of"]


def bind(host: str, port: int) -> list[socket.socket]:
    """Sockets for every address of `host`, bound and not listening yet: until it serves, nobody gets in.

    Raises:
        CliError: the host is unknown, or the port is taken or not allowed.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise CliError(f"--host: {host!r} is not an address of this machine ({error})") from error
    with contextlib.ExitStack() as cleanup:
        bound: list[socket.socket] = []
        for family, address in dict.fromkeys((entry[0], entry[4]) for entry in found):
            chosen = bound[0].getsockname()[1] if bound else port
            bound.append(_bound(family, (address[0], chosen, *address[2:]), host))
            cleanup.callback(bound[-1].close)
        cleanup.pop_all()
    return bound


def url_of(sockets: list[socket.socket], host: str, path: str) -> str:
    """Where clients connect to."""
    name = f"[{host}]" if ":" in host else host
    return f"http://{name}:{sockets[0].getsockname()[1]}{path}"


def _bound(family: int, address: tuple[object, ...], host: str) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise CliError(
            f"cannot listen on --host {host} --port {address[1]}: {error.strerror}{_advice(error)}",
            status=FAILED,
        ) from error
    return listener


def _advice(error: OSError) -> str:
    return "; --port 0 takes a free port" if error.errno in {errno.EADDRINUSE, errno.EACCES} else ""

"""Datagrams between the processes of one file. Losing one costs time, never truth."""

import errno
import hashlib
import os
import socket
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Final

from holdfast.backends.sqlite.hints import EVERYTHING, datagram
from holdfast.sessions.types import ReplicaId

__all__ = ["Mailbox", "Outbox"]

_LONGEST_ADDRESS: Final = 100
"""What fits into `sockaddr_un` everywhere."""

_LONGEST_DATAGRAM: Final = 32_000
_MOST_UNSENT: Final = 1_000
_GONE: Final = (errno.ECONNREFUSED, errno.ENOENT, errno.ENOTSOCK)


class Mailbox:
    """A socket that this replica receives at.

    Raises:
        OSError: this system, or this folder, has no such sockets.
    """

    def __init__(self, database: Path, replica: ReplicaId) -> None:
        if not hasattr(socket, "AF_UNIX"):
            raise OSError(errno.EAFNOSUPPORT, "no AF_UNIX")
        self.address: Final = os.fspath(_folder(database, replica) / replica)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        try:
            self._socket.bind(self.address)
        except OSError:
            self._socket.close()
            raise

    def receive(self, seconds: float) -> list[bytes]:
        """What came, after waiting for the first of it."""
        received: list[bytes] = []
        self._socket.settimeout(seconds)
        try:
            while len(received) < _MOST_UNSENT:
                received.append(self._socket.recv(2 * _LONGEST_DATAGRAM))
                self._socket.setblocking(False)
        except (TimeoutError, BlockingIOError):
            pass
        return received

    def nudge(self) -> None:
        """Let `receive` return, from another thread."""
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.setblocking(False)
            sender.sendto(b"", self.address)

    def close(self) -> None:
        """Give the address back."""
        self._socket.close()
        with suppress(OSError):
            Path(self.address).unlink()


def _folder(database: Path, replica: str) -> Path:
    """Beside the file; where that makes the address too long, in the folder for temporary files."""
    beside = database.with_name(f"{database.name}-hints")
    if len(os.fsencode(beside)) + 1 + len(replica) <= _LONGEST_ADDRESS:
        beside.mkdir(mode=0o700, exist_ok=True)
        return beside
    digest = hashlib.sha256(os.fsencode(database)).hexdigest()[:16]
    other = Path(tempfile.gettempdir()) / f"holdfast-{os.getuid()}-{digest}"
    other.mkdir(mode=0o700, exist_ok=True)
    if other.stat().st_uid != os.getuid():  # somebody else was there first: he could read along
        raise PermissionError(errno.EPERM, "belongs to another user", os.fspath(other))
    return other


class Outbox:
    """Sends hints to other replicas, and keeps for a while what a full mailbox did not take."""

    def __init__(self) -> None:
        self._socket: socket.socket | None = None
        if hasattr(socket, "AF_UNIX"):
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._socket.setblocking(False)
        self._unsent: dict[str, dict[bytes, None]] = {}
        self.gone: set[str] = set()

    @property
    def unsent(self) -> bool:
        """Whether something should be sent again soon."""
        return bool(self._unsent)

    def send(self, address: str, hints: dict[bytes, None]) -> None:
        """Send hints, or remember them. An address where nobody receives is added to `gone`."""
        waiting = self._unsent.pop(address, None)
        if waiting is not None:
            hints = waiting | hints
        if not self._sent(address, hints):
            self._unsent[address] = hints if len(hints) <= _MOST_UNSENT else {EVERYTHING: None}

    def send_again(self) -> None:
        """Try what a mailbox did not take."""
        for address in list(self._unsent):
            self.send(address, {})

    def close(self) -> None:
        """Nothing more is sent."""
        if self._socket is not None:
            self._socket.close()

    def _sent(self, address: str, hints: dict[bytes, None]) -> bool:
        data = datagram(hints)
        if len(data) > _LONGEST_DATAGRAM:
            data = datagram((EVERYTHING,))
        try:
            if self._socket is not None:
                self._socket.sendto(data, address)
        except OSError as error:
            if error.errno not in _GONE:
                return False
            self.gone.add(address)
        return True

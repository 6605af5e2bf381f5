"""What commands a Redis server is sent, word by word."""

import re
import socket
from collections.abc import Sequence
from typing import Self

_WORD = re.compile(rb'"((?:[^"\\]|\\.)*)"')
_ESCAPE = re.compile(rb"\\(x[0-9a-f]{2}|.)", re.DOTALL)
_PLAIN = {b"n": b"\n", b"r": b"\r", b"t": b"\t", b"a": b"\a", b"b": b"\b"}
PATIENCE_SECONDS = 10.0


class Monitor:
    """Listens to all commands of a server while its context lasts."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_SECONDS)
        self._lines = self._socket.makefile("rb")

    def __enter__(self) -> Self:
        self._socket.sendall(b"MONITOR\r\n")
        self._lines.readline()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._lines.close()
        self._socket.close()

    def next(self, name: bytes) -> Sequence[bytes]:
        """The words of the next command of this name. Blocks: it must have been sent."""
        while line := self._lines.readline():
            words = [_ESCAPE.sub(_unescape, word) for word in _WORD.findall(line.partition(b"] ")[2])]
            if words and words[0].upper() == name:
                return words
        raise ConnectionResetError("the server hung up")


def _unescape(found: re.Match[bytes]) -> bytes:
    text = found[1]
    return bytes.fromhex(text[1:].decode()) if text[:1] == b"x" and len(text) > 1 else _PLAIN.get(text, text)

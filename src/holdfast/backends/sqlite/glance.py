"""Reads in the event loop itself, for what was read a moment ago."""

import sqlite3
from collections import OrderedDict
from collections.abc import Callable
from typing import Final, TypeVar

__all__ = ["Glance"]

T = TypeVar("T")

_REMEMBERED: Final = 16_384


class Glance:
    """A connection of the event loop, for one small read by a key.

    What was read a moment ago is in the system's memory, and readers of a write-ahead log wait for nobody:
    reading it again takes less time than waking a thread. All else is left to the reader's thread, where a
    slow disk holds nobody up: the first read of a key, and whatever fails here.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA query_only = ON")
        self._connection = connection
        self._warm: OrderedDict[str, None] = OrderedDict()

    def read(self, key: str, run: Callable[[sqlite3.Connection], T]) -> T | None:
        """What `run` returns, or None: ask the reader."""
        if key in self._warm:
            self._warm.move_to_end(key)
            try:
                return run(self._connection)
            except sqlite3.Error:
                del self._warm[key]
                return None
        self._warm[key] = None
        if len(self._warm) > _REMEMBERED:
            self._warm.popitem(last=False)
        return None

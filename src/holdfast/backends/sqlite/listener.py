"""The thread that hears of what other processes did."""

import logging
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

from holdfast.backends.sqlite.calls import Loop
from holdfast.backends.sqlite.sockets import Mailbox

__all__ = ["Listener"]

logger = logging.getLogger("holdfast.backends.sqlite")

_SHORTEST_PAUSE: Final = 0.002
_LONGEST_PAUSE: Final = 0.02
_JOIN_SECONDS: Final = 10.0


class Listener:
    """Waits for datagrams, and looks at the file's change counter: rarely, or often if it has no mailbox.

    Args:
        mailbox: None: there are no datagrams.
        connection: for the change counter; nobody else uses it.
        loop: where to tell.
        received: told what came.
        changed: told that somebody changed the file.
        heal_seconds: how often to look in spite of datagrams.
        watch: called as often, in this thread.

    Attributes:
        wakeups: how often the thread woke up, for tests.
    """

    def __init__(
        self,
        mailbox: Mailbox | None,
        connection: sqlite3.Connection,
        loop: Loop,
        *,
        received: Callable[[Sequence[bytes]], None],
        changed: Callable[[], None],
        heal_seconds: float,
        watch: Callable[[], None],
    ) -> None:
        self._mailbox = mailbox
        self._connection = connection
        self._loop = loop
        self._received = received
        self._changed = changed
        self._heal_seconds = heal_seconds
        self._watch = watch
        self._version = -1
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="holdfast-sqlite-listener", daemon=True)
        self.wakeups = 0

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread. Blocks, but not for ever."""
        self._stopping.set()
        if self._mailbox is not None:
            self._mailbox.nudge()
        self._thread.join(_JOIN_SECONDS)

    def _work(self) -> None:
        pause, next_watch = _SHORTEST_PAUSE, 0.0
        while not self._stopping.is_set():
            self.wakeups += 1
            if time.monotonic() >= next_watch:
                next_watch = time.monotonic() + self._heal_seconds
                self._watch()
                if self._mailbox is not None:
                    self._look()
            if self._mailbox is not None:
                self._receive(self._mailbox, next_watch - time.monotonic())
            else:
                pause = _SHORTEST_PAUSE if self._look() else min(pause * 1.2, _LONGEST_PAUSE)
                self._stopping.wait(pause)

    def _receive(self, mailbox: Mailbox, seconds: float) -> None:
        try:
            received = mailbox.receive(max(seconds, 0.001))
        except OSError:
            logger.exception("the mailbox is broken: from now on the file is looked at")
            self._mailbox = None
            return
        if received:
            self._loop.post(self._received, received)

    def _look(self) -> bool:
        """Whether the file has changed since the last look; told if so."""
        try:
            (version,) = self._connection.execute("PRAGMA data_version").fetchone()
        except sqlite3.Error:
            return False  # whoever works with the file reports it
        changed = bool(version != self._version)
        self._version = version
        if changed:
            self._loop.post(self._changed)
        return changed

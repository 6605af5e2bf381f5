"""What the writer does when nothing waits: give space back, copy the write-ahead log into the file."""

import logging
import os
import sqlite3
import time
from typing import Final

from holdfast.backends.sqlite.database import Database, begin

__all__ = ["Keeper"]

logger = logging.getLogger("holdfast.backends.sqlite")

_PAUSE_SECONDS: Final = 0.02
_FREE_PAGES: Final = 256
"""So many are kept for what comes next, and so many are given back in one step."""


class Keeper:
    """Checkpoints and vacuum.

    A checkpoint runs while the writer's connection holds the write lock: SQLite before 3.51.3 can damage a
    file when somebody commits during the second of two checkpoints ("WAL-reset bug"), and so nobody can. For
    the same reason SQLite's automatic checkpoints are off.
    """

    def __init__(self, database: Database, writer: sqlite3.Connection) -> None:
        self._writer = writer
        self._options = database.options
        self._log = f"{database.path}-wal"
        self._connection = database.connect()
        writer.execute(f"PRAGMA journal_size_limit = {database.options.checkpoint_bytes}")
        self._pending = False
        self._next = time.monotonic() + self._options.tidy_seconds

    def committed(self) -> None:
        """Something was written: copy the log into the file if it is long."""
        self._pending = True
        try:
            if os.stat(self._log).st_size > self._options.checkpoint_bytes:  # noqa: PTH116 - per commit
                self.checkpoint()
        except FileNotFoundError:
            pass

    def due(self) -> bool:
        """Whether it is time to tidy up."""
        return time.monotonic() >= self._next

    def tidied(self, *, more: bool) -> float:
        """It was done; returns when it is due again."""
        seconds = _PAUSE_SECONDS if more else self._options.tidy_seconds
        self._next = time.monotonic() + seconds
        return seconds

    def remaining(self) -> float:
        """Seconds until it is due."""
        return max(0.0, self._next - time.monotonic())

    def vacuum(self) -> bool:
        """Give free pages back to the system, some of them; whether there are more."""
        (free,) = self._writer.execute("PRAGMA freelist_count").fetchone()
        (pages,) = self._writer.execute("PRAGMA page_count").fetchone()
        if free <= max(2 * _FREE_PAGES, pages // 4):
            return False
        # `execute` would stop after the first page: the statement has rows without columns.
        self._writer.executescript(f"PRAGMA incremental_vacuum({_FREE_PAGES})")
        return True

    def checkpoint(self) -> None:
        """Copy the log into the file, as far as no reader needs it. If that fails, the log grows."""
        try:
            begin(self._writer, 0.01)
        except sqlite3.OperationalError:
            return
        try:
            busy, pages, copied = self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
            self._pending = bool(busy) or pages != copied
        except sqlite3.Error as error:
            logger.warning("the write-ahead log could not be copied into the file: %s", error)
        finally:
            self._writer.execute("ROLLBACK")

    def rest(self) -> None:
        """Nothing is under way: what was written since the last time becomes safe against a power cut."""
        if self._pending:
            self.checkpoint()

    def close(self) -> None:
        """Release the connection."""
        self._connection.close()

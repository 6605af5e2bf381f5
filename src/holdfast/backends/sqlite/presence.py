"""Whether any other backend has the file open."""

import os
from contextlib import suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["Presence"]


class Presence:
    """A lock on a file beside the database, shared by all who have that open.

    Where there is no such lock, everybody takes himself for the first. That is harmless: the first begins a
    new life of the file, and one more costs nothing but a fence in the sessions that are used in it.

    Attributes:
        alone: nobody else had it open when this was made.
    """

    def __init__(self, database: Path) -> None:
        self.alone = True
        self._descriptor = -1
        if fcntl is None:
            return
        with suppress(OSError):
            self._descriptor = os.open(f"{database}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self.alone = False
                self.share()

    def share(self) -> None:
        """Let others in."""
        if self._descriptor >= 0 and fcntl is not None:
            with suppress(OSError):
                fcntl.flock(self._descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)

    def leave(self) -> None:
        """This one has closed the file."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

"""A damaged file is moved aside, if that was asked for: with it, so are all sessions."""

import logging
import os
import sqlite3
import time
from collections.abc import Generator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from holdfast.backends.sqlite.failures import is_damage
from holdfast.errors import StoreUnavailable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

__all__ = ["move_aside_if_damaged"]

logger = logging.getLogger("holdfast.backends.sqlite")

_SUFFIXES: Final = ("", "-wal", "-shm")
_PAUSE_SECONDS: Final = 0.02


def move_aside_if_damaged(path: Path, wait_seconds: float) -> Path | None:
    """Look through the whole file, if nobody has it open; where it went if it was damaged.

    Raises:
        StoreUnavailable: another process is looking through it, for longer than `wait_seconds`.
    """
    if not path.exists():
        return None
    with _alone(path, wait_seconds) as alone:
        if not alone or not _damaged(path):
            return None
        target = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%dT%H%M%SZ', time.gmtime())}")
        for suffix in _SUFFIXES:
            if os.path.exists(f"{path}{suffix}"):  # noqa: PTH110 - a name, not a path with parts
                os.replace(f"{path}{suffix}", f"{target}{suffix}")  # noqa: PTH105 - see above
    logger.error("%s was damaged: it was moved to %s, and all sessions in it are lost", path, target)
    return target


def _damaged(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(path, timeout=1, isolation_level=None)) as connection:
            return bool(connection.execute("PRAGMA quick_check(1)").fetchall() != [("ok",)])
    except sqlite3.DatabaseError as error:
        return is_damage(error)  # else whoever opens it says what is wrong


@contextmanager
def _alone(path: Path, wait_seconds: float) -> Generator[bool]:
    """Whether nobody has the file open; nobody opens it meanwhile. See `Presence`."""
    if fcntl is None:
        yield True
        return
    descriptor = os.open(f"{path}-lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        yield _locked(descriptor, path, wait_seconds)
    finally:
        os.close(descriptor)


def _locked(descriptor: int, path: Path, wait_seconds: float) -> bool:
    deadline = time.monotonic() + wait_seconds
    while fcntl is not None:
        for kind in (fcntl.LOCK_EX, fcntl.LOCK_SH):  # shared: others serve it already, so it was looked at
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            return kind == fcntl.LOCK_EX
        if time.monotonic() >= deadline:
            raise StoreUnavailable(f"{path}: another process has looked for damage for {wait_seconds:g} s")
        time.sleep(_PAUSE_SECONDS)
    return True

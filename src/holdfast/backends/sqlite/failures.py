"""SQLite's errors as ours: what failed, where, and what to do."""

import sqlite3
from pathlib import Path
from typing import Final

from holdfast.errors import StoreError, StoreRefused, StoreUnavailable

__all__ = ["concerns_all", "is_busy", "is_damage", "store_error"]

_BUSY: Final = (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
_REFUSED: Final = {
    sqlite3.SQLITE_CORRUPT: (
        "the file is damaged. Stop the server, keep a copy, then restore a backup, or move the file away "
        "(with the -wal and -shm files beside it) to begin with an empty one, or have it done at the start: "
        "?on_damage=move_aside. "
        "`sqlite3 FILE .recover` may save some of it"
    ),
    sqlite3.SQLITE_NOTADB: (
        "the file is no SQLite database, or its start is damaged. Choose another path, or restore a backup; "
        "?on_damage=move_aside renames it at the start and begins with an empty one"
    ),
    sqlite3.SQLITE_READONLY: "the file or its folder cannot be written. The server's user needs both",
    sqlite3.SQLITE_PERM: "the file cannot be opened by this user",
    sqlite3.SQLITE_AUTH: "access was denied",
    sqlite3.SQLITE_CANTOPEN: (
        "the file cannot be opened. Its folder must exist and be writable for the server's user, and there "
        "must be file descriptors left"
    ),
    sqlite3.SQLITE_FULL: "the disk (or a quota) is full. What was stored can be read; make room to go on",
    sqlite3.SQLITE_TOOBIG: "one value is too big for SQLite",
    sqlite3.SQLITE_NOMEM: "there is no memory left",
}
_CONCERNS_ALL: Final = frozenset(
    (*_BUSY, *_REFUSED, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_PROTOCOL, sqlite3.SQLITE_INTERRUPT)
) - {sqlite3.SQLITE_TOOBIG}


def _code(error: BaseException) -> int:
    """The primary result code: extended ones carry more in their higher bits."""
    return int(getattr(error, "sqlite_errorcode", 0)) & 0xFF


def is_busy(error: BaseException) -> bool:
    """Whether somebody else holds a lock: trying again may help."""
    return isinstance(error, sqlite3.Error) and _code(error) in _BUSY


def is_damage(error: BaseException) -> bool:
    """Whether the file itself is broken."""
    return isinstance(error, sqlite3.Error) and _code(error) in (
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_NOTADB,
    )


def concerns_all(error: BaseException) -> bool:
    """Whether the next operation would fail in the same way, whatever it is."""
    return isinstance(error, StoreError) or (
        isinstance(error, sqlite3.Error) and _code(error) in _CONCERNS_ALL
    )


def store_error(error: BaseException, path: Path, waited_seconds: float) -> StoreError:
    """What to tell the caller; its cause is `error`."""
    code = _code(error)
    name = getattr(error, "sqlite_errorname", type(error).__name__)
    made: StoreError
    if code in _BUSY:
        made = StoreUnavailable(
            f"{path}: another program has held a lock on the file for {waited_seconds:g} s ({name}). "
            "Look who has it open (fuser, lsof), such as a backup or a database browser"
        )
    elif code in _REFUSED:
        made = StoreRefused(f"{path}: {_REFUSED[code]} ({name}: {error})")
    else:
        made = StoreUnavailable(f"{path}: it is not known whether this was stored ({name}: {error})")
    made.__cause__ = error
    return made

"""Opening the file: create it, check it, carry it to the present version."""

import os
import sqlite3
import threading
import time
from pathlib import Path
from secrets import token_hex
from typing import Final

from holdfast.backends.sqlite import schema
from holdfast.backends.sqlite.failures import is_busy, store_error
from holdfast.backends.sqlite.location import check_filesystem
from holdfast.backends.sqlite.options import SqliteOptions
from holdfast.backends.sqlite.recovery import move_aside_if_damaged
from holdfast.errors import ConfigurationError, StoreRefused

__all__ = ["Database", "begin"]

_OPENING: Final = threading.Lock()
"""POSIX drops all locks of a process on a file when it closes any descriptor of it. `_create` closes one."""

_CHECK_SECONDS: Final = 1.0
_FIRST_PAUSE: Final = 0.0002
_LONGEST_PAUSE: Final = 0.005
_SHORT_WAIT: Final = 0.1
"""Seconds. So long, another process of ours is probably just copying the log into the file."""


def begin(connection: sqlite3.Connection, wait_seconds: float) -> None:
    """Start a transaction that may write, as soon as nobody else is in one.

    SQLite's own way of waiting sleeps for up to 100 ms; other processes of ours are done within one or two.

    Raises:
        sqlite3.OperationalError: somebody held the lock all the time, or it is another failure.
    """
    began, pause = time.monotonic(), _FIRST_PAUSE
    while True:
        try:
            connection.execute("BEGIN IMMEDIATE")
        except sqlite3.OperationalError as error:
            waited = time.monotonic() - began
            if not is_busy(error) or waited >= wait_seconds:
                raise
        else:
            return
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE if waited > _SHORT_WAIT else _LONGEST_PAUSE / 5)


class Database:
    """One file and how to connect to it. Everything here blocks: call it in a thread."""

    def __init__(self, path: Path, options: SqliteOptions, *, make_folder: bool = False) -> None:
        self._make_folder = make_folder
        self.path: Final = path
        self.options: Final = options
        self._identity: tuple[int, int] | None = None
        self._next_check = 0.0

    def prepare(self) -> None:
        """Make the file what this release needs.

        Raises:
            ConfigurationError: it cannot be there.
            StoreRefused: it is not ours, damaged, read-only, or from a later release.
            StoreUnavailable: somebody else holds it.
        """
        if reason := check_filesystem(self.path):
            raise ConfigurationError(f"store: {self.path}: {reason}. Use a local disk, or redis://")
        if self.options.on_damage == "move_aside":
            move_aside_if_damaged(self.path, self.options.busy_seconds)
        deadline = time.monotonic() + self.options.busy_seconds
        while True:
            try:
                self._prepare()
            except sqlite3.Error as error:
                # Where waiting could be a deadlock, such as at the switch to WAL, SQLite gives up at once.
                if not is_busy(error) or time.monotonic() >= deadline:
                    raise store_error(error, self.path, self.options.busy_seconds) from error
            else:
                self._identity = _identity(self.path)
                return
            time.sleep(_LONGEST_PAUSE)

    def _prepare(self) -> None:
        with _OPENING:
            self._create()
            connection = self.connect()
        try:
            self._check(connection)
            self._migrate(connection)
        finally:
            connection.close()

    def connect(self, *, patient: bool = True) -> sqlite3.Connection:
        """A connection for one thread at a time; not patient: for `begin`, which waits by itself."""
        wait = self.options.busy_seconds
        connection = sqlite3.connect(
            self.path, timeout=wait, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        try:
            connection.execute(f"PRAGMA synchronous = {self.options.synchronous}")
            connection.execute("PRAGMA wal_autocheckpoint = 0")  # `Keeper` does it, see there
            connection.execute(
                "PRAGMA secure_delete = OFF"
            )  # Debian's default costs a write per deleted page
            connection.execute("PRAGMA temp_store = MEMORY")
            connection.execute("PRAGMA cache_size = -8000")
            if not patient:
                connection.execute("PRAGMA busy_timeout = 0")
        except BaseException:
            connection.close()
            raise
        return connection

    def check_file(self) -> None:
        """Nothing, as long as the file is where it was opened. It looks once a second.

        Raises:
            StoreRefused: somebody removed or replaced it. What is written now, nobody would find.
        """
        now = time.monotonic()
        if now < self._next_check:
            return
        if _identity(self.path) != self._identity:
            raise StoreRefused(
                f"{self.path}: the file was removed or replaced while it was open. Restart this process; "
                "stop all of them before a file is restored"
            )
        self._next_check = now + _CHECK_SECONDS

    def failure(self, error: BaseException) -> BaseException:
        """`error` as the caller of a backend may see it."""
        if isinstance(error, sqlite3.Error):
            return store_error(error, self.path, self.options.busy_seconds)
        return error

    def _create(self) -> None:
        """Sessions are nobody else's business: the file is for this user only, from its first byte."""
        if self.path.is_dir():
            raise ConfigurationError(f"store: {self.path} is a folder, expected a file")
        try:
            if self._make_folder:
                self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600))
        except FileExistsError:
            return
        except (FileNotFoundError, NotADirectoryError):
            raise ConfigurationError(
                f"store: the folder {self.path.parent} does not exist; create it, or choose another path"
            ) from None
        except OSError as error:
            raise StoreRefused(
                f"{self.path}: the file cannot be created ({error.strerror}). The folder must be writable "
                "for this user, and the disk must have room"
            ) from error

    def _check(self, connection: sqlite3.Connection) -> None:
        """Nothing is written before it is certain that the file is ours or empty."""
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        if tables and application != schema.APPLICATION_ID:
            raise StoreRefused(f"{self.path}: this database belongs to another program; choose another path")
        self.check_version(connection)

    def check_version(self, connection: sqlite3.Connection) -> int:
        """The file's version, 0 for a new one; raises `StoreRefused` if a later release has written it."""
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version > schema.VERSION:
            raise StoreRefused(
                f"{self.path}: the file has version {version}, this release knows versions up to "
                f"{schema.VERSION}: a later release wrote it. Use that one, or another file"
            )
        return int(version)

    def _migrate(self, connection: sqlite3.Connection) -> None:
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")  # counts only before the first table
        (mode,) = connection.execute("PRAGMA journal_mode = WAL").fetchone()
        if mode != "wal":
            raise StoreRefused(f"{self.path}: SQLite cannot use a write-ahead log there (it stays {mode!r})")
        if self.check_version(connection) == schema.VERSION:
            return
        begin(connection, self.options.busy_seconds)
        try:
            # Another process may have been faster.
            for version in range(self.check_version(connection) + 1, schema.VERSION + 1):
                for statement in _statements(schema.step(version)):
                    connection.execute(statement)
            connection.execute(
                "INSERT OR IGNORE INTO file (one, id, life, next_event, next_session, sessions) "
                "VALUES (1, ?, ?, 1, 1, 0)",
                (token_hex(8), token_hex(6)),
            )
            connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {schema.VERSION}")
            connection.execute("COMMIT")
        except BaseException:
            connection.execute("ROLLBACK")
            raise


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _statements(script: str) -> list[str]:
    """The statements of a script, one by one: `executescript` would end the transaction."""
    found: list[str] = []
    rest = ""
    for line in script.splitlines(keepends=True):
        rest += line
        if sqlite3.complete_statement(rest):
            found.append(rest)
            rest = ""
    return found

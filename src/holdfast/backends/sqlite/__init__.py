"""One SQLite file: sessions that survive restarts and are shared by the processes of one machine."""

from holdfast.backends.sqlite.backend import SqliteBackend
from holdfast.backends.sqlite.options import SqliteOptions

__all__ = ["SqliteBackend", "SqliteOptions"]

"""The SQLite store as one replica sees it."""

import time
from collections.abc import Callable
from pathlib import Path
from secrets import token_hex
from typing import Final, Self

from typing_extensions import override

from holdfast.backends.sqlite.broadcast_log import SqliteBroadcastLog
from holdfast.backends.sqlite.bus import SqliteBus
from holdfast.backends.sqlite.database import Database
from holdfast.backends.sqlite.diagnosis import SqliteDiagnosis
from holdfast.backends.sqlite.engine import Engine
from holdfast.backends.sqlite.event_log import SqliteEventLog
from holdfast.backends.sqlite.inbox import SqliteInbox
from holdfast.backends.sqlite.location import locate
from holdfast.backends.sqlite.options import SqliteOptions
from holdfast.backends.sqlite.replicas import SqliteReplicaDirectory
from holdfast.backends.sqlite.session_store import SqliteSessionStore
from holdfast.backends.sqlite.subscription_index import SqliteSubscriptionIndex
from holdfast.backends.sqlite.text import check_replica
from holdfast.backends.sqlite.transfer import SqliteTransfer
from holdfast.sessions.types import ReplicaId

__all__ = ["SqliteBackend"]


class SqliteBackend:
    """Sessions in one SQLite file. Implements `holdfast.sessions.protocols.Backend`; asyncio and trio.

    An async context manager; may be entered once. Several processes of one machine may have the file open at
    the same time. A backend must not be carried over a `fork`: open it in each worker.

    Args:
        url: a path, or `sqlite:///srv/sessions.db` (absolute), `sqlite://sessions.db` (relative), or
            `sqlite://` alone: a file in the folder for state of this user; see `location.locate`.
        name: of the server; that file is called after it.
        replica: id of this process in this life; minted if it is not given.
        options: bounds.
        clock: seconds since 1970, the same for all processes of the file. Tests may turn its hands.

    Raises:
        ConfigurationError: an argument is wrong.
    """

    def __init__(
        self,
        url: str | Path = "sqlite://",
        *,
        name: str = "holdfast",
        replica: ReplicaId | None = None,
        options: SqliteOptions | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.path, options = locate(url, name, options)
        self.replica: Final = check_replica(replica or f"q{token_hex(8)}")
        own_folder = str(url).partition("?")[0] == "sqlite://"
        database = Database(self.path, options, make_folder=own_folder)
        self._engine = Engine(database, self.replica, options, clock)
        self._entered = False
        self.log: Final = SqliteEventLog(self._engine)
        self.broadcasts: Final = SqliteBroadcastLog(self._engine)
        self.sessions: Final = SqliteSessionStore(self._engine)
        self.inbox: Final = SqliteInbox(self._engine)
        self.bus: Final = SqliteBus(self._engine)
        self.subscriptions: Final = SqliteSubscriptionIndex(self._engine)
        self.replicas: Final = SqliteReplicaDirectory(self._engine)
        self.transfer: Final = SqliteTransfer(self._engine)
        self.diagnosis: Final = SqliteDiagnosis(self._engine, self.path)

    @property
    def wakeups(self) -> int:
        """How often the listening thread has woken up, for tests of idleness."""
        return self._engine.wakeups

    @override
    def __repr__(self) -> str:
        return f"SqliteBackend({str(self.path)!r}, replica={self.replica})"

    async def __aenter__(self) -> Self:
        """Open the file; make it if it is not there.

        Raises:
            ConfigurationError: there cannot be such a file at that place.
            StoreUnavailable: another program holds a lock on it.
            StoreRefused: it is damaged, read-only, not ours, or from a later release.
        """
        if self._entered:
            raise RuntimeError("a SqliteBackend can be entered once")
        self._entered = True
        await self._engine.open()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Store what is under way, and close the file."""
        await self._engine.close()

"""The reader: all reads that wait, from one snapshot of the file."""

from collections.abc import Callable

from holdfast.backends.sqlite.calls import Call
from holdfast.backends.sqlite.database import Database
from holdfast.backends.sqlite.reading import Snapshot
from holdfast.backends.sqlite.tail import Tail

__all__ = ["Reader"]


class Reader:
    """Owns a connection that only reads. Everything here runs in the reader's thread."""

    def __init__(self, database: Database, clock: Callable[[], float]) -> None:
        self._database = database
        self._clock = clock
        self._connection = database.connect()
        self._connection.execute("PRAGMA query_only = ON")
        self._tail = Tail()

    def carry_out(self, calls: list[Call[Snapshot]]) -> None:
        """Do all calls, one by one; one that fails does not concern the others."""
        snapshot = Snapshot(self._connection, int(self._clock() * 1000), self._tail)
        try:
            self._database.check_file()
            self._connection.execute("BEGIN")
            life, folded, next_event = self._connection.execute(
                "SELECT life, folded, next_event FROM file"
            ).fetchone()
            self._tail.follow(self._connection, life, folded, next_event - 1)
            for call in calls:
                try:
                    call.result = call.run(snapshot)
                except Exception as error:  # noqa: BLE001 - it is handed to the caller
                    call.error = self._database.failure(error)
            self._connection.execute("COMMIT")
        except Exception as error:  # noqa: BLE001 - it is handed to the callers
            for call in calls:
                call.error = self._database.failure(error)
            if self._connection.in_transaction:
                self._connection.rollback()

    def rest(self) -> None:
        """There is nothing to do when nothing waits."""

    def close(self) -> None:
        """Release the connection."""
        self._connection.close()

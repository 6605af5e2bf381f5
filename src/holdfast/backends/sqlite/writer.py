"""The writer: all operations that wait, in one transaction."""

import logging
import sqlite3
from collections.abc import Callable

from holdfast.backends.sqlite.cache import SessionCache
from holdfast.backends.sqlite.calls import Call
from holdfast.backends.sqlite.database import Database, begin
from holdfast.backends.sqlite.expiry import purge, purge_others
from holdfast.backends.sqlite.failures import concerns_all, is_busy
from holdfast.backends.sqlite.hints import event_hint
from holdfast.backends.sqlite.keeper import Keeper
from holdfast.backends.sqlite.sockets import Outbox
from holdfast.backends.sqlite.transaction import Transaction
from holdfast.errors import HoldfastError
from holdfast.sessions.types import ReplicaId

__all__ = ["Writer"]

logger = logging.getLogger("holdfast.backends.sqlite")

_PURGED_AT_ONCE = 64
_AGAIN_SECONDS = 0.002


class Writer:
    """Owns the connection that writes. Everything here runs in the writer's thread.

    Attributes:
        trouble: why nothing can be written; None: the last transaction was stored.

    Args:
        database: the file.
        connection: to it, without a timeout of its own.
        replica: who writes.
        clock: seconds since 1970.
        deliver: takes hints for this very replica, as they come in datagrams.
    """

    def __init__(
        self,
        database: Database,
        connection: sqlite3.Connection,
        replica: ReplicaId,
        clock: Callable[[], float],
        deliver: Callable[[dict[bytes, None]], None],
    ) -> None:
        self._database = database
        self._options = database.options
        self._connection = connection
        self._replica = replica
        self._clock = clock
        self._deliver = deliver
        self._cache = SessionCache(database.options.cached_events)
        self._outbox = Outbox()
        self.trouble: BaseException | None = None
        self._keeper = Keeper(database, connection)

    def carry_out(self, calls: list[Call[Transaction]]) -> None:
        """Do all calls in one transaction. If one spoils it, each gets a transaction of its own."""
        try:
            self._commit(calls)
        except Exception as error:  # noqa: BLE001 - it is handed to the callers
            self._undo()
            if concerns_all(error):
                self.trouble = self._database.failure(error)
            if len(calls) == 1 or concerns_all(error):
                for call in calls:
                    call.result, call.error = None, self._database.failure(error)
            else:
                for call in calls:
                    call.result = call.error = None
                    self.carry_out([call])

    def rest(self) -> float:
        """Nothing waits: tidy up. Returns the seconds until that should be done again."""
        if self._outbox.unsent:
            self._outbox.send_again()
        try:
            if self._keeper.due() or self._outbox.gone:
                more = self._tidy_up()
                self._keeper.rest()
                self._keeper.tidied(more=more)
        except Exception as error:  # noqa: BLE001 - the next operation reports it to somebody who can act
            self._undo()
            self._keeper.tidied(more=False)
            if not is_busy(error):
                logger.warning("tidying up failed: %s", error)
        return _AGAIN_SECONDS if self._outbox.unsent else self._keeper.remaining()

    def close(self) -> None:
        """Release what was opened here."""
        self._outbox.close()
        self._keeper.close()
        self._connection.close()

    def _commit(self, calls: list[Call[Transaction]]) -> None:
        tx = self._begin()
        for call in calls:
            try:
                call.result = call.run(tx)
            except (HoldfastError, ValueError) as error:  # refused, before it changed anything
                call.error = error
        self._end(tx)

    def _begin(self) -> Transaction:
        self._database.check_file()
        begin(self._connection, self._options.busy_seconds)
        if self._cache.look(self._connection):
            self._database.check_version(self._connection)
            self._cache.load(self._connection)
        now = int(self._clock() * 1000)
        return Transaction(self._connection, self._cache, self._options, self._replica, now)

    def _end(self, tx: Transaction) -> None:
        tx.finish()
        self._connection.execute("COMMIT")
        self.trouble = None
        try:
            self._announce(tx)
            self._cache.shrink()
            self._keeper.committed()
        except Exception:  # it is stored: a failure now must not look like one of the operations
            logger.exception("what follows a transaction failed")

    def _undo(self) -> None:
        self._cache.clear()
        if self._connection.in_transaction:
            try:
                self._connection.execute("ROLLBACK")
            except sqlite3.Error:
                logger.warning("a failed transaction could not be rolled back", exc_info=True)

    def _announce(self, tx: Transaction) -> None:
        if not tx.changed and not tx.hints:
            return
        events = {event_hint(session): None for session in tx.changed}
        for replica, address in self._cache.listeners.items():
            hints = {} if replica == self._replica else dict(events)
            hints |= {hint: None for to, hint in tx.hints if to in (None, replica)}
            if not hints:
                continue
            if replica == self._replica:
                self._deliver(hints)
            else:
                self._outbox.send(address, hints)

    def _tidy_up(self) -> bool:
        """One step of removing what has run out; whether there is more."""
        tx = self._begin()
        sessions = purge(tx, _PURGED_AT_ONCE)
        others = purge_others(tx, _PURGED_AT_ONCE)
        self._remove_dead_listeners(tx)
        self._end(tx)
        return _PURGED_AT_ONCE in (sessions, others) or self._keeper.vacuum()

    def _remove_dead_listeners(self, tx: Transaction) -> None:
        """Those that were killed: nobody receives at their address."""
        if self._outbox.gone:
            for address in self._outbox.gone:
                tx.execute("DELETE FROM listeners WHERE address = ?", (address,))
            self._outbox.gone.clear()
            self._cache.load_listeners(tx.connection)

"""What the writer remembers between transactions."""

import sqlite3
from collections import OrderedDict
from typing import Final

from holdfast.backends.sqlite.session_log import SessionLog
from holdfast.backends.sqlite.tail import Tail

__all__ = ["SessionCache"]


class SessionCache:
    """What the writer remembers between transactions. The file is the truth: others change it as well.

    Attributes:
        seen: grows whenever somebody else has changed the file.
        tail: the events that the heads do not know yet.
    """

    def __init__(self, max_entries: int) -> None:
        self._max_entries = max_entries
        self._logs: OrderedDict[str, SessionLog] = OrderedDict()
        self._used: dict[str, SessionLog] = {}
        self._total = 0
        self._version = -1
        self.seen = 0
        self.tail: Final = Tail()
        self.life = ""
        self.next_event = self.next_session = self.sessions = 0
        self.listeners: dict[str, str] = {}

    def look(self, connection: sqlite3.Connection) -> bool:
        """Whether somebody else has changed the file. Within a transaction: then it is certain."""
        (version,) = connection.execute("PRAGMA data_version").fetchone()
        if version == self._version:
            return False
        self._version = version
        self.seen += 1
        return True

    def load(self, connection: sqlite3.Connection) -> None:
        """Read what is not of one session. After a `look`."""
        columns = "life, folded, next_event, next_session, sessions"
        row = connection.execute(f"SELECT {columns} FROM file").fetchone()  # noqa: S608 - see above
        self.life, folded, self.next_event, self.next_session, self.sessions = row
        self.tail.follow(connection, self.life, folded, self.next_event - 1)
        self.load_listeners(connection)

    def load_listeners(self, connection: sqlite3.Connection) -> None:
        """Read where other replicas receive hints."""
        self.listeners = dict(connection.execute("SELECT replica, address FROM listeners").fetchall())

    def get(self, session: str) -> SessionLog | None:
        """A session that is remembered, as the most recently used one."""
        log = self._logs.get(session)
        if log is not None:
            self._logs.move_to_end(session)
            self._used[session] = log
        return log

    def put(self, log: SessionLog) -> None:
        """Remember a session."""
        self.forget(log.id)
        self._logs[log.id] = self._used[log.id] = log

    def forget(self, session: str) -> None:
        """Remember it no more."""
        self._used.pop(session, None)
        log = self._logs.pop(session, None)
        if log is not None:
            self._total -= log.weighed

    def clear(self) -> None:
        """Remember nothing: what is here was never written."""
        self._logs.clear()
        self._used.clear()
        self._total = 0
        self.tail.forget()
        self._version = -1

    def shrink(self) -> None:
        """Forget the least recently used, if it is too much. Not within a transaction.

        Only what was used since the last time is weighed again: counting all stops the writer, the longer the
        more sessions there are.
        """
        for log in self._used.values():
            weight = log.weight
            self._total += weight - log.weighed
            log.weighed = weight
        self._used.clear()
        while self._total > self._max_entries:
            _, log = self._logs.popitem(last=False)
            self._total -= log.weighed

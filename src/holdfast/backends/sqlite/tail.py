"""The newest events of the file that `heads` do not know yet: the starts of the chains that lead to them."""

import sqlite3
from typing import Final

__all__ = ["FOLDED_AT", "Tail"]

FOLDED_AT: Final = 4096
"""So many events are appended until their sessions' heads are written. A new process has to read as many."""

_FOLD: Final = """
UPDATE heads SET top = new.top, last = new.last, events = events + new.number, bytes = bytes + new.size
FROM (
  SELECT old.no, max(log.id) AS last, max(log."offset") AS top,
    count(*) AS number, sum(length(payload)) AS size
  FROM log JOIN heads AS old ON old.no = log.session
  WHERE log.id > ? AND log.id > old.last GROUP BY old.no
) AS new WHERE heads.no = new.no
"""


class Tail:
    """Follows the end of the log over all sessions. The same in the writer and in the reader.

    Attributes:
        life: of the file.
        newest: by number of a session, offset and row of its newest event after `folded`.
    """

    def __init__(self) -> None:
        self.life = ""
        self.newest: dict[int, tuple[int, int]] = {}
        self._folded = self._seen = -1

    def follow(self, connection: sqlite3.Connection, life: str, folded: int, end: int) -> None:
        """Learn of what was appended since the last time, up to the row `end`. Inside a transaction."""
        if (life, folded) != (self.life, self._folded):
            self.life, self._folded, self._seen = life, folded, folded
            self.newest.clear()
        if end > self._seen:
            for no, last, top in connection.execute(
                'SELECT session, max(id), "offset" FROM log WHERE id > ? GROUP BY session', (self._seen,)
            ):
                self.newest[no] = (top, last)
            self._seen = end

    def ahead(self, no: int, top: int, last: int) -> tuple[int, int]:
        """Top and newest row of a session whose head says `top` and `last`."""
        newest = self.newest.get(no)
        return newest if newest is not None and newest[1] > last else (top, last)

    def add(self, no: int, top: int, last: int) -> None:
        """Note the newest event of a session, written by the caller."""
        self.newest[no] = (top, last)
        self._seen = max(self._seen, last)

    def fold(self, connection: sqlite3.Connection, end: int) -> bool:
        """Bring all heads up to the row `end`, if it is worth it; whether that was done."""
        if end - self._folded < FOLDED_AT:
            return False
        connection.execute(_FOLD, (self._folded,))
        connection.execute("UPDATE file SET folded = ?", (end,))
        self._folded = self._seen = end
        self.newest.clear()
        return True

    def forget(self) -> None:
        """Know nothing: what is here was never written."""
        self.life, self._folded = "", -1

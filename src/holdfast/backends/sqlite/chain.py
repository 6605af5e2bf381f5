"""Reading the log: from a session's newest event back, each row naming the one before."""

import sqlite3
from collections.abc import Iterator
from typing import Any, Final

__all__ = ["entries_since", "events_since"]

# `UNION ALL` without ORDER BY: SQLite works off the queue one row at a time and needs no index.
_ENTRIES: Final = """
WITH RECURSIVE chain(id, back) AS (
  SELECT id, back FROM log WHERE id = :last AND session = :session
  UNION ALL
  SELECT log.id, log.back FROM chain JOIN log ON log.id = chain.back
  WHERE chain.back > :stop AND log.session = :session
)
SELECT log.id, log."offset", log.stream, log.previous, length(log.payload), log.final, log.writer, log.counter
FROM chain JOIN log ON log.id = chain.id WHERE chain.id > :stop
"""

_EVENTS: Final = """
WITH RECURSIVE chain(id, back, "offset", stream) AS (
  SELECT id, back, "offset", stream FROM log WHERE id = :last AND session = :session AND "offset" > :after
  UNION ALL
  SELECT log.id, log.back, log."offset", log.stream FROM chain JOIN log ON log.id = chain.back
  WHERE log.session = :session AND log."offset" > :after
)
SELECT id FROM chain WHERE stream = :stream
"""

_EVENT: Final = 'SELECT "offset", previous, final, payload FROM log WHERE id = ?'


def entries_since(
    connection: sqlite3.Connection, session: int, last: int, stop: int = 0
) -> list[tuple[Any, ...]]:
    """What the writer remembers of the events whose rows lie in (`stop`, `last`], oldest first."""
    if last <= stop:
        return []
    rows = connection.execute(_ENTRIES, {"last": last, "session": session, "stop": stop}).fetchall()
    rows.reverse()
    return rows


def events_since(
    connection: sqlite3.Connection, session: int, last: int, stream: bytes, after: int
) -> tuple[int, Iterator[tuple[int, int, int, bytes]]]:
    """How many events of a stream lie after an offset, and an iterator over them, oldest first."""
    ids = connection.execute(
        _EVENTS, {"last": last, "session": session, "stream": stream, "after": after}
    ).fetchall()
    return len(ids), (connection.execute(_EVENT, row).fetchone() for row in reversed(ids))

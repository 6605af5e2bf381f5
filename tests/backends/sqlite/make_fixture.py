"""Makes a file of the present schema version with something in every table.

`python make_fixture.py tests/fixtures/sqlite/NNNN.db.gz`

Run it once for each new version, commit the result, never change one: it is what users have on their disks.
"""

import gzip
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

import anyio

from holdfast.backends.sqlite import SqliteBackend, SqliteOptions
from holdfast.sessions.types import STANDALONE, AppendKey, ReplicaId, SessionFacts, SessionId, StreamId

A_CENTURY = 100 * 365 * 86400.0
"""So that nothing in it has run out when a test reads it."""

OPTIONS = SqliteOptions(max_events=16, broadcast_seconds=A_CENTURY)


def facts(session: str) -> SessionFacts:
    return SessionFacts(SessionId(session), "alice", "2025-11-25", b'{"a":"\xc3\xa9"}', A_CENTURY)


async def fill(path: Path) -> None:
    async with SqliteBackend(path, options=OPTIONS, replica=ReplicaId("writer")) as backend:
        for name in ("kept", "deleted"):
            await backend.sessions.open(facts(name), limit=None)
        await backend.sessions.close(SessionId("deleted"))
        session, log = SessionId("kept"), backend.log
        await backend.sessions.configure(session, log_level="debug")
        await log.claim(session, "reader", after=None)
        for name, request_id in (("done", 1), ("runs", "1")):
            await log.open_stream(session, StreamId(name), request_id)
        await log.append(session, StreamId("done"), b"response", final=True, key=AppendKey("w", 1))
        for number in range(20):  # some are trimmed
            await log.append(session, STANDALONE, b"%d" % number, key=AppendKey("w", number + 1))
        await log.append(session, STANDALONE, b"?", expects="open")
        await log.append(session, STANDALONE, b"?", expects="answered")
        await backend.inbox.put(session, "answered", b"yes")
        await backend.subscriptions.add(session, "file:///x", ttl_seconds=A_CENTURY)
        for number in range(20):  # some are trimmed
            await backend.broadcasts.append(b"all %d" % number, key=AppendKey("w", number + 1))
        await backend.bus.publish("topic", b"message")
        await backend.replicas.beat(A_CENTURY)


def main(target: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.db"
        anyio.run(fill, path)
        with closing(sqlite3.connect(path)) as connection:
            connection.execute("PRAGMA journal_mode = DELETE")  # one file, with everything in it
        Path(target).write_bytes(gzip.compress(path.read_bytes(), mtime=0))


if __name__ == "__main__":
    main(sys.argv[1])

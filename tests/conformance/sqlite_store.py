"""The SQLite backend as a store under test: replicas are backends on one file, and time is a number."""

import sqlite3
import time
from pathlib import Path
from secrets import token_hex

import anyio
from typing_extensions import override

from holdfast.backends.sqlite import SqliteBackend, SqliteOptions
from holdfast.sessions.protocols import Backend
from holdfast.testing import conformance

REAL_SECONDS = 0.05
"""Hints travel in real time, whatever the clock of the store says."""


class SqliteStore(conformance.StoreUnderTest):
    can_fail_over = True

    def __init__(self, path: Path) -> None:
        self.path = path
        self.skipped = 0.0
        self.backends: list[SqliteBackend] = []

    @override
    def replica(self) -> Backend:
        options = SqliteOptions(max_events=self.max_events, max_bytes=self.max_bytes)
        backend = SqliteBackend(self.path, options=options, clock=lambda: time.time() + self.skipped)
        self.backends.append(backend)
        return backend

    @override
    async def advance(self, seconds: float) -> None:
        self.skipped += seconds
        await anyio.sleep(REAL_SECONDS)

    @override
    async def fail_over(self, keep: int | None) -> None:
        """Take back what an older copy of the file would not have, and begin a new life of it."""
        with sqlite3.connect(self.path, timeout=5, isolation_level=None) as file:
            file.execute("BEGIN IMMEDIATE")
            if keep is not None:
                cut_short(file, keep)
            file.execute("UPDATE file SET life = ?", (token_hex(6),))
            file.execute("COMMIT")
        file.close()
        for backend in self.backends:
            backend._engine.hints.everything()  # pyright: ignore[reportPrivateUsage] - nobody sends it


def cut_short(file: sqlite3.Connection, keep: int) -> None:
    for statement in (
        # Heads lag behind.
        'UPDATE heads SET top = max(top, (SELECT coalesce(max("offset"), 0) FROM log WHERE session = no))',
        'DELETE FROM log WHERE "offset" > :keep',
        "DELETE FROM streams WHERE opened_at > :keep",
        "UPDATE streams SET closed = 0 WHERE closed > :keep",
        "UPDATE streams SET trimmed = min(trimmed, :keep)",
        (
            "UPDATE streams SET keys = (SELECT json_group_array(json(value)) FROM json_each(keys) "
            "WHERE json_extract(value, '$[2]') <= :keep)"
        ),
        'DELETE FROM asked WHERE "offset" > :keep',
        'DELETE FROM broadcasts WHERE "offset" > :keep',
        'DELETE FROM broadcast_writers WHERE "offset" > :keep',
        (
            "UPDATE broadcast_head SET top = min(top, :keep), trimmed = min(trimmed, :keep), "
            "bytes = (SELECT coalesce(sum(length(payload)), 0) FROM broadcasts)"
        ),
        (
            "UPDATE heads SET top = min(top, :keep), trims = trims + 1, "
            "last = coalesce((SELECT max(id) FROM log WHERE session = heads.no), 0), "
            "events = (SELECT count(*) FROM log WHERE session = heads.no), "
            "bytes = (SELECT coalesce(sum(length(payload)), 0) FROM log WHERE session = heads.no)"
        ),
    ):
        file.execute(statement, {"keep": keep})

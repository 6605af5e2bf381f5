"""`Diagnosis` of a file."""

import os
import sqlite3
import time
from functools import partial
from pathlib import Path
from typing import Final

from anyio import to_thread
from typing_extensions import override

from holdfast.backends.sqlite.engine import Engine
from holdfast.backends.sqlite.reading import Snapshot
from holdfast.backends.sqlite.text import encode
from holdfast.backends.sqlite.transaction import Transaction
from holdfast.errors import StoreRefused, StoreUnavailable
from holdfast.sessions.diagnosis import Diagnosis, StoreFacts

__all__ = ["SqliteDiagnosis"]

_CANARY_MILLISECONDS: Final = 10_000


class SqliteDiagnosis(Diagnosis):
    """What a file can say of itself."""

    def __init__(self, engine: Engine, path: Path) -> None:
        self._engine = engine
        self._path = path
        self._canary = encode(f"canary-{engine.replica}")

    @property
    @override
    def mode(self) -> str:
        return "sqlite"

    @override
    async def facts(self) -> StoreFacts:
        began = time.monotonic()
        await self._engine.read(_look)
        latency = time.monotonic() - began
        free, size, wal = await to_thread.run_sync(_sizes, self._path, abandon_on_cancel=True)
        return StoreFacts(
            product="SQLite",
            mode="sqlite",
            version=sqlite3.sqlite_version,
            latency_seconds=latency,
            append_only=True,
            free_bytes=free,
            file_bytes=size,
            wal_bytes=wal,
        )

    @override
    async def canary(self) -> None:
        # Two transactions: only what was committed proves that there is room for it.
        await self._engine.write(partial(_put, canary=self._canary))
        if not await self._engine.write(partial(_take, canary=self._canary)):
            raise StoreRefused("the file: what was written is not there")


def _look(snapshot: Snapshot) -> None:
    snapshot.connection.execute("SELECT next_event FROM file").fetchone()


def _put(tx: Transaction, canary: bytes) -> None:
    tx.execute("INSERT OR REPLACE INTO replicas VALUES (?, ?)", (canary, tx.now + _CANARY_MILLISECONDS))


def _take(tx: Transaction, canary: bytes) -> bool:
    found = tx.execute("SELECT 1 FROM replicas WHERE id = ?", (canary,)).fetchone() is not None
    tx.execute("DELETE FROM replicas WHERE id = ?", (canary,))
    return found


def _sizes(path: Path) -> tuple[int, int, int]:
    try:
        disk = os.statvfs(path)
        size = path.stat().st_size
    except OSError as error:
        raise StoreUnavailable(f"the file cannot be looked at ({error.strerror})") from error
    wal = path.with_name(f"{path.name}-wal")
    return disk.f_bavail * disk.f_frsize, size, wal.stat().st_size if wal.exists() else 0

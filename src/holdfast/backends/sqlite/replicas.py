"""Which replicas live: one row each, with a deadline."""

from functools import partial

from typing_extensions import override

from holdfast.backends.sqlite.engine import Engine
from holdfast.backends.sqlite.reading import Snapshot
from holdfast.backends.sqlite.text import encode
from holdfast.backends.sqlite.transaction import Transaction
from holdfast.sessions.protocols import ReplicaDirectory
from holdfast.sessions.types import ReplicaId

__all__ = ["SqliteReplicaDirectory"]


class SqliteReplicaDirectory(ReplicaDirectory):
    """Which replicas live."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._own = encode(engine.replica)

    @override
    async def beat(self, ttl_seconds: float, *, of: ReplicaId | None = None) -> None:
        replica, ttl_ms = self._own if of is None else encode(of), max(1, round(ttl_seconds * 1000))
        await self._engine.write(partial(_beat, replica=replica, ttl_ms=ttl_ms))

    @override
    async def alive(self, replica: ReplicaId) -> bool:
        self._engine.check()  # a file that cannot be written knows nobody's present state
        return await self._engine.read(partial(_alive, replica=encode(replica)))

    @override
    async def retire(self) -> None:
        await self._engine.write(partial(_retire, replica=self._own))


def _beat(tx: Transaction, replica: bytes, ttl_ms: int) -> None:
    tx.execute("INSERT OR REPLACE INTO replicas VALUES (?, ?)", (replica, tx.now + ttl_ms))


def _alive(snapshot: Snapshot, replica: bytes) -> bool:
    row = snapshot.connection.execute(
        "SELECT 1 FROM replicas WHERE id = ? AND deadline > ?", (replica, snapshot.now)
    ).fetchone()
    return row is not None


def _retire(tx: Transaction, replica: bytes) -> None:
    tx.execute("DELETE FROM replicas WHERE id = ?", (replica,))

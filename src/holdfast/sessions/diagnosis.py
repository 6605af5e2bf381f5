"""What a store can say of itself. For health and for operators; no request of a client needs it."""

from dataclasses import dataclass
from typing import Protocol

__all__ = ["Diagnosis", "StoreFacts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreFacts:
    """What was found out; None is "unknown": the store has no such thing, or does not permit to ask.

    Where a store consists of several servers, sums are over all of them and the rest is the worst of them.

    Attributes:
        product: such as `Redis`, `Valkey`, `SQLite` or `memory`.
        mode: `redis`, `sentinel`, `cluster`, `sqlite` or `memory`.
        latency_seconds: of one round trip.
        version: of the product.
        role: of the server, such as `master`.
        uptime_seconds: of the server.
        connected_clients: how many connections it has.
        used_memory_bytes: what it uses.
        maxmemory_bytes: what it may use; 0: no limit.
        maxmemory_policy: what it does at the limit.
        evicted_keys: how many keys it has thrown away since its start.
        append_only: it keeps an append-only file.
        snapshots: it is told to save snapshots.
        last_save_failed: the last snapshot, or the last write of the append-only file, failed.
        replicas: how many servers follow.
        replica_lag_seconds: how long the slowest of them has been silent.
        replica_lag_bytes: how far the slowest of them is behind.
        clock_skew_seconds: its clock is so far ahead of ours (behind: negative), give or take the round trip.
        free_bytes: room on the disk of a file.
        file_bytes: size of the file.
        wal_bytes: size of the log beside it.
        durable: it outlives this process, as far as the kind of store is concerned.
        encrypted: the connection uses TLS.
        not_permitted: commands that the store's rules for this user forbid.
    """

    product: str
    mode: str
    latency_seconds: float = 0.0
    version: str | None = None
    role: str | None = None
    uptime_seconds: float | None = None
    connected_clients: int | None = None
    used_memory_bytes: int | None = None
    maxmemory_bytes: int | None = None
    maxmemory_policy: str | None = None
    evicted_keys: int | None = None
    append_only: bool | None = None
    snapshots: bool | None = None
    last_save_failed: bool | None = None
    replicas: int | None = None
    replica_lag_seconds: float | None = None
    replica_lag_bytes: int | None = None
    clock_skew_seconds: float | None = None
    free_bytes: int | None = None
    file_bytes: int | None = None
    wal_bytes: int | None = None
    durable: bool = True
    encrypted: bool | None = None
    not_permitted: tuple[str, ...] = ()


class Diagnosis(Protocol):
    """Asking a store how it is. No method waits for longer than the store's own bounds: set a deadline."""

    @property
    def mode(self) -> str:
        """What kind of store it is, asked or not; see `StoreFacts.mode`."""
        ...

    async def facts(self) -> StoreFacts:
        """What the store says of itself, at this moment. What it does not permit to ask is unknown.

        Raises:
            StoreError: it cannot be asked at all.
        """
        ...

    async def canary(self) -> None:
        """Write something, read it back and remove it, outside of every session.

        Raises:
            StoreRefused: it could not be written, or is not what was written.
            StoreUnavailable: the store did not answer.
        """
        ...

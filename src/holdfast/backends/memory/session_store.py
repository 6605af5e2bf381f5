"""`SessionStore` in memory."""

from collections.abc import Sequence
from dataclasses import replace

from typing_extensions import override

from holdfast.backends.memory.data import MemoryData
from holdfast.errors import SessionExists, TooManySessions
from holdfast.sessions.protocols import SessionStore
from holdfast.sessions.types import Found, SessionFacts, SessionId, Settings

__all__ = ["MemorySessionStore"]


class MemorySessionStore(SessionStore):
    """Who is connected."""

    def __init__(self, data: MemoryData) -> None:
        self._data = data

    @override
    async def open(self, facts: SessionFacts, *, limit: int | None) -> None:
        if self._data.used(facts.id):
            raise SessionExists
        if limit is not None and self._data.count() >= limit:
            raise TooManySessions
        self._data.add(facts)

    @override
    async def find(self, session: SessionId, *, owner: str | None, with_facts: bool) -> Found | None:
        found = self._data.get(session)
        if found is None or found.facts.owner != owner:
            return None
        self._data.touch(found)
        return Found(found.settings, found.facts if with_facts else None)

    @override
    async def settle(self, session: SessionId, *, protocol_version: str, client: bytes) -> bool:
        found = self._data.live(session)
        if not found.facts.protocol_version:
            found.facts = replace(found.facts, protocol_version=protocol_version, client=client)
        self._data.touch(found)
        return (found.facts.protocol_version, found.facts.client) == (protocol_version, client)

    @override
    async def configure(self, session: SessionId, *, log_level: str) -> Settings:
        found = self._data.live(session)
        found.settings = replace(found.settings, version=found.settings.version + 1, log_level=log_level)
        return found.settings

    @override
    async def close(self, session: SessionId) -> bool:
        found = self._data.get(session)
        if found is None:
            return False
        self._data.bury(found)
        return True

    @override
    async def count(self) -> int:
        return self._data.count()

    @override
    async def list(
        self, *, owner: str | None = None, limit: int = 100, after: SessionId | None = None
    ) -> Sequence[SessionId]:
        return self._data.ids(owner, after, limit)

    @override
    async def refresh(self, sessions: Sequence[SessionFacts]) -> None:
        """Nothing to do: this index is exact."""

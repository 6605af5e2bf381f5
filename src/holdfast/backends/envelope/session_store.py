"""`SessionStore` whose sessions keep what the client said at `initialize` wrapped."""

from collections.abc import Sequence
from dataclasses import replace

from typing_extensions import override

from holdfast.backends.envelope.codec import Codec, DamagedPayload, Purpose
from holdfast.errors import StoreRefused
from holdfast.sessions.protocols import SessionStore
from holdfast.sessions.types import Found, SessionFacts, SessionId, Settings

__all__ = ["EnvelopeSessionStore"]


class EnvelopeSessionStore(SessionStore):
    """Passes all calls on, `SessionFacts.client` wrapped on the way in and unwrapped on the way out."""

    def __init__(self, inner: SessionStore, codec: Codec) -> None:
        self._inner = inner
        self._codec = codec

    @override
    async def open(self, facts: SessionFacts, *, limit: int | None) -> None:
        wrapped = await self._codec.wrap(facts.client, _purpose(facts.id), repeatable=True)
        await self._inner.open(replace(facts, client=wrapped), limit=limit)

    @override
    async def find(self, session: SessionId, *, owner: str | None, with_facts: bool) -> Found | None:
        found = await self._inner.find(session, owner=owner, with_facts=with_facts)
        if found is None or found.facts is None:
            return found
        try:
            client = await self._codec.unwrap(found.facts.client, _purpose(session))
        except DamagedPayload as error:
            raise StoreRefused(f"what a client said at initialize cannot be read: {error}") from error
        return replace(found, facts=replace(found.facts, client=client))

    @override
    async def settle(self, session: SessionId, *, protocol_version: str, client: bytes) -> bool:
        wrapped = await self._codec.wrap(client, _purpose(session), repeatable=True)
        return await self._inner.settle(session, protocol_version=protocol_version, client=wrapped)

    @override
    async def configure(self, session: SessionId, *, log_level: str) -> Settings:
        return await self._inner.configure(session, log_level=log_level)

    @override
    async def close(self, session: SessionId) -> bool:
        return await self._inner.close(session)

    @override
    async def count(self) -> int:
        return await self._inner.count()

    @override
    async def list(
        self, *, owner: str | None = None, limit: int = 100, after: SessionId | None = None
    ) -> Sequence[SessionId]:
        return await self._inner.list(owner=owner, limit=limit, after=after)

    @override
    async def refresh(self, sessions: Sequence[SessionFacts]) -> None:
        await self._inner.refresh(sessions)


def _purpose(session: SessionId) -> Purpose:
    return Purpose(session, "client")

# pyright: reportPrivateUsage=false
"""Broken session stores."""

from collections.abc import Sequence
from dataclasses import replace

import anyio
from typing_extensions import override

from holdfast.backends.memory import MemoryData
from holdfast.backends.memory.data import Session
from holdfast.backends.memory.session_store import MemorySessionStore
from holdfast.errors import SessionExists, SessionGone, TooManySessions
from holdfast.sessions.types import Found, SessionFacts, SessionId, Settings
from holdfast.testing.conformance import SessionStoreSuite
from tests.mutants.catalogue import must_fail


@must_fail(SessionStoreSuite)
class OwnersIgnored(MemorySessionStore):
    """Whoever knows the id is let in."""

    @override
    async def find(self, session: SessionId, *, owner: str | None, with_facts: bool) -> Found | None:
        found = self._data.get(session)
        owner = owner if found is None else found.facts.owner
        return await super().find(session, owner=owner, with_facts=with_facts)


@must_fail(SessionStoreSuite)
class NoOwnerMayAnything(MemorySessionStore):
    """A request without authentication is let into every session."""

    @override
    async def find(self, session: SessionId, *, owner: str | None, with_facts: bool) -> Found | None:
        found = self._data.get(session)
        owner = found.facts.owner if found is not None and not owner else owner
        return await super().find(session, owner=owner, with_facts=with_facts)


@must_fail(SessionStoreSuite)
class StrangersKeepSessions(MemorySessionStore):
    """Being asked for by somebody else slides the expiry."""

    @override
    async def find(self, session: SessionId, *, owner: str | None, with_facts: bool) -> Found | None:
        if (found := self._data.get(session)) is not None:
            self._data.touch(found)
        return await super().find(session, owner=owner, with_facts=with_facts)


@must_fail(SessionStoreSuite)
class FindingSlidesNothing(MemorySessionStore):
    """A session in use expires."""

    @override
    async def find(self, session: SessionId, *, owner: str | None, with_facts: bool) -> Found | None:
        expires_at = found.expires_at if (found := self._data.get(session)) else 0.0
        result = await super().find(session, owner=owner, with_facts=with_facts)
        if found:
            found.expires_at = expires_at
        return result


@must_fail(SessionStoreSuite)
class NothingExpires(MemoryData):
    """Sessions live for ever."""

    @override
    def add(self, facts: SessionFacts) -> None:
        super().add(facts)
        self._sessions[facts.id].expires_at = float("inf")


@must_fail(SessionStoreSuite)
class NoTombstones(MemoryData):
    """A deleted session can be opened again."""

    @override
    def bury(self, session: Session) -> None:
        self._remove(session)


@must_fail(SessionStoreSuite)
class TombstonesForWhatNeverWas(MemorySessionStore):
    """Deleting an unknown id takes it."""

    @override
    async def close(self, session: SessionId) -> bool:
        self._data._tombstones[session] = float("inf")
        return await super().close(session)


@must_fail(SessionStoreSuite)
class ClosingIsAlwaysTrue(MemorySessionStore):
    """Every DELETE thinks that it was the one."""

    @override
    async def close(self, session: SessionId) -> bool:
        await super().close(session)
        return True


@must_fail(SessionStoreSuite)
class OpeningOverwrites(MemorySessionStore):
    """An id in use is taken over."""

    @override
    async def open(self, facts: SessionFacts, *, limit: int | None) -> None:
        if (found := self._data.get(facts.id)) is not None:
            self._data._remove(found)
        await super().open(facts, limit=limit)


@must_fail(SessionStoreSuite)
class LimitIgnored(MemorySessionStore):
    """Any number of sessions may be opened."""

    @override
    async def open(self, facts: SessionFacts, *, limit: int | None) -> None:
        await super().open(facts, limit=None)


@must_fail(SessionStoreSuite)
class LimitPerReplica(MemorySessionStore):
    """Each replica counts its own."""

    opened = 0

    @override
    async def open(self, facts: SessionFacts, *, limit: int | None) -> None:
        if limit is not None and self.opened >= limit:
            raise TooManySessions
        await super().open(facts, limit=None)
        self.opened += 1


@must_fail(SessionStoreSuite)
class LimitInTwoSteps(MemorySessionStore):
    """Between counting and opening there is room for others."""

    @override
    async def open(self, facts: SessionFacts, *, limit: int | None) -> None:
        if limit is not None and self._data.count() >= limit:
            raise TooManySessions
        await anyio.lowlevel.checkpoint()
        await super().open(facts, limit=None)


@must_fail(SessionStoreSuite)
class RefusedIdsTakeRoom(MemorySessionStore):
    """A refused opening is counted for ever."""

    taken = 0

    @override
    async def open(self, facts: SessionFacts, *, limit: int | None) -> None:
        try:
            await super().open(facts, limit=None if limit is None else limit - self.taken)
        except SessionExists:
            self.taken += 1
            raise


@must_fail(SessionStoreSuite)
class CreatedInSpiteOfTheLimit(MemorySessionStore):
    """Who is refused has a session all the same."""

    @override
    async def open(self, facts: SessionFacts, *, limit: int | None) -> None:
        try:
            await super().open(facts, limit=limit)
        except TooManySessions:
            self._data.add(facts)
            raise


@must_fail(SessionStoreSuite)
class VersionsStandStill(MemorySessionStore):
    """Other replicas cannot see that a setting changed."""

    @override
    async def configure(self, session: SessionId, *, log_level: str) -> Settings:
        await super().configure(session, log_level=log_level)
        found = self._data.live(session)
        found.settings = replace(found.settings, version=1)
        return found.settings


@must_fail(SessionStoreSuite)
class SettingsPerReplica(MemorySessionStore):
    """A setting is known where it was made."""

    def __init__(self, data: MemoryData) -> None:
        super().__init__(data)
        self._mine: dict[SessionId, Settings] = {}

    @override
    async def configure(self, session: SessionId, *, log_level: str) -> Settings:
        self._data.live(session)
        before = self._mine.get(session, Settings())
        self._mine[session] = Settings(before.version + 1, log_level)
        return self._mine[session]

    @override
    async def find(self, session: SessionId, *, owner: str | None, with_facts: bool) -> Found | None:
        found = await super().find(session, owner=owner, with_facts=with_facts)
        return found and replace(found, settings=self._mine.get(session, Settings()))


@must_fail(SessionStoreSuite)
class ConfiguringWhatIsNotThere(MemorySessionStore):
    """A setting of an unknown session is accepted."""

    @override
    async def configure(self, session: SessionId, *, log_level: str) -> Settings:
        try:
            return await super().configure(session, log_level=log_level)
        except SessionGone:
            return Settings(1, log_level)


@must_fail(SessionStoreSuite)
class FactsAsText(MemorySessionStore):
    """What the client said is stored as text."""

    @override
    async def open(self, facts: SessionFacts, *, limit: int | None) -> None:
        client = facts.client.decode(errors="replace").encode()
        await super().open(replace(facts, client=client), limit=limit)


@must_fail(SessionStoreSuite)
class ListedByAge(MemorySessionStore):
    """A listing has no order that could be continued."""

    @override
    async def list(
        self, *, owner: str | None = None, limit: int = 100, after: SessionId | None = None
    ) -> Sequence[SessionId]:
        return [session for session in self._data._sessions if after is None or session > after][:limit]


@must_fail(SessionStoreSuite)
class ListedTwice(MemorySessionStore):
    """The next page begins with the last one of the page before."""

    @override
    async def list(
        self, *, owner: str | None = None, limit: int = 100, after: SessionId | None = None
    ) -> Sequence[SessionId]:
        return await super().list(owner=owner, limit=limit, after=after and SessionId(after[:-1]))


@must_fail(SessionStoreSuite)
class EveryoneListed(MemorySessionStore):
    """The owner is not looked at."""

    @override
    async def list(
        self, *, owner: str | None = None, limit: int = 100, after: SessionId | None = None
    ) -> Sequence[SessionId]:
        return await super().list(limit=limit, after=after)


@must_fail(SessionStoreSuite)
class DeletedStillCounted(MemorySessionStore):
    """The index keeps what was deleted."""

    closed = 0

    @override
    async def close(self, session: SessionId) -> bool:
        closed = await super().close(session)
        self.closed += closed
        return closed

    @override
    async def count(self) -> int:
        return await super().count() + self.closed


@must_fail(SessionStoreSuite)
class SettledAgain(MemorySessionStore):
    """The last `initialize` wins."""

    @override
    async def settle(self, session: SessionId, *, protocol_version: str, client: bytes) -> bool:
        found = self._data.live(session)
        found.facts = replace(found.facts, protocol_version=protocol_version, client=client)
        return True


@must_fail(SessionStoreSuite)
class SettlingSaysYes(MemorySessionStore):
    """Whoever comes too late is told that it won."""

    @override
    async def settle(self, session: SessionId, *, protocol_version: str, client: bytes) -> bool:
        await super().settle(session, protocol_version=protocol_version, client=client)
        return True


@must_fail(SessionStoreSuite)
class SettledInTwoSteps(MemorySessionStore):
    """Between looking and settling there is room for others."""

    @override
    async def settle(self, session: SessionId, *, protocol_version: str, client: bytes) -> bool:
        found = self._data.live(session)
        if found.facts.protocol_version:
            return await super().settle(session, protocol_version=protocol_version, client=client)
        await anyio.lowlevel.checkpoint()
        found.facts = replace(found.facts, protocol_version=protocol_version, client=client)
        return True

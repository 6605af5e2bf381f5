"""Who is connected: one hash per session, and advisory rosters over all of them."""

import asyncio
import logging
import secrets
from collections.abc import Sequence
from typing import Any, Final

from typing_extensions import override

from holdfast.backends.redis import scripts
from holdfast.backends.redis.client import Client
from holdfast.backends.redis.keys import Keys, Roster, activity, decode, encode
from holdfast.backends.redis.rosters import Rosters
from holdfast.errors import SessionExists, SessionGone, StoreError, StoreRefused, TooManySessions
from holdfast.sessions.protocols import SessionStore
from holdfast.sessions.types import (
    GENESIS,
    Found,
    Position,
    ReplicaId,
    SessionFacts,
    SessionId,
    Settings,
    shorten,
)

__all__ = ["RedisSessionStore", "place_in"]

logger = logging.getLogger("holdfast.backends.redis")

_BATCH: Final = 256
_ADVISORY: Final = 1.25
"""The rosters are refreshed lazily: an entry outlives the last refresh by the TTL and a quarter."""


class RedisSessionStore(SessionStore):
    """Who is connected."""

    def __init__(self, client: Client, keys: Keys, replica: ReplicaId) -> None:
        self._client = client
        self._keys = keys
        self._replica = replica
        self._rosters = Rosters(client)

    @override
    async def open(self, facts: SessionFacts, *, limit: int | None) -> None:
        if not self._keys.valid(facts.id):
            raise ValueError("session id: allowed is visible ASCII without { and }")
        rosters = self._rosters_of(facts.owner)
        if not await self._rosters.add(
            rosters, facts.id, ttl_seconds=facts.ttl_seconds * _ADVISORY, limit=limit
        ):
            raise TooManySessions(f"{limit} sessions are open")
        args = (
            secrets.token_hex(8),
            encode(_owner(facts.owner)),
            facts.protocol_version,
            facts.client,
            max(1, round(facts.ttl_seconds * 1000)),
            activity("session.opened", replica=self._replica, protocol_version=facts.protocol_version),
            f"{facts.broadcast.epoch} {facts.broadcast.offset}",
        )
        keys = (*self._keys.session(facts.id), self._keys.tombstone(facts.id))
        try:
            status, *rest = await self._client.run(scripts.OPEN, keys, args, safe=True)
        except StoreRefused:
            self._release(rosters, facts.id)
            raise
        # When the outcome is unknown the reservation stays: better one too many until it expires.
        if status == b"deleted":
            self._release(rosters, facts.id)
        elif status == b"exists" and rest[0] != args[1]:
            self._release(rosters[1:], facts.id)  # it is somebody else's
        if status != b"ok":
            raise SessionExists(f"the id {shorten(facts.id)} is not free")

    @override
    async def find(self, session: SessionId, *, owner: str | None, with_facts: bool) -> Found | None:
        if not self._keys.valid(session):
            return None
        args = (encode(_owner(owner)), "1" if with_facts else "")
        reply = await self._client.run(scripts.FIND, self._keys.session(session), args, safe=True)
        if reply is None:
            return None
        settings = _settings(reply)
        if not with_facts:
            return Found(settings)
        version, client, ttl_ms, broadcast = reply[2:]
        return Found(
            settings,
            SessionFacts(session, owner, version.decode(), client, int(ttl_ms) / 1000, place_in(broadcast)),
        )

    @override
    async def settle(self, session: SessionId, *, protocol_version: str, client: bytes) -> bool:
        record = activity("session.settled", replica=self._replica, protocol_version=protocol_version)
        args = (protocol_version, client, record)
        reply = await self._client.run(scripts.SETTLE, self._keys.session(session), args, safe=True)
        if reply is None:
            raise SessionGone(f"no session {shorten(session)}")
        return bool(reply)

    @override
    async def configure(self, session: SessionId, *, log_level: str) -> Settings:
        args = (secrets.token_hex(8), encode(log_level), activity("settings.changed", log_level=log_level))
        reply = await self._client.run(scripts.CONFIGURE, self._keys.session(session), args, safe=True)
        if reply is None:
            raise SessionGone(f"no session {shorten(session)}")
        return _settings(reply)

    @override
    async def close(self, session: SessionId) -> bool:
        if not self._keys.valid(session):
            return False
        keys = (*self._keys.session(session), self._keys.tombstone(session))
        status, *rest = await self._client.run(scripts.CLOSE, keys, (secrets.token_hex(8),), safe=True)
        if status == b"ok":
            try:
                await self._forget(session, decode(rest[0]), rest[1])
            except StoreError as exc:  # it is deleted; what is left in the rosters expires
                logger.warning("session %s is not yet out of the index: %s", shorten(session), exc)
        return bool(status != b"gone")

    async def _forget(self, session: SessionId, owner: str, uris: Sequence[bytes]) -> None:
        await self._rosters.remove(self._rosters_of(owner[1:] if owner[0] == "=" else None), session)
        subscribers = [self._keys.subscribers(decode(uri)) for uri in uris]
        for start in range(0, len(subscribers), _BATCH):
            batch = subscribers[start : start + _BATCH]
            await asyncio.gather(*(self._rosters.remove([roster], session) for roster in batch))

    @override
    async def count(self) -> int:
        return await self._rosters.count(self._keys.sessions)

    @override
    async def list(
        self, *, owner: str | None = None, limit: int = 100, after: SessionId | None = None
    ) -> Sequence[SessionId]:
        roster = self._keys.sessions if owner is None else self._keys.owner(owner)
        found: list[SessionId] = []
        async for page in self._rosters.pages(roster, after=after or "", size=limit):
            found += [SessionId(member) for member in page]
            if len(found) >= limit:
                break
        return found[:limit]

    @override
    async def refresh(self, sessions: Sequence[SessionFacts]) -> None:
        for start in range(0, len(sessions), _BATCH):
            await asyncio.gather(*(self._refresh_one(facts) for facts in sessions[start : start + _BATCH]))

    async def _refresh_one(self, facts: SessionFacts) -> None:
        if not self._keys.valid(facts.id):
            return
        if await self._client.command("EXISTS", self._keys.session(facts.id).meta, safe=True):
            await self._rosters.add(
                self._rosters_of(facts.owner), facts.id, ttl_seconds=facts.ttl_seconds * _ADVISORY
            )

    def _rosters_of(self, owner: str | None) -> tuple[Roster, ...]:
        return (self._keys.sessions,) if owner is None else (self._keys.sessions, self._keys.owner(owner))

    def _release(self, rosters: Sequence[Roster], session: SessionId) -> None:
        if rosters:
            names = [name for roster in rosters for name in roster]
            self._client.post(scripts.ROSTER_REMOVE, names, (session,))


def _owner(owner: str | None) -> str:
    return "-" if owner is None else f"={owner}"


def place_in(text: bytes | None) -> Position:
    """The place in the broadcast log that stands in meta."""
    if text is None:  # opened by a release that broadcast nothing
        return GENESIS
    epoch, offset = text.decode().split(" ")
    return Position(epoch, int(offset))


def _settings(reply: Sequence[Any]) -> Settings:
    return Settings(int(reply[0]), None if reply[1] is None else decode(reply[1]))

"""Who wants to hear about which resource: a set of uris in the session, a roster of sessions per uri."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from typing import Any, Final

from typing_extensions import override

from holdfast.backends.redis import scripts
from holdfast.backends.redis.client import Client
from holdfast.backends.redis.keys import Keys, decode, encode
from holdfast.backends.redis.options import RedisOptions
from holdfast.backends.redis.rosters import Rosters
from holdfast.errors import SessionGone, StoreRefused
from holdfast.sessions.protocols import SubscriptionIndex
from holdfast.sessions.types import SessionId, shorten

__all__ = ["RedisSubscriptionIndex"]

_BATCH: Final = 256


class RedisSubscriptionIndex(SubscriptionIndex):
    """Which sessions subscribed to which resource."""

    def __init__(self, client: Client, keys: Keys, options: RedisOptions) -> None:
        self._client = client
        self._keys = keys
        self._most = options.max_subscriptions
        self._rosters = Rosters(client)

    @override
    async def add(self, session: SessionId, uri: str, *, ttl_seconds: float) -> None:
        keys = (*self._keys.session(session), self._keys.tombstone(session))
        args = (encode(uri), self._most, max(1, round(ttl_seconds * 1000)))
        status = await self._client.run(scripts.SUBSCRIBE, keys, args, safe=True)
        if status == b"gone":
            raise SessionGone(f"no session {shorten(session)}")
        if status == b"full":
            raise StoreRefused(f"the session has {self._most} subscriptions already")
        await self._rosters.add([self._keys.subscribers(uri)], session, ttl_seconds=ttl_seconds)

    @override
    async def remove(self, session: SessionId, uri: str) -> None:
        if self._keys.valid(session):
            await self._client.command("SREM", self._keys.session(session).subs, encode(uri), safe=True)
            await self._rosters.remove([self._keys.subscribers(uri)], session)

    @override
    async def drop(self, session: SessionId) -> None:
        uris = await self.uris(session)
        await _each(uris, lambda uri: self._rosters.remove([self._keys.subscribers(uri)], session))
        if uris:
            await self._client.command("UNLINK", self._keys.session(session).subs, safe=True)

    @override
    async def refresh(self, session: SessionId, *, ttl_seconds: float) -> None:
        uris = await self.uris(session)
        if uris:
            milliseconds = max(1, round(ttl_seconds * 1000))
            await self._client.command("PEXPIRE", self._keys.session(session).subs, milliseconds, safe=True)
        await _each(
            uris,
            lambda uri: self._rosters.add([self._keys.subscribers(uri)], session, ttl_seconds=ttl_seconds),
        )

    @override
    async def uris(self, session: SessionId) -> Sequence[str]:
        if not self._keys.valid(session):
            return []
        members = await self._client.command("SMEMBERS", self._keys.session(session).subs, safe=True)
        return sorted(decode(member) for member in members)

    @override
    async def sessions(self, uri: str) -> AsyncIterator[Sequence[SessionId]]:
        async for page in self._rosters.pages(self._keys.subscribers(uri)):
            yield [SessionId(member) for member in page]


async def _each(uris: Sequence[str], call: Callable[[str], Coroutine[Any, Any, object]]) -> None:
    for start in range(0, len(uris), _BATCH):
        await asyncio.gather(*(call(uri) for uri in uris[start : start + _BATCH]))

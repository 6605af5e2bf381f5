"""Answers of clients: accepted once, kept until taken, announced to the replica that waits."""

import secrets
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from typing import Final

from typing_extensions import override

from holdfast.backends.redis import scripts
from holdfast.backends.redis.client import Client
from holdfast.backends.redis.hints import Hints
from holdfast.backends.redis.keys import Keys, encode
from holdfast.errors import SessionGone
from holdfast.sessions.protocols import Inbox
from holdfast.sessions.types import ReplicaId, SessionId, shorten

__all__ = ["RedisInbox"]

_MOST_UNFINISHED: Final = 1_000


class RedisInbox(Inbox):
    """Answers of clients, on their way to the replica that waits."""

    def __init__(self, client: Client, hints: Hints, keys: Keys, replica: ReplicaId) -> None:
        self._client = client
        self._hints = hints
        self._keys = keys
        self._replica = replica
        self._unfinished: OrderedDict[bytes, str] = OrderedDict()

    @override
    async def expect(self, session: SessionId, request_id: str) -> None:
        keys = self._keys.session(session)
        if not await self._client.run(scripts.EXPECT, keys, (self._replica, encode(request_id)), safe=True):
            raise SessionGone(f"no session {shorten(session)}")

    @override
    async def put(self, session: SessionId, request_id: str, answer: bytes) -> bool:
        if not self._keys.valid(session):
            return False
        field = encode(request_id)
        args = (
            secrets.token_hex(8),
            field,
            answer,
            b"1 a %s %s" % (session.encode(), field),
            self._keys.channel_head,
            self._keys.channel_tail,
        )
        return bool(await self._client.run(scripts.PUT, self._keys.session(session), args, safe=True))

    @override
    async def take(self, session: SessionId, request_id: str) -> bytes | None:
        keys = self._keys.session(session)
        field = encode(request_id)
        # One that may have been carried out is repeated under its nonce: the answer is kept for that one.
        nonce = self._unfinished.pop(field, None) or secrets.token_hex(8)
        try:
            status, *rest = await self._client.run(scripts.TAKE, keys, (nonce, field), safe=True)
        except BaseException:
            self._unfinished[field] = nonce
            if len(self._unfinished) > _MOST_UNFINISHED:
                self._unfinished.popitem(last=False)
            raise
        if status == b"gone":
            raise SessionGone(f"no session {shorten(session)}")
        if status == b"none":
            return None
        self._client.post("HDEL", (keys.inbox,), (field,))
        answer: bytes = rest[0]
        return answer

    @override
    async def withdraw(self, session: SessionId, request_id: str) -> None:
        if not self._keys.valid(session):
            return
        keys = self._keys.session(session)
        field = encode(request_id)
        await self._client.command("HDEL", keys.asked, field, safe=True)
        await self._client.command("HDEL", keys.inbox, field, safe=True)

    @override
    @asynccontextmanager
    async def listen(self, arrived: Callable[[SessionId | None, str | None], None]) -> AsyncGenerator[None]:
        with self._hints.answers(arrived):
            await self._hints.listening()
            yield

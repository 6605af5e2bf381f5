"""`Inbox` whose answers are wrapped."""

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from typing_extensions import override

from holdfast.backends.envelope.codec import Codec, DamagedPayload, Purpose
from holdfast.errors import StoreRefused
from holdfast.sessions.protocols import Inbox
from holdfast.sessions.types import SessionId

__all__ = ["EnvelopeInbox"]


class EnvelopeInbox(Inbox):
    """Passes all calls on, answers wrapped on the way in and unwrapped on the way out."""

    def __init__(self, inner: Inbox, codec: Codec) -> None:
        self._inner = inner
        self._codec = codec

    @override
    async def expect(self, session: SessionId, request_id: str) -> None:
        await self._inner.expect(session, request_id)

    @override
    async def put(self, session: SessionId, request_id: str, answer: bytes) -> bool:
        wrapped = await self._codec.wrap(answer, _purpose(session, request_id))
        return await self._inner.put(session, request_id, wrapped)

    @override
    async def take(self, session: SessionId, request_id: str) -> bytes | None:
        wrapped = await self._inner.take(session, request_id)
        if wrapped is None:
            return None
        try:
            return await self._codec.unwrap(wrapped, _purpose(session, request_id))
        except DamagedPayload as error:
            raise StoreRefused(f"a client's answer cannot be read: {error}") from error

    @override
    async def withdraw(self, session: SessionId, request_id: str) -> None:
        await self._inner.withdraw(session, request_id)

    @override
    def listen(
        self, arrived: Callable[[SessionId | None, str | None], None]
    ) -> AbstractAsyncContextManager[None]:
        return self._inner.listen(arrived)


def _purpose(session: SessionId, request_id: str) -> Purpose:
    return Purpose(session, f"answer {request_id}")

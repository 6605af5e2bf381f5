"""Sessions as a store has them now, several at a time."""

from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from itertools import islice
from typing import Any, Final

import anyio

from holdfast.ops.transfer.records import Copy
from holdfast.sessions.protocols import Backend
from holdfast.sessions.types import SessionId

__all__ = ["listed", "look", "look_at", "together"]

_PAGE: Final = 500
_AT_ONCE: Final = 16


async def listed(backend: Backend) -> AsyncIterator[SessionId]:
    """Ids of all sessions, from the store's index."""
    after: SessionId | None = None
    while page := await backend.sessions.list(limit=_PAGE, after=after):
        for session in page:
            yield session
        after = page[-1]


async def look(backend: Backend, session: SessionId) -> Copy | None:
    """A session and its subscriptions, None if it is not there."""
    image = await backend.transfer.dump(session)
    return None if image is None else Copy(image, tuple(await backend.subscriptions.uris(session)))


async def look_at(
    backend: Backend, sessions: Iterable[SessionId]
) -> AsyncIterator[tuple[SessionId, Copy | None]]:
    """Each session as it is in the store, in the given order."""
    rest = iter(sessions)
    while batch := list(islice(rest, _AT_ONCE)):
        found: dict[SessionId, Copy | None] = {}

        async def one(session: SessionId, found: dict[SessionId, Copy | None] = found) -> None:
            found[session] = await look(backend, session)

        await together(one, batch)
        for session in batch:
            yield session, found[session]


async def together(
    work: Callable[[SessionId], Coroutine[Any, Any, None]], sessions: Iterable[SessionId]
) -> None:
    """Do the same for many sessions, some at a time: a store is far away, and has time for several."""
    rest = iter(sessions)
    while batch := list(islice(rest, _AT_ONCE)):
        async with anyio.create_task_group() as tasks:
            for session in batch:
                tasks.start_soon(work, session)

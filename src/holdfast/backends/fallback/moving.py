"""Sessions out of memory, into the store."""

import logging
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

from holdfast.errors import SessionExists
from holdfast.sessions.image import SessionImage
from holdfast.sessions.protocols import Backend
from holdfast.sessions.types import Position, SessionId, advisory_ttl, shorten

__all__ = ["Mover"]

logger = logging.getLogger("holdfast")

_PAGE: Final = 500


class Mover:
    """Carries sessions over. May be tried again when the store failed in the middle.

    Attributes:
        kept_back: how many sessions the store had others of.
    """

    def __init__(self, source: Backend) -> None:
        self.kept_back = 0
        self._source = source
        self._moved: dict[SessionId, SessionImage] = {}

    async def move(self, target: Backend, heard: Position) -> int:
        """Carry all sessions over, and return how many. Nothing must change in the source meanwhile.

        Args:
            target: where to.
            heard: the place in its broadcast log from which on they hear what is said to all.

        Raises:
            StoreError: the store failed; call again.
        """
        self.kept_back = 0
        here: set[SessionId] = set()
        async for session in self._sessions():
            here.add(session)
            await self._move(session, target, heard)
        for session in self._moved.keys() - here:  # deleted since an earlier try
            await target.sessions.close(session)
            del self._moved[session]
        return len(here) - self.kept_back

    async def _sessions(self) -> AsyncIterator[SessionId]:
        after: SessionId | None = None
        while page := await self._source.sessions.list(limit=_PAGE, after=after):
            for session in page:
                yield session
            after = page[-1]

    async def _move(self, session: SessionId, target: Backend, heard: Position) -> None:
        image = await self._source.transfer.dump(session)
        if image is None:
            return
        image = replace(image, facts=replace(image.facts, broadcast=heard))
        try:
            await target.transfer.restore(image, over=self._moved.get(session))
        except SessionExists:
            self.kept_back += 1
            logger.warning("session %s stays behind: the store has another one of that id", shorten(session))
            return
        self._moved[session] = image
        for uri in await self._source.subscriptions.uris(session):
            await target.subscriptions.add(session, uri, ttl_seconds=advisory_ttl(image.facts))

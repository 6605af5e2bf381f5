"""From the file into a store that may be in use: what is missing there, or an earlier copy of the same."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from holdfast.errors import SessionExists
from holdfast.ops.transfer.archive import Archive
from holdfast.ops.transfer.looking import look, together
from holdfast.ops.transfer.records import Copy, Counts, image_of
from holdfast.sessions.protocols import Backend
from holdfast.sessions.types import SessionId, advisory_ttl

__all__ = ["Imported", "import_sessions"]


@dataclass(slots=True)
class Imported:
    """How it went.

    Attributes:
        wanted: what of the file should be in the store afterwards.
        verified: what of it is there, read back from the store.
        restored: sessions that were not there.
        updated: sessions of which an earlier copy was there.
        ended: sessions that were there from an earlier import, and are gone where they came from.
        expired: sessions of the file whose time has run out since the export.
        kept: sessions that are left as they are in the store, because they were used or deleted there.
    """

    wanted: Counts = field(default_factory=Counts)
    verified: Counts = field(default_factory=Counts)
    restored: int = 0
    updated: int = 0
    ended: int = 0
    expired: int = 0
    kept: list[SessionId] = field(default_factory=list[SessionId])

    @property
    def correct(self) -> bool:
        """Whether all that was wanted is there."""
        return self.wanted == self.verified


async def import_sessions(backend: Backend, archive: Archive, *, step: Callable[[], object]) -> Imported:
    """Bring the store up to date; `step` is called once for each session in the file."""
    result = Imported()

    async def bring(session: SessionId) -> None:
        copy = archive.copy(session)
        if copy.image.facts.ttl_seconds < time.time() - (archive.passed_at or 0.0):
            result.expired += 1
        else:
            await _bring(backend, copy, archive.sessions[session].digests, result)
        step()

    async def end(session: SessionId) -> None:
        await _end(backend, session, archive.sessions[session].digests, result)
        step()

    await together(bring, archive.living())
    await together(end, archive.ended())
    return result


async def _bring(backend: Backend, copy: Copy, digests: list[str], result: Imported) -> None:
    """Put a session into the store, unless something else is there."""
    there = await look(backend, copy.id)
    digest = "" if there is None else there.digest()
    if digest != digests[-1]:
        if not await _replace(backend, copy, there, digest, digests):
            result.kept.append(copy.id)
            return
        result.restored += there is None
        result.updated += there is not None
        there = await look(backend, copy.id)
        digest = "" if there is None else there.digest()
    result.wanted.add(copy)
    if there is not None and digest == digests[-1]:
        result.verified.add(there)


async def _replace(backend: Backend, copy: Copy, there: Copy | None, digest: str, digests: list[str]) -> bool:
    """Restore a session where none is, or an earlier copy of it; whether that could be done."""
    if there is not None and image_of(digest) not in map(image_of, digests):
        return False
    if image_of(digest) != image_of(digests[-1]):
        try:
            await backend.transfer.restore(copy.image, over=None if there is None else there.image)
        except SessionExists:
            return False
    await _subscribe(backend, copy, set() if there is None else set(there.subscriptions))
    return True


async def _subscribe(backend: Backend, copy: Copy, present: set[str]) -> None:
    wanted, ttl_seconds = set(copy.subscriptions), advisory_ttl(copy.image.facts)
    for uri in wanted:
        await backend.subscriptions.add(copy.id, uri, ttl_seconds=ttl_seconds)
    for uri in present - wanted:
        await backend.subscriptions.remove(copy.id, uri)


async def _end(backend: Backend, session: SessionId, digests: list[str], result: Imported) -> None:
    """Delete what an earlier import brought, unless somebody used it since."""
    there = await look(backend, session)
    if there is None:
        return
    if image_of(there.digest()) in map(image_of, digests):
        await backend.sessions.close(session)
        result.ended += 1
    else:
        result.kept.append(session)

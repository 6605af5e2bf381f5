"""One pass over a store that may be in use: what is new or changed since the last one goes into the file."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from holdfast.ops.transfer.archive import Archive, open_archive
from holdfast.ops.transfer.looking import listed, look_at
from holdfast.ops.transfer.records import Counts
from holdfast.sessions.protocols import Backend

__all__ = ["Exported", "export_sessions"]


@dataclass(slots=True)
class Exported:
    """How a pass went.

    Attributes:
        found: what is in the store.
        verified: what the file holds, read back from it.
        written: sessions that were new or changed.
        ended: sessions in the file that are gone.
    """

    found: Counts = field(default_factory=Counts)
    verified: Counts = field(default_factory=Counts)
    written: int = 0
    ended: int = 0

    @property
    def correct(self) -> bool:
        """Whether the file holds what was found."""
        return self.found == self.verified


async def export_sessions(backend: Backend, archive: Archive, *, step: Callable[[], object]) -> Exported:
    """Bring the file up to date; `step` is called once for each session in the store."""
    result = Exported()
    ids = [session async for session in listed(backend)]
    # The index may lag behind: what the file has and the index does not is looked for.
    missing = set(archive.living()) - set(ids)
    async for session, copy in look_at(backend, [*ids, *missing]):
        if copy is not None:
            result.found.add(copy)
            result.written += archive.write(copy)
        elif session in missing:
            archive.end(session)
            result.ended += 1
        step()
    archive.complete_pass(time.time(), result.found)
    _verify(archive, result)
    return result


def _verify(archive: Archive, result: Exported) -> None:
    """Count what somebody would find who opened the file now."""
    with open_archive(archive.path, source=None) as written:
        for session in written.living():
            copy = written.copy(session)
            if copy.digest() == written.sessions[session].digests[-1]:
                result.verified.add(copy)

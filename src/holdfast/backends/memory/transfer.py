"""`Transfer` in memory."""

from typing import Final

from typing_extensions import override

from holdfast.backends.memory.data import Holder, MemoryData, Session, Waiting
from holdfast.errors import SessionExists
from holdfast.sessions.image import AskedImage, SessionImage
from holdfast.sessions.protocols import Transfer
from holdfast.sessions.types import ReplicaId, SessionId, StreamId

__all__ = ["MemoryTransfer"]

_LONG_AGO: Final = float("-inf")


class MemoryTransfer(Transfer):
    """Whole sessions out of this store, and into it."""

    def __init__(self, data: MemoryData) -> None:
        self._data = data

    @override
    async def dump(self, session: SessionId) -> SessionImage | None:
        found = self._data.get(session)
        return None if found is None else _image(found)

    @override
    async def restore(self, image: SessionImage, *, over: SessionImage | None = None) -> None:
        there = self._data.get(image.facts.id)
        if there is not None and over is not None and _image(there).state == over.state:
            self._data.forget(there)
        elif self._data.used(image.facts.id):
            raise SessionExists
        session = self._data.restore(image)
        session.settings = image.settings
        streams: dict[int | None, StreamId] = {event.position.offset: event.stream for event in image.events}
        for asked in image.asked:
            session.waiting[asked.request_id] = Waiting(
                asked.replica, asked.offset, asked.answer, streams.get(asked.offset)
            )
        if image.holder is not None:
            session.holder = Holder(*image.holder, since=_LONG_AGO)


def _image(session: Session) -> SessionImage:
    log, holder = session.log, session.holder
    events = log.events
    kept = {event.position.offset for event in events}
    return SessionImage(
        session.facts,
        session.settings,
        log.epoch,
        log.top.offset,
        log.fences,
        log.streams,
        events,
        tuple(_asked(name, waiting, kept) for name, waiting in sorted(session.waiting.items())),
        None if holder is None else (holder.replica, holder.reader),
    )


def _asked(name: str, waiting: Waiting, kept: set[int]) -> AskedImage:
    if waiting.answer is not None:
        return AskedImage(name, ReplicaId(""), answer=waiting.answer)
    return AskedImage(name, waiting.replica, waiting.offset if waiting.offset in kept else None)

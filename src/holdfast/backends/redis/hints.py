"""Hints for this replica: one channel, handed out to those who wait for events or for answers."""

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeAlias

from holdfast.backends.redis.announcements import Announcements
from holdfast.backends.redis.keys import decode
from holdfast.sessions.types import Event, Position, SessionId, StreamId

__all__ = ["Hints"]

logger = logging.getLogger("holdfast.backends.redis")

Arrived: TypeAlias = Callable[[SessionId | None, str | None], None]
Heard: TypeAlias = Callable[[Event | None], None]

_PARTS_OF_ANSWER = 4
_PARTS_OF_EVENT = 9


class Hints:
    """Who in this process wants to be woken. The text of hints is described in `keys.py`.

    Attributes:
        probed: called with each probe, which is a hint of this process to itself.
    """

    def __init__(self, announcements: Announcements) -> None:
        self._announcements = announcements
        self._heard: dict[str, list[Heard]] = {}
        self._arrived: list[Arrived] = []
        self.probed: Callable[[bytes], None] | None = None

    async def listening(self) -> None:
        """Return when hints really arrive; raises `StoreUnavailable`."""
        await self._announcements.listening()

    @contextmanager
    def events(self, session: SessionId, heard: Heard) -> Generator[None]:
        """Call `heard` for each hint about `session`, with the event if it is in there."""
        listeners = self._heard.setdefault(session, [])
        listeners.append(heard)
        try:
            yield
        finally:
            listeners.remove(heard)
            if not listeners and self._heard.get(session) is listeners:
                del self._heard[session]

    @contextmanager
    def answers(self, arrived: Arrived) -> Generator[None]:
        """Call `arrived` for each answer."""
        self._arrived.append(arrived)
        try:
            yield
        finally:
            self._arrived.remove(arrived)

    def watches(self, session: SessionId) -> bool:
        """Whether anybody here waits for events of `session`."""
        return session in self._heard

    def only_one_watches(self, session: SessionId) -> bool:
        """Whether it is exactly one."""
        return len(self._heard.get(session, ())) == 1

    def watched(self) -> list[SessionId]:
        """The sessions whose events somebody here waits for."""
        return [SessionId(session) for session in self._heard]

    def receive(self, hint: bytes) -> None:
        """Hand one hint out."""
        if hint.startswith(b"1 e "):
            parts = hint.split(b" ", _PARTS_OF_EVENT - 1)
            self._hear(parts[2].decode(), _event(parts) if len(parts) == _PARTS_OF_EVENT else None)
            return
        parts = hint.split(b" ", _PARTS_OF_ANSWER - 1)
        if len(parts) == _PARTS_OF_ANSWER and parts[:2] == [b"1", b"a"]:
            self._arrive(SessionId(parts[2].decode()), decode(parts[3]))
        elif parts[:2] == [b"1", b"p"]:
            if self.probed is not None:
                self.probed(hint)
        else:
            self.everything()  # a newer release sent it

    def everything(self) -> None:
        """Hints may have been lost: everybody looks again."""
        for session in list(self._heard):
            self._hear(session, None)
        self._arrive(None, None)

    def _hear(self, session: str, event: Event | None) -> None:
        for heard in tuple(self._heard.get(session, ())):
            try:
                heard(event)
            except Exception:  # the border of the fan-out
                logger.exception("a reader's wake-up raised")

    def _arrive(self, session: SessionId | None, request_id: str | None) -> None:
        for arrived in tuple(self._arrived):
            try:
                arrived(session, request_id)
            except Exception:  # the border of the fan-out
                logger.exception("a listener for answers raised")


def _event(parts: list[bytes]) -> Event:
    """The event in a hint."""
    _, _, _, epoch, offset, previous, flag, length, rest = parts
    end = int(length)
    position = Position(epoch.decode(), int(offset))
    return Event(StreamId(decode(rest[:end])), position, int(previous), rest[end:], flag == b"f")

"""Hints for this replica: one channel, handed out to those who wait for events or for answers."""

import logging
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import TypeAlias

from holdfast.backends.redis.announcements import Announcements
from holdfast.backends.redis.keys import decode
from holdfast.sessions.types import SessionId

__all__ = ["Hints"]

logger = logging.getLogger("holdfast.backends.redis")

Arrived: TypeAlias = Callable[[SessionId | None, str | None], None]
Wake: TypeAlias = Callable[[], None]

_PARTS_OF_ANSWER = 4


class Hints:
    """Who in this process wants to be woken. The text of hints is described in `keys.py`.

    Attributes:
        probed: called with each probe, which is a hint of this process to itself.
    """

    def __init__(self, announcements: Announcements) -> None:
        self._announcements = announcements
        self._wakes: dict[str, list[Wake]] = {}
        self._arrived: list[Arrived] = []
        self.probed: Callable[[bytes], None] | None = None

    async def listening(self) -> None:
        """Return when hints really arrive; raises `StoreUnavailable`."""
        await self._announcements.listening()

    @contextmanager
    def events(self, session: SessionId, wake: Wake) -> Generator[None]:
        """Call `wake` for each hint about `session`."""
        wakes = self._wakes.setdefault(session, [])
        wakes.append(wake)
        try:
            yield
        finally:
            wakes.remove(wake)
            if not wakes and self._wakes.get(session) is wakes:
                del self._wakes[session]

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
        return session in self._wakes

    def only_one_watches(self, session: SessionId) -> bool:
        """Whether it is exactly one."""
        return len(self._wakes.get(session, ())) == 1

    def watched(self) -> list[SessionId]:
        """The sessions whose events somebody here waits for."""
        return [SessionId(session) for session in self._wakes]

    def receive(self, hint: bytes) -> None:
        """Hand one hint out."""
        parts = hint.split(b" ", _PARTS_OF_ANSWER - 1)
        if len(parts) >= 3 and parts[:2] == [b"1", b"e"]:  # noqa: PLR2004 - version, kind, session
            self._wake(parts[2].decode())
        elif len(parts) == _PARTS_OF_ANSWER and parts[:2] == [b"1", b"a"]:
            self._arrive(SessionId(parts[2].decode()), decode(parts[3]))
        elif parts[:2] == [b"1", b"p"]:
            if self.probed is not None:
                self.probed(hint)
        else:
            self.everything()  # a newer release sent it

    def everything(self) -> None:
        """Hints may have been lost: everybody looks again."""
        for session in list(self._wakes):
            self._wake(session)
        self._arrive(None, None)

    def _wake(self, session: str) -> None:
        for wake in tuple(self._wakes.get(session, ())):
            try:
                wake()
            except Exception:  # the border of the fan-out
                logger.exception("a reader's wake-up raised")

    def _arrive(self, session: SessionId | None, request_id: str | None) -> None:
        for arrived in tuple(self._arrived):
            try:
                arrived(session, request_id)
            except Exception:  # the border of the fan-out
                logger.exception("a listener for answers raised")

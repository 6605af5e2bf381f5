"""Hints for this replica, handed out to those who wait for events or for answers. Lives in the event loop.

A datagram is `1` and then one hint a line: `e <session>` an event, `a <session> <id as JSON>` an answer,
`b` a message on the bus, `c <epoch>/<offset> <payload as base64>` an event for all sessions, without the last
word if that is big. What is not understood means "look at everything": a newer release sent it.
"""

import json
import logging
from binascii import a2b_base64, b2a_base64
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from holdfast.backends.sqlite.text import decode
from holdfast.sessions.types import BROADCAST, Event, Position, SessionId

__all__ = ["BUS", "EVERYTHING", "Hints", "answer_hint", "broadcast_hint", "datagram", "event_hint"]

logger = logging.getLogger("holdfast.backends.sqlite")

Arrived: TypeAlias = Callable[[SessionId | None, str | None], None]
Heard: TypeAlias = Callable[[Event | None], None]

BUS: Final = b"b"
EVERYTHING: Final = b"x"

_VERSION: Final = b"1\n"


def event_hint(session: str) -> bytes:
    """There is a new event in the session."""
    return b"e %s" % session.encode()


def answer_hint(session: str, request: bytes) -> bytes:
    """There is an answer to the request."""
    return b"a %s %s" % (session.encode(), json.dumps(decode(request)).encode())


def broadcast_hint(event: Event, inline_bytes: int) -> bytes:
    """There is a new event for all sessions."""
    hint = b"c %s/%d" % (event.position.epoch.encode(), event.position.offset)
    if len(event.payload) > inline_bytes:
        return hint
    return hint + b" " + b2a_base64(event.payload, newline=False)


def datagram(hints: Iterable[bytes]) -> bytes:
    """Hints as one message."""
    return _VERSION + b"\n".join(hints)


@dataclass(slots=True)
class _Watched:
    """A session that somebody here waits for.

    Attributes:
        reached: its top when that was last looked at.
        own: events of this replica since then. They need no hint.
    """

    heard: list[Heard] = field(default_factory=list[Heard])
    reached: int = 0
    own: int = 0


class Hints:
    """Who in this process wants to be woken.

    Args:
        look_at_bus: called when there is a message on the bus.
    """

    def __init__(self, look_at_bus: Callable[[], None]) -> None:
        self._look_at_bus = look_at_bus
        self._watched: dict[str, _Watched] = {}
        self._arrived: list[Arrived] = []
        self._heard: list[Heard] = []
        self._broadcast_top = ("", 0)

    @contextmanager
    def events(self, session: SessionId, heard: Heard) -> Generator[None]:
        """Call `heard` for each hint about `session`."""
        watched = self._watched.setdefault(session, _Watched())
        watched.heard.append(heard)
        try:
            yield
        finally:
            watched.heard.remove(heard)
            if not watched.heard and self._watched.get(session) is watched:
                del self._watched[session]

    @contextmanager
    def answers(self, arrived: Arrived) -> Generator[None]:
        """Call `arrived` for each answer."""
        self._arrived.append(arrived)
        try:
            yield
        finally:
            self._arrived.remove(arrived)

    @contextmanager
    def broadcasts(self, heard: Heard) -> Generator[None]:
        """Call `heard` for each event for all sessions."""
        self._heard.append(heard)
        try:
            yield
        finally:
            self._heard.remove(heard)

    @property
    def wanted(self) -> bool:
        """Whether anybody here waits for events or answers."""
        return bool(self._watched or self._arrived or self._heard)

    def watched(self) -> list[str]:
        """The sessions whose events somebody here waits for."""
        return list(self._watched)

    def reached(self, session: SessionId, top: int) -> None:
        """Somebody here has looked: what is up to `top` needs no hint."""
        watched = self._watched.get(session)
        if watched is not None and top > watched.reached:
            watched.reached, watched.own = top, 0

    def own_event(self, session: SessionId) -> None:
        """This replica has appended."""
        watched = self._watched.get(session)
        if watched is not None:
            watched.own += 1

    def receive(self, datagrams: Iterable[bytes]) -> None:
        """Hand hints out."""
        hints: dict[bytes, None] = {}
        for data in datagrams:
            if data.startswith(_VERSION):
                hints.update(dict.fromkeys(data[len(_VERSION) :].split(b"\n")))
            elif data:
                hints[EVERYTHING] = None
        for hint in hints:
            self._receive(hint)

    def compare(
        self, tops: Mapping[str, int], answered: Iterable[tuple[str, str]], broadcast_top: tuple[str, int]
    ) -> None:
        """What is in the file, to find out what no hint told of."""
        if broadcast_top != self._broadcast_top:
            self._broadcast_top = broadcast_top
            self._hear(None)
        for session, top in tops.items():
            watched = self._watched.get(session)
            # Offsets are dense: what this replica did not append, somebody else did.
            if watched is not None and top != watched.reached:
                foreign = top != watched.reached + watched.own
                watched.reached, watched.own = top, 0
                if foreign:
                    self._wake(session)
        for session, request in answered:
            self._arrive(SessionId(session), request)
        self._look_at_bus()

    def everything(self) -> None:
        """Hints may have been lost: everybody looks again."""
        for session in list(self._watched):
            self._wake(session)
        self._arrive(None, None)
        self._hear(None)
        self._look_at_bus()

    def _receive(self, hint: bytes) -> None:
        match hint.split(b" ", 2):
            case [b"e", session]:
                self._wake(session.decode())
            case [b"a", session, request]:
                self._arrive(SessionId(session.decode()), json.loads(request))
            case [b"b"]:
                self._look_at_bus()
            case [b"c", _]:
                self._hear(None)
            case [b"c", place, payload]:
                epoch, _, offset = place.decode().partition("/")
                self._broadcast_top = (epoch, int(offset))
                position = Position(*self._broadcast_top)
                self._hear(Event(BROADCAST, position, position.offset - 1, a2b_base64(payload)))
            case _:
                self.everything()

    def _wake(self, session: str) -> None:
        watched = self._watched.get(session)
        for heard in tuple(watched.heard) if watched is not None else ():
            try:
                heard(None)
            except Exception:  # the border of the fan-out
                logger.exception("a reader's wake-up raised")

    def _hear(self, event: Event | None) -> None:
        for heard in tuple(self._heard):
            try:
                heard(event)
            except Exception:  # the border of the fan-out
                logger.exception("a listener for broadcasts raised")

    def _arrive(self, session: SessionId | None, request_id: str | None) -> None:
        for arrived in tuple(self._arrived):
            try:
                arrived(session, request_id)
            except Exception:  # the border of the fan-out
                logger.exception("a listener for answers raised")

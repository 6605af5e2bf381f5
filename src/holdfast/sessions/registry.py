"""Finding a session on any replica: who it is, whether the asking principal owns it, that it lives."""

import re
import secrets
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from holdfast.errors import PositionLost, SessionGone, StoreUnavailable
from holdfast.observe import NOBODY, Observer
from holdfast.sessions.breaker import Breaker
from holdfast.sessions.protocols import Backend, EventLog
from holdfast.sessions.types import STANDALONE, Position, Session, SessionFacts, SessionId, Settings

__all__ = [
    "HOLD_LISTENER_SECONDS",
    "HOLD_SECONDS",
    "Registry",
    "check_session_id",
    "mint_session_id",
    "session_exists",
]

_SESSION_ID: Final = re.compile(r"[\x21-\x7a\x7c\x7e]{1,128}", re.ASCII)
"""Visible ASCII but for braces, which would break the slot that a session's keys share."""

HOLD_SECONDS: Final = 2.0
"""How long a request waits for a store that is away before it is refused."""

HOLD_LISTENER_SECONDS: Final = 10.0
"""How long who only wants to listen waits: nothing is held up by that."""

_GENERATION_SESSIONS: Final = 20_000
_GENERATION_SECONDS: Final = 150.0


def mint_session_id() -> SessionId:
    """A new unguessable id (192 bits)."""
    return SessionId(secrets.token_hex(24))


def check_session_id(text: str) -> SessionId:
    """`text` as the id of a session.

    Raises:
        ValueError: no session can have this id. The message does not repeat it.
    """
    if _SESSION_ID.fullmatch(text) is None:
        raise ValueError("session id: expected 1 to 128 visible ASCII characters without { and }")
    return SessionId(text)


async def session_exists(log: EventLog, session_id: str) -> bool:
    """Whether a session is there, whoever owns it. Being asked does not keep it alive."""
    try:
        await log.read(check_session_id(session_id), STANDALONE, after=Position("-", 0), limit=1)
    except (SessionGone, ValueError):
        return False
    except PositionLost:
        return True
    return True


class Registry:
    """Opens, finds and closes sessions.

    What never changes in a session is cached; whether it lives is asked of the store every time. The cache
    has two generations: who is used is in the young one, which becomes the old one when it has had its time
    or is full, and the old one is forgotten then. So an idle session needs neither a timer nor a time stamp.
    """

    def __init__(
        self,
        backend: Backend,
        observer: Observer = NOBODY,
        *,
        breaker: Breaker | None = None,
        max_sessions: int | None = None,
    ) -> None:
        self._store = backend.sessions
        self._broadcasts = backend.broadcasts
        self._observer = observer
        self._breaker = breaker or Breaker()
        self._max_sessions = max_sessions
        self._young: dict[SessionId, SessionFacts] = {}
        self._old: dict[SessionId, SessionFacts] = {}
        self._young_since = time.monotonic()
        self._used: dict[SessionId, SessionFacts] = {}

    async def open(self, facts: SessionFacts) -> SessionFacts:
        """Create a session, and return it with the place from which on it hears what is broadcast.

        Raises:
            TooManySessions: `max_sessions` over the fleet is reached.
            StoreUnavailable: the store is away, and did not come back within `HOLD_SECONDS`.
        """
        await self._breaker.hold(HOLD_SECONDS)
        facts = replace(facts, broadcast=await self._broadcasts.top())
        await self._store.open(facts, limit=self._max_sessions)
        self._remember(facts)
        self._observer.session_opened(facts.id)
        return facts

    async def find(self, session: str, owner: str | None, *, hold_seconds: float = HOLD_SECONDS) -> Session:
        """The live session that `owner` opened, its expiry slid: one round trip.

        While the store is away this waits up to `hold_seconds` for its return: clients give up after two
        quick failures.

        Raises:
            SessionGone: unknown, expired, deleted or somebody else's.
            StoreUnavailable: the store cannot say.
        """
        session = SessionId(session)
        facts = self._young.get(session) or self._old.get(session)
        if facts is None and _SESSION_ID.fullmatch(session) is None:
            raise SessionGone("no such session")
        try:
            found = await self._store.find(session, owner=owner, with_facts=facts is None)
        except StoreUnavailable:
            if not self._breaker.open:
                raise
            await self._breaker.hold(hold_seconds)
            found = await self._store.find(session, owner=owner, with_facts=facts is None)
        if found is None:  # what is cached stays: it may be a stranger who asks for a living session
            raise SessionGone("no such session")
        facts = facts or found.facts
        if facts is None:
            raise SessionGone("no such session")
        self._remember(facts)
        return Session(facts, found.settings)

    async def settle(self, session: SessionId, *, protocol_version: str, client: bytes) -> bool:
        """Give a session what its `initialize` negotiated. False: another one was first."""
        return await self._store.settle(session, protocol_version=protocol_version, client=client)

    async def set_log_level(self, session: SessionId, level: str) -> Settings:
        """Store the log level that the client asked for, for all replicas."""
        return await self._store.configure(session, log_level=level)

    async def close(self, session: SessionId) -> bool:
        """Delete a session for good. False: it was not there."""
        self.forget(session)
        return await self._store.close(session)

    def forget(self, session: SessionId) -> None:
        """Drop what is cached of a session that ended."""
        self._used.pop(session, None)
        young, old = self._young.pop(session, None), self._old.pop(session, None)
        if young is not None or old is not None:
            self._observer.session_ended(session)

    def mark_used(self, sessions: Iterable[SessionId]) -> None:
        """These sessions have an open stream or a running request here."""
        # All are looked up first: remembering some may drop what is old.
        used = [self._young.get(session) or self._old.get(session) for session in sessions]
        for facts in used:
            if facts is not None:
                self._remember(facts)

    def forget_idle(self) -> None:
        """Drop what is cached of sessions that were not used for a few minutes; to be called now and then."""
        if time.monotonic() - self._young_since >= _GENERATION_SECONDS:
            self._next_generation()

    async def refresh_index(self) -> Sequence[SessionFacts]:
        """Keep the sessions that were used here since the last call in the index, and return them."""
        used, self._used = self._used, {}
        try:
            if used:
                await self._store.refresh(list(used.values()))
        except BaseException:
            self._used = used | self._used
            raise
        return list(used.values())

    def _remember(self, facts: SessionFacts) -> None:
        self._used[facts.id] = facts
        if not facts.protocol_version:
            return  # not settled yet
        self._young[facts.id] = facts
        if len(self._young) >= _GENERATION_SESSIONS:
            self._next_generation()

    def _next_generation(self) -> None:
        self._young, self._old = {}, self._young
        self._young_since = time.monotonic()

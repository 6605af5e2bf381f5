"""Waiting for the client's answer to a request of the server, on whichever replica it is posted."""

import secrets
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final

import anyio

from holdfast.errors import StoreUnavailable
from holdfast.sessions import protocols
from holdfast.sessions.types import ReplicaId, SessionId

__all__ = ["Waiter", "WaitingRoom", "writer_of"]

_LOOK_AGAIN_SECONDS: Final = 5.0
"""A hint may be lost. An answer that is there is found at the latest after this."""


def writer_of(request_id: object) -> ReplicaId | None:
    """The replica that minted the id of a request to the client, None if no replica can have."""
    if not isinstance(request_id, str):
        return None
    replica, dot, token = request_id.partition(".")
    return ReplicaId(replica) if dot and token else None


class Waiter:
    """One request to the client that a handler in this process waits for."""

    def __init__(
        self, session: SessionId, request_id: str, on_progress: Callable[[Mapping[str, Any]], None] | None
    ) -> None:
        self.session = session
        self.request_id = request_id
        self.on_progress = on_progress
        self._arrived = anyio.Event()

    def look(self) -> None:
        """The answer may be there."""
        self._arrived.set()

    async def answer(self, inbox: protocols.Inbox) -> bytes:
        """Wait for the answer and take it out of the store.

        Raises:
            SessionGone: the session ended.
        """
        while True:
            with anyio.move_on_after(_LOOK_AGAIN_SECONDS):
                await self._arrived.wait()
            self._arrived = anyio.Event()
            try:
                answer = await inbox.take(self.session, self.request_id)
            except StoreUnavailable:
                continue  # whoever waits for a person can wait for the store
            if answer is not None:
                return answer


class WaitingRoom:
    """The waiters of this process, by the ids of their requests."""

    def __init__(self, inbox: protocols.Inbox, replica: ReplicaId) -> None:
        self.inbox = inbox
        self._replica = replica
        self._waiters: dict[str, Waiter] = {}

    @contextmanager
    def waiting(
        self, session: SessionId, on_progress: Callable[[Mapping[str, Any]], None] | None = None
    ) -> Generator[Waiter]:
        """Mint an id that carries this replica and cannot be guessed, and wait under it."""
        waiter = Waiter(session, f"{self._replica}.{secrets.token_urlsafe(12)}", on_progress)
        self._waiters[waiter.request_id] = waiter
        try:
            yield waiter
        finally:
            del self._waiters[waiter.request_id]

    def arrived(self, session: SessionId | None, request_id: str | None) -> None:
        """An answer is there, or (None) some may be: wake who waits."""
        if request_id is None:
            for waiter in self._waiters.values():
                waiter.look()
            return
        addressed = self._waiters.get(request_id)
        if addressed is not None and addressed.session == session:
            addressed.look()

    def progressed(self, session: SessionId, request_id: str, params: Mapping[str, Any]) -> None:
        """The client reported progress on a request of this replica."""
        waiter = self._waiters.get(request_id)
        if waiter is not None and waiter.session == session and waiter.on_progress is not None:
            waiter.on_progress(params)

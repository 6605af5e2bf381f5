"""The requests whose handlers run in this process, and how they are cancelled from anywhere."""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

import anyio

from holdfast.sessions.types import RequestId, SessionId

__all__ = ["Running", "RunningRequest"]


@dataclass(eq=False, slots=True)
class RunningRequest:
    """One handler at work.

    Attributes:
        session: whose request it is.
        request_id: its id, type-exact; None: it handles a notification.
        cancelled: the client cancelled it.
        session_ended: its session was deleted.
        scope: cancels the handler.
    """

    session: SessionId
    request_id: RequestId | None
    cancelled: bool = False
    session_ended: bool = False
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)


class Running:
    """The handlers at work in this process, by session."""

    def __init__(self) -> None:
        self._by_session: dict[SessionId, set[RunningRequest]] = {}
        self._asking: Counter[SessionId] = Counter()
        self._emptied = anyio.Event()

    @contextmanager
    def enter(self, session: SessionId, request_id: RequestId | None) -> Generator[RunningRequest]:
        """Register a handler for as long as the context lasts; None for that of a notification."""
        request = RunningRequest(session, request_id)
        self._by_session.setdefault(session, set()).add(request)
        try:
            yield request
        finally:
            requests = self._by_session[session]
            requests.discard(request)
            if not requests:
                del self._by_session[session]
            if not self._by_session:
                self._emptied.set()

    async def empty(self) -> None:
        """Wait until no handler is at work."""
        while self._by_session:
            self._emptied = anyio.Event()
            await self._emptied.wait()

    @contextmanager
    def asking(self, session: SessionId) -> Generator[None]:
        """A handler waits for the client: that is no activity, and must not keep the session alive."""
        self._asking[session] += 1
        try:
            yield
        finally:
            self._asking[session] -= 1
            if not self._asking[session]:
                del self._asking[session]

    def busy_sessions(self) -> list[SessionId]:
        """Sessions with a handler at work here, and not only waiting for its client."""
        return [s for s, requests in self._by_session.items() if len(requests) > self._asking[s]]

    def runs(self, session: SessionId) -> bool:
        """Whether a handler of this session is at work here."""
        return session in self._by_session

    def __len__(self) -> int:
        """How many handlers are at work."""
        return sum(map(len, self._by_session.values()))

    def cancel(self, session: SessionId, request_id: RequestId) -> None:
        """The client cancelled a request. `1` and `"1"` are two requests."""
        for request in self._by_session.get(session, ()):
            if request.request_id == request_id and type(request.request_id) is type(request_id):
                request.cancelled = True
                request.scope.cancel()

    def end(self, session: SessionId) -> None:
        """A session ended: so do its requests."""
        for request in self._by_session.get(session, ()):
            request.session_ended = True
            request.scope.cancel()

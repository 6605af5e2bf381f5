"""The requests whose handlers run in this process, and how they are cancelled from anywhere."""

from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from types import TracebackType
from typing import Self

import anyio

from holdfast.sessions.types import RequestId, SessionId

__all__ = ["Running", "RunningRequest"]


class RunningRequest:
    """One handler at work: registered for as long as it is entered.

    Attributes:
        session: whose request it is.
        request_id: its id, type-exact; None: it handles a notification.
        cancelled: the client cancelled it.
        session_ended: its session was deleted.
        scope: cancels the handler. What cancels the task around it does not: a handler belongs to its
            session, and goes on when the connection that brought the request is given up.
    """

    __slots__ = ("_all", "cancelled", "request_id", "scope", "session", "session_ended")

    def __init__(
        self,
        registered: "Running",
        session: SessionId,
        request_id: RequestId | None,
        scope: anyio.CancelScope,
    ) -> None:
        self.session = session
        self.request_id = request_id
        self.cancelled = False
        self.session_ended = False
        self.scope = scope
        self._all = registered

    def __enter__(self) -> Self:
        """The handler begins."""
        self._all.add(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """The handler has ended."""
        self._all.remove(self)


class Running:
    """The handlers at work in this process, by session."""

    def __init__(self) -> None:
        self._by_session: dict[SessionId, set[RunningRequest]] = {}
        self._asking: Counter[SessionId] = Counter()
        self._emptied: anyio.Event | None = None
        self._scope_type: type[anyio.CancelScope] | None = None

    def enter(self, session: SessionId, request_id: RequestId | None) -> RunningRequest:
        """A handler, to be entered while it works; a request id of None for that of a notification."""
        if self._scope_type is None:
            # Looking up which event loop runs is half of what a scope costs, and does not change.
            self._scope_type = type(anyio.CancelScope())
        return RunningRequest(self, session, request_id, self._scope_type(shield=True))

    def add(self, request: RunningRequest) -> None:
        """Register a handler."""
        requests = self._by_session.get(request.session)
        if requests is None:
            self._by_session[request.session] = {request}
        else:
            requests.add(request)

    def remove(self, request: RunningRequest) -> None:
        """Forget a handler."""
        requests = self._by_session[request.session]
        requests.discard(request)
        if not requests:
            del self._by_session[request.session]
        if self._emptied is not None and not self._by_session:
            self._emptied.set()

    async def empty(self) -> None:
        """Wait until no handler is at work."""
        while self._by_session:
            if self._emptied is None or self._emptied.is_set():
                self._emptied = anyio.Event()  # one for all: a drain waits, and the end of the replica
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

    def stop(self) -> None:
        """This process ends: so does every handler."""
        for requests in self._by_session.values():
            for request in requests:
                request.scope.cancel()

"""The SDK's `EventStore` over any backend, for those who keep the SDK's own session manager.

The sessions themselves then stay in one process; what this adds is that their streams resume. With
`holdfast.attach` neither this nor sticky routing is needed.
"""

import contextlib
import itertools
import logging
import re
import time
from collections import OrderedDict, deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any, Final, Unpack

import anyio
from mcp.server.streamable_http import GET_STREAM_KEY, EventCallback, EventMessage
from mcp.server.streamable_http import EventStore as SdkEventStore
from mcp_types import (
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCResponse,
    jsonrpc_message_adapter,
)
from starlette.applications import Starlette
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from typing_extensions import override

from holdfast.backends import backend_of
from holdfast.errors import (
    ConfigurationError,
    PositionLost,
    SessionExists,
    SessionGone,
    StoreError,
    StreamError,
)
from holdfast.sessions.event_id import decode_event_id, encode_event_id
from holdfast.sessions.protocols import Backend
from holdfast.sessions.relay import mint_stream_id
from holdfast.sessions.types import (
    STANDALONE,
    AppendKey,
    Event,
    Page,
    Position,
    SessionFacts,
    SessionId,
    StreamId,
)
from holdfast.settings import DEFAULT_TTL_SECONDS, StoreOptions, StoreSettings

__all__ = ["EventStore"]

logger = logging.getLogger("holdfast")

_VERSION: Final = "2025-11-25"
_PAGE: Final = 500
_SESSIONS: Final = 20_000
_PENDING: Final = 256
"""Events of one stream that wait for the store. The oldest ones beyond that are lost, and told."""

_PAUSE_SECONDS: Final = 1.0
"""After a failure the store is left alone for so long: the SDK's router waits for each event."""

_COLLECTED: Final = re.compile(r"[0-9]+:[0-9a-f]+:")
"""How FastMCP's names of streams begin."""

_LOST: Final = JSONRPCNotification(
    jsonrpc="2.0",
    method="notifications/message",
    params={"level": "warning", "logger": "holdfast", "data": {"event": "events-lost"}},
)


@dataclass(slots=True)
class _Stream:
    """One stream of the SDK, such as a request's, and what of it is not stored yet."""

    name: str
    id: StreamId
    last: Position | None = None
    pending: deque[tuple[AppendKey, bytes, bool]] = field(
        default_factory=deque[tuple[AppendKey, bytes, bool]]
    )
    lock: anyio.Lock = field(default_factory=anyio.Lock)


@dataclass(slots=True)
class _Session:
    """One session of the SDK. Its tasks inherit this from the request that opened it."""

    id: SessionId = field(default_factory=lambda: SessionId(token_hex(24)))
    opened: bool = False
    streams: dict[str, _Stream] = field(default_factory=dict[str, _Stream])
    lock: anyio.Lock = field(default_factory=anyio.Lock)
    news: anyio.Event = field(default_factory=anyio.Event)

    def heard(self) -> None:
        """Something was stored."""
        self.news.set()
        self.news = anyio.Event()


_CURRENT: ContextVar[_Session | None] = ContextVar("holdfast_event_store_session", default=None)


class EventStore(SdkEventStore):
    """Events of the SDK's own sessions, in any store.

        store = EventStore("redis://localhost:6379")
        app = server.streamable_http_app(event_store=store)
        store.install(app)

    The SDK calls it with bare stream ids, which many sessions share; `install` tells it whose they are, so
    that no session reads another's events. A store that fails never raises into the SDK's router, which would
    end the session: events wait for it here, in order and bounded. An event id that was given out meanwhile
    is that of the last stored event, so a client that resumes then may get some events twice.
    """

    def __init__(
        self,
        store: str | Backend | None = None,
        *,
        ttl_seconds: float | None = None,
        timeout_seconds: float = 2.0,
        **options: Unpack[StoreOptions],
    ) -> None:
        """Keep events in `store`.

        Args:
            store: as in `holdfast.attach`.
            ttl_seconds: the events of a session are kept for so long after its last one. Default: the
                environment's SESSION_TTL, else an hour.
            timeout_seconds: the longest wait for the store, for each event.
            options: as in `holdfast.open_store`; only if `store` is a URL.

        Raises:
            ConfigurationError: one of them is not possible.
        """
        if ttl_seconds is None:
            ttl_seconds = StoreSettings.from_environment().ttl_seconds or DEFAULT_TTL_SECONDS
        for name, value in (("ttl_seconds", ttl_seconds), ("timeout_seconds", timeout_seconds)):
            if not 0 < value < float("inf"):
                raise ConfigurationError(f"EventStore: {name}: got {value!r}, expected seconds above 0")
        self._store = backend_of(store, **options)
        self._ttl_seconds = ttl_seconds
        self._timeout_seconds = timeout_seconds
        self._backend: Backend | None = None
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._counter = itertools.count(1)
        self._pause_until = 0.0

    def install(self, app: Starlette) -> None:
        """Connect with the lifespan of the application that has this store, and see whose requests come."""
        inner = app.router.lifespan_context

        @asynccontextmanager
        async def lifespan(started: Any) -> AsyncGenerator[Any, None]:
            async with self._store as backend:
                self._backend = backend
                try:
                    async with inner(started) as state:
                        yield state
                finally:
                    self._backend = None

        app.router.lifespan_context = lifespan
        app.add_middleware(_WhoseRequest, event_store=self)

    @override
    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        """Store an event, or for None mark a place, and return its id. Never raises; its wait is bounded."""
        session, backend = _CURRENT.get(), self._backend
        if session is None or backend is None:
            logger.warning("an event cannot be resumed from: call EventStore.install(app) before app starts")
            return f"0.{token_hex(8)}"
        stream = session.streams.get(stream_id)
        if stream is None:
            standalone = stream_id.endswith(GET_STREAM_KEY)  # FastMCP puts a prefix before it
            stream = _Stream(stream_id, STANDALONE if standalone else mint_stream_id())
            session.streams[stream_id] = stream
        if message is not None:
            self._queue(backend, stream, message)
        with anyio.move_on_after(self._timeout_seconds):
            await self._store_pending(backend, session, stream)
        return f"0.{token_hex(8)}" if stream.last is None else encode_event_id(stream.id, stream.last)

    @override
    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        """Send what this session's stream had after an event id, and return its name if it goes on."""
        session, backend = _CURRENT.get(), self._backend
        if session is None or backend is None:
            return None
        try:
            stream, cursor, _broadcast = decode_event_id(last_event_id)
            with anyio.fail_after(self._timeout_seconds):
                for known in list(session.streams.values()):
                    if known.id == stream:
                        await self._store_pending(backend, session, known)
            return await self._replay(backend, session, stream, cursor, send_callback)
        except (ValueError, SessionGone, StreamError):
            logger.info("a client wants to resume from an event id that its session does not have")
        except (StoreError, TimeoutError) as error:
            logger.warning("a stream cannot be resumed now: %s", error)
        return None

    def _queue(self, backend: Backend, stream: _Stream, message: JSONRPCMessage) -> None:
        if len(stream.pending) >= _PENDING:
            # The first one may be stored already, and is then repeated under its key: nothing else can take
            # its place without being lost itself.
            key, _, _ = stream.pending[1]
            stream.pending[1] = (key, _encode(_LOST), False)
            del stream.pending[2]
        final = isinstance(message, JSONRPCResponse | JSONRPCError) and stream.id != STANDALONE
        key = AppendKey(backend.replica, next(self._counter))
        stream.pending.append((key, _encode(message), final))

    async def _store_pending(self, backend: Backend, session: _Session, stream: _Stream) -> None:
        """Store what waits, in order. What fails goes on waiting."""
        if time.monotonic() < self._pause_until:
            return
        try:
            async with stream.lock:
                await self._open(backend, session, stream)
                while stream.pending:
                    key, payload, final = stream.pending[0]
                    event = await backend.log.append(session.id, stream.id, payload, key=key, final=final)
                    stream.pending.popleft()
                    stream.last = event.position
                    session.heard()
                    if final:
                        session.streams.pop(stream.name, None)
        except (SessionGone, StreamError):
            self._begin_again(session, stream)
        except StoreError as error:
            logger.warning("events wait, since the store fails: %s", error)
            self._pause_until = time.monotonic() + _PAUSE_SECONDS
        except Exception:
            logger.exception("an event could not be stored")

    async def _open(self, backend: Backend, session: _Session, stream: _Stream) -> None:
        async with session.lock:
            if not session.opened:
                facts = SessionFacts(session.id, None, _VERSION, b"{}", self._ttl_seconds)
                with contextlib.suppress(SessionExists):  # opened before, and the reply was lost
                    await backend.sessions.open(facts, limit=None)
                session.opened = True
        if stream.last is None and stream.id != STANDALONE:
            stream.last = await backend.log.open_stream(session.id, stream.id, stream.name)
        elif stream.last is None:
            async with backend.log.watch(session.id, lambda _: None) as top:
                stream.last = top

    def _begin_again(self, session: _Session, stream: _Stream) -> None:
        """What was stored has expired or is lost. The SDK's session goes on: in a new one here."""
        session.id, session.opened = _Session().id, False
        for other in {stream.name: stream, **session.streams}.values():
            other.last = None

    async def _replay(
        self, backend: Backend, session: _Session, stream: StreamId, cursor: Position, send: EventCallback
    ) -> str | None:
        """Send what comes after a position, up to the end of the stream.

        The SDK would go on by itself after a replay, but drops what is stored between the two. Only where
        replayed events are collected until the name is returned (FastMCP) it has to.
        """
        while True:
            news = session.news  # taken before the read, so that nothing can come unnoticed after it
            page = await self._read(backend, session, stream, cursor)
            if isinstance(page, Position):
                cursor = page
                await send(EventMessage(_LOST))
                continue
            for event in page.events:
                await send(EventMessage(_decode(event), encode_event_id(event.stream, event.position)))
            cursor = page.cursor
            if page.complete:
                name = self._name(session, stream, page)
                if _COLLECTED.match(name):
                    return name
                if not page.stream.running:
                    return None
                await news.wait()

    async def _read(
        self, backend: Backend, session: _Session, stream: StreamId, cursor: Position
    ) -> Page | Position:
        """The next page; where to read on instead, if what came next is lost."""
        with anyio.fail_after(self._timeout_seconds):
            try:
                return await backend.log.read(session.id, stream, after=cursor, limit=_PAGE)
            except PositionLost as lost:
                if not lost.resume_epoch:
                    raise
                return Position(lost.resume_epoch, lost.resume_offset)

    def _name(self, session: _Session, stream: StreamId, page: Page) -> str:
        """What the SDK calls a stream."""
        if stream != STANDALONE:
            return str(page.stream.request_id)
        names = (known.name for known in session.streams.values() if known.id == STANDALONE)
        return next(names, GET_STREAM_KEY)

    def session_of(self, sdk_session: str | None) -> _Session:
        """What is known of a session of the SDK; something new for a request that opens one."""
        if sdk_session is None or sdk_session not in self._sessions:
            return _Session()
        self._sessions.move_to_end(sdk_session)
        return self._sessions[sdk_session]

    def opened(self, sdk_session: str, session: _Session) -> None:
        """The SDK gave a session its id."""
        self._sessions.setdefault(sdk_session, session)
        if len(self._sessions) > _SESSIONS:
            self._sessions.popitem(last=False)

    async def ended(self, sdk_session: str) -> None:
        """The client deleted its session."""
        session = self._sessions.pop(sdk_session, None)
        if session is None or self._backend is None:
            return
        try:
            with anyio.move_on_after(self._timeout_seconds):
                await self._backend.sessions.close(session.id)
        except StoreError as error:
            logger.warning("the events of a deleted session stay until they expire: %s", error)


class _WhoseRequest:
    """Puts the session of each request where the store finds it; the session's own tasks inherit it."""

    def __init__(self, app: ASGIApp, event_store: EventStore) -> None:
        self._app = app
        self._event_store = event_store

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = _header(scope["headers"])
        session = self._event_store.session_of(given)
        deleted = False

        async def see(message: Message) -> None:
            nonlocal deleted
            if message["type"] == "http.response.start":
                minted = _header(message.get("headers", ()))
                if given is None and minted is not None:
                    self._event_store.opened(minted, session)
                deleted = scope["method"] == "DELETE" and message["status"] < 300  # noqa: PLR2004 - success
            await send(message)

        token = _CURRENT.set(session)
        try:
            await self._app(scope, receive, see)
        finally:
            _CURRENT.reset(token)
        if deleted and given is not None:
            await self._event_store.ended(given)


def _header(headers: Any) -> str | None:
    found = (value for name, value in headers if name.lower() == b"mcp-session-id")
    value = next(found, None)
    return None if value is None else value.decode("latin-1")


def _encode(message: JSONRPCMessage) -> bytes:
    return message.model_dump_json(by_alias=True, exclude_unset=True).encode()


def _decode(event: Event) -> JSONRPCMessage:
    return jsonrpc_message_adapter.validate_json(event.payload)

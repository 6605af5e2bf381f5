"""Our session managers: the four methods of the seam, on the event log of any store."""

import logging
import secrets
from collections.abc import Generator, Iterable, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any, Final, Self, Unpack, cast

import anyio
from typing_extensions import override

from holdfast.asgi import sse
from holdfast.backends import backend_of
from holdfast.errors import ConfigurationError, PositionLost, SessionExists, SessionGone, StoreError
from holdfast.integrations.plain.client_url import url_of_client
from holdfast.integrations.plain.frames import payload_of
from holdfast.integrations.plain.no_kernel import NoKernel
from holdfast.sessions.event_id import decode_event_id
from holdfast.sessions.hub import Reader
from holdfast.sessions.manager import SessionManager, StreamController, settled
from holdfast.sessions.protocols import Backend
from holdfast.sessions.registry import check_session_id, session_exists
from holdfast.sessions.replica import Replica
from holdfast.sessions.tail import Tail
from holdfast.sessions.types import GENESIS, STANDALONE, Position, SessionFacts, SessionId, shorten
from holdfast.settings import DEFAULT_TTL_SECONDS, StoreOptions, StoreSettings

__all__ = ["InMemorySessionManager", "LogSessionManager", "RedisSessionManager"]

logger = logging.getLogger("holdfast")

_KIND: Final = "plain"
"""In the place of a protocol version: no MCP transport serves these sessions."""

_SENT_AT_ONCE: Final = 64
_ENQUEUE_SECONDS: Final = 10.0
_TRY_AGAIN_SECONDS: Final = 0.5


@dataclass(slots=True)
class _Opening:
    """A connection that is being made: whether it listens yet, or why it never will."""

    done: anyio.Event = field(default_factory=anyio.Event)
    failure: Exception | None = None


class LogSessionManager(SessionManager):
    """Sessions on the event log of a store: what is sent while a client is away is there when it comes back.

    Enter it in the application's lifespan, once in each process: `async with manager: yield`.
    """

    def __init__(
        self,
        store: str | Backend,
        *,
        ttl_seconds: float | None = None,
        max_sessions: int | None = None,
        **options: Unpack[StoreOptions],
    ) -> None:
        """Keep sessions in `store`.

        Args:
            store: a URL, or a backend.
            ttl_seconds: how long a session lives without a connection. Default: the environment's
                SESSION_TTL, else an hour.
            max_sessions: the most that may be open over the fleet; None: no limit.
            options: as in `holdfast.open_store`; only if `store` is a URL.
        """
        self.store = backend_of(store, **options)
        if ttl_seconds is None:
            ttl_seconds = StoreSettings.from_environment().ttl_seconds or DEFAULT_TTL_SECONDS
        self._ttl_seconds = ttl_seconds
        self._max_sessions = max_sessions
        self._replica: Replica | None = None
        self._entered: AsyncExitStack | None = None

    async def __aenter__(self) -> Self:
        """Connect, and be part of the fleet."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.store)
            replica = Replica(
                self.store, NoKernel(), max_sessions=self._max_sessions, ttl_seconds=self._ttl_seconds
            )
            await stack.enter_async_context(replica.run())
            self._replica, self._entered = replica, stack.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Close all connections of this process. Sessions stay, clients may come back."""
        self._replica, entered, self._entered = None, self._entered, None
        if entered is not None:
            await entered.aclose()

    @contextmanager
    def joined(self, replica: Replica) -> Generator[None]:
        """Work through a replica that a transport runs on this manager's store: then do not enter this."""
        self._replica = replica
        try:
            yield
        finally:
            self._replica = None

    @override
    async def create(
        self, session_id: str, controller: StreamController, *, last_event_id: str | None = None
    ) -> None:
        """Send what is for this session to `controller`, and return once that is in effect.

        A session that is there already is continued, and its older connection, wherever it is, closed.

        Args:
            session_id: at most 128 visible ASCII characters without braces. Who knows it can take the
                session: check who asks, or choose ids that cannot be guessed.
            controller: the connection.
            last_event_id: what the client received last. Without it a client that comes back gets what is
                sent from now on.

        Raises:
            ValueError: the id has another form, or `last_event_id` is none of this session.
            SessionGone: the id is that of an MCP session, or of a session that was deleted.
            TooManySessions: `max_sessions` is reached.
        """
        replica, session = self._running(), check_session_id(session_id)
        facts = await self._open(replica, session)
        after, heard = None, GENESIS
        if last_event_id:
            stream, after, heard = decode_event_id(last_event_id)
            if stream != STANDALONE:
                raise ValueError("last_event_id: is not of this session")
        reader = replica.hub.open(session, STANDALONE, secrets.token_urlsafe(9))
        if hasattr(controller, "on_close"):
            cast("Any", controller).on_close = reader.close
        opening = _Opening()
        try:
            replica.start(self._carry, replica, facts, reader, after, heard, controller, opening)
        except BaseException:
            replica.hub.release(reader)
            raise
        await opening.done.wait()
        if opening.failure is not None:
            raise opening.failure

    @override
    async def delete(self, session_id: str) -> None:
        """End the session and close its connection, wherever that is."""
        try:
            await self._running().end_session(check_session_id(session_id))
        except ValueError:
            return  # there is no such session

    @override
    async def has(self, session_id: str) -> bool:
        """Whether the session exists. Being asked does not keep it alive."""
        return await session_exists(self.store.log, session_id)

    @override
    async def send(self, session_ids: Iterable[str] | None, data: str | Mapping[str, Any]) -> None:
        """Send to some sessions, or (None) to all: that is one append, however many there are.

        Raises:
            ValueError: `data` is neither a message nor one framed event.
            StoreError: some may not have got it.
        """
        replica, payload = self._running(), payload_of(data)
        if session_ids is None:
            await replica.broadcasts.send(payload)
            return
        limit = anyio.CapacityLimiter(_SENT_AT_ONCE)
        failures: list[StoreError] = []

        async def send_one(session_id: str) -> None:
            async with limit:
                try:
                    await replica.relay.send_standalone(check_session_id(session_id), payload)
                except (SessionGone, ValueError):
                    return
                except StoreError as error:
                    failures.append(error)

        async with anyio.create_task_group() as tasks:
            for session_id in dict.fromkeys(session_ids):
                tasks.start_soon(send_one, session_id)
        if failures:
            raise failures[0]

    def _running(self) -> Replica:
        if self._replica is None:
            raise RuntimeError("the session manager is not running: enter it in the application's lifespan")
        return self._replica

    async def _open(self, replica: Replica, session: SessionId) -> SessionFacts:
        facts = SessionFacts(session, None, _KIND, b"{}", self._ttl_seconds)
        try:
            return await replica.registry.open(facts)
        except SessionExists:
            found = await replica.registry.find(session, None)
            if found.facts.protocol_version != _KIND:
                raise SessionGone("an MCP session") from None
            return found.facts

    async def _carry(
        self,
        replica: Replica,
        facts: SessionFacts,
        reader: Reader,
        after: Position | None,
        heard: Position,
        controller: StreamController,
        opening: _Opening,
    ) -> None:
        """Read the log for one connection, until either side ends it."""
        try:
            async with replica.backend.log.watch(facts.id, reader.hear):
                tail = await _claim(replica, facts, reader, after, heard)
                opening.done.set()
                await self._pump(tail, reader, controller)
        except Exception as error:  # noqa: BLE001 - a controller may raise anything; it ends one connection
            if not opening.done.is_set():
                opening.failure = error
            elif not isinstance(error, SessionGone):
                logger.warning("a connection of session %s was let go: %r", shorten(facts.id), error)
        finally:
            replica.hub.release(reader)
            opening.done.set()
            with anyio.move_on_after(_ENQUEUE_SECONDS, shield=True):
                await settled(controller.close())

    async def _pump(self, tail: Tail, reader: Reader, controller: StreamController) -> None:
        while not reader.closed:
            try:
                events = await tail.next()
            except PositionLost as lost:
                if not tail.go_on_behind(lost):
                    raise
                gap = b'event: holdfast-gap\ndata: {"reason":"' + lost.reason.encode() + b'"}\n\n'
                await _enqueue(controller, gap)
                continue
            except StoreError:
                await anyio.sleep(_TRY_AGAIN_SECONDS)
                continue
            for event in events:
                await _enqueue(controller, sse.frame(event.payload, tail.id_of(event)))
        if reader.retry_milliseconds is not None:
            await _enqueue(controller, sse.retry(reader.retry_milliseconds))


async def _claim(
    replica: Replica, facts: SessionFacts, reader: Reader, after: Position | None, heard: Position
) -> Tail:
    """Take the session's stream from whoever had it."""
    claim = await replica.backend.log.claim(facts.id, reader.token, after=after)
    while claim.wait_seconds > 0:
        await anyio.sleep(claim.wait_seconds)
        claim = await replica.backend.log.claim(facts.id, reader.token, after=after)
    reader.claimed = True
    if claim.displaced is not None:
        await replica.displace(claim.displaced, facts.id)
    tail = replica.tail(reader, claim.start if after is None else after)
    if after is None:
        heard = facts.broadcast if claim.first else await replica.broadcasts.top()
    elif heard == GENESIS:
        heard = facts.broadcast
    tail.listening = replica.listen(heard)
    return tail


async def _enqueue(controller: StreamController, chunk: bytes) -> None:
    with anyio.fail_after(_ENQUEUE_SECONDS):
        await settled(controller.enqueue(chunk.decode()))


class InMemorySessionManager(LogSessionManager):
    """Sessions in the memory of this process."""

    def __init__(
        self,
        *,
        ttl_seconds: float | None = None,
        max_sessions: int | None = None,
        **options: Unpack[StoreOptions],
    ) -> None:
        """See `LogSessionManager`."""
        super().__init__("memory://", ttl_seconds=ttl_seconds, max_sessions=max_sessions, **options)


class RedisSessionManager(LogSessionManager):
    """Sessions in Redis or Valkey, for any number of processes."""

    def __init__(
        self,
        url_or_client: Any,
        *,
        ttl_seconds: float | None = None,
        max_sessions: int | None = None,
        **options: Unpack[StoreOptions],
    ) -> None:
        """See `LogSessionManager`.

        Args:
            url_or_client: a URL such as `redis://user:password@host:6379/0`, or a client of redis-py or
                valkey-py: it lends its settings. The connections are ours, and closed by us.
            ttl_seconds: as in `LogSessionManager`.
            max_sessions: the most that may be open over the fleet; None: no limit.
            options: as in `holdfast.open_store`.

        Raises:
            ConfigurationError: neither a URL of Redis nor a client.
        """
        url = url_or_client if isinstance(url_or_client, str) else url_of_client(url_or_client)
        if not url.startswith(("redis", "valkey", "unix")):
            raise ConfigurationError("RedisSessionManager: expected a URL of Redis or Valkey, or a client")
        super().__init__(url, ttl_seconds=ttl_seconds, max_sessions=max_sessions, **options)

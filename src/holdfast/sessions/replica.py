"""One server process among its peers: it holds the parts together, shows that it lives, and keeps house."""

import logging
import math
import random
import secrets
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any, Final, TypeAlias

import anyio
from anyio.abc import TaskGroup
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from holdfast.errors import HoldfastError, SessionGone, StoreError
from holdfast.observe import Observer, contained
from holdfast.sessions.alarms import Alarms
from holdfast.sessions.breaker import Breaker
from holdfast.sessions.broadcasts import Broadcasts, Listening
from holdfast.sessions.cancellation import is_foreign_cancellation
from holdfast.sessions.condition import Condition, Standing
from holdfast.sessions.drain import Drain
from holdfast.sessions.guarded import GuardedBackend
from holdfast.sessions.hub import DISPLACED_RETRY_MILLISECONDS, Hub, Reader
from holdfast.sessions.inbox import WaitingRoom, writer_of
from holdfast.sessions.orphans import end_for_dead
from holdfast.sessions.protocols import Backend, Kernel
from holdfast.sessions.pulse import HEARTBEAT_SECONDS, Pulse
from holdfast.sessions.pumps import Pumps
from holdfast.sessions.registry import Registry
from holdfast.sessions.relay import Relay
from holdfast.sessions.running import Running
from holdfast.sessions.signals import EVERYBODY, decode_signal, encode_signal, topic_of
from holdfast.sessions.spooler import Spooler
from holdfast.sessions.tail import Tail
from holdfast.sessions.types import (
    STANDALONE,
    Position,
    ReplicaId,
    RequestId,
    SessionId,
    Settings,
    StreamId,
    StreamState,
    advisory_ttl,
    shorten,
)
from holdfast.sessions.watch import Watch

__all__ = ["Replica"]

logger = logging.getLogger("holdfast")

UPKEEP_SECONDS: Final = (20.0, 30.0)
_UPKEEP_BATCH: Final = 200
_IDLE_HERE_SECONDS: Final = 300.0
_MOST_JOBS: Final = 10_000
_JOB_SECONDS: Final = 10.0
_LAST_WRITE_SECONDS: Final = 2.0
"""How long the end of a stream may take to be written when this process ends."""

_LOOP_LOOK_SECONDS: Final = 1.0

_Job: TypeAlias = Callable[[], Awaitable[None]]


class Replica:
    """What this process does for the sessions of the fleet."""

    def __init__(
        self,
        backend: Backend,
        kernel: Kernel,
        *,
        max_sessions: int | None = None,
        ttl_seconds: float = math.inf,
        observer: Observer | None = None,
    ) -> None:
        """Take part through `backend`; sessions opened here live `ttl_seconds` without activity."""
        self.observer = contained(observer)
        self.breaker = Breaker(self.observer)
        self._watch = Watch(self.breaker, partial(backend.replicas.alive, backend.replica))
        self.backend: Final = GuardedBackend(backend, self.breaker)
        backend = self.backend
        self.kernel = kernel
        self.id = backend.replica
        self.hub = Hub(self.observer)
        self.running = Running()
        self.broadcasts = Broadcasts(backend.broadcasts, self.hub, self.id)
        self.registry = Registry(backend, self.observer, breaker=self.breaker, max_sessions=max_sessions)
        self.spooler = Spooler(backend.log, self.hub, self.breaker, self.observer)
        self.relay = Relay(backend, self.hub, self.observer, spooler=self.spooler)
        self.waiting = WaitingRoom(backend.inbox, self.id)
        self.pulse = Pulse(backend.replicas)
        self.alarms = Alarms()
        self.drain = Drain(self.hub, self.running)
        self.pumps = Pumps()
        self.loop_lag_seconds = 0.0
        self._echoes: dict[str, anyio.Event] = {}
        self._tasks: TaskGroup | None = None
        self._writers: TaskGroup | None = None
        self._jobs: MemoryObjectSendStream[_Job] | None = None
        self._subscribed_until: dict[SessionId, float] = {}
        # Sessions that live shorter than usual are looked after more often.
        self._upkeep_seconds = (
            min(UPKEEP_SECONDS[0], ttl_seconds / 4),
            min(UPKEEP_SECONDS[1], ttl_seconds / 3),
        )

    @asynccontextmanager
    async def run(self) -> AsyncGenerator[None, None]:
        """Be part of the fleet for as long as the context lasts. The backend must be open."""
        async with AsyncExitStack() as stack:
            for topic in (EVERYBODY, topic_of(self.id)):
                await stack.enter_async_context(self.backend.bus.subscribe(topic, self._receive))
            await stack.enter_async_context(self.backend.inbox.listen(self.waiting.arrived))
            await stack.enter_async_context(self.broadcasts.listening())
            await self.pulse.beat()
            self._jobs, queued = anyio.create_memory_object_stream[_Job](_MOST_JOBS)
            stack.enter_context(self._jobs)
            stack.enter_context(queued)
            async with anyio.create_task_group() as housekeeping:
                housekeeping.start_soon(self._repeat, self.pulse.beat, (HEARTBEAT_SECONDS, HEARTBEAT_SECONDS))
                housekeeping.start_soon(
                    self._repeat, self._watch_writers, (HEARTBEAT_SECONDS, HEARTBEAT_SECONDS)
                )
                housekeeping.start_soon(self._repeat, self._keep_sessions, self._upkeep_seconds)
                housekeeping.start_soon(self._repeat, self._keep_indexes, self._upkeep_seconds)
                housekeeping.start_soon(self._work, queued)
                housekeeping.start_soon(self._repeat, self._look_for_broadcasts, self._upkeep_seconds)
                housekeeping.start_soon(self.broadcasts.run)
                housekeeping.start_soon(self.alarms.run)
                housekeeping.start_soon(self.pumps.run)
                housekeeping.start_soon(self._watch_loop)
                housekeeping.start_soon(self._watch.run)
                housekeeping.start_soon(self.spooler.run)
                housekeeping.start_soon(self.drain.run)
                try:
                    async with self._work_of_requests():
                        yield
                finally:
                    housekeeping.cancel_scope.cancel()
                    await self._leave()

    @asynccontextmanager
    async def _work_of_requests(self) -> AsyncGenerator[None, None]:
        """Let handlers run and streams be written, and end them in the right order."""
        async with anyio.create_task_group() as self._writers:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                try:
                    yield
                finally:
                    # Handlers whose client is away have the same time to finish as the others.
                    await self.drain.last_handlers()
                    self._tasks = None
                    self.running.stop()
                    with anyio.CancelScope(shield=True):
                        await self.running.empty()
                        await self._store_the_last()
                    tasks.cancel_scope.cancel()
            # Only now that every handler has had its answer may the streams to clients end.
            self.hub.close()
            self._writers.cancel_scope.deadline = anyio.current_time() + _LAST_WRITE_SECONDS
            await self.pumps.empty()

    async def _store_the_last(self) -> None:
        """What waits for the store is lost when this process ends: give it a last chance, and say so."""
        with anyio.move_on_after(_LAST_WRITE_SECONDS):
            await self.spooler.empty()
        if lost := self.spooler.spools.events:
            sessions = self.spooler.spools.sessions
            logger.error("%d events of %d sessions are lost: the store is away at the end", lost, sessions)

    @property
    def condition(self) -> Condition:
        """How this replica stands with its store."""
        spools, breaker = self.spooler.spools, self.breaker
        standing = self.backend.inner
        if isinstance(standing, Standing) and standing.fallback_since is not None:
            return Condition(
                mode="fallback",
                since=standing.fallback_since,
                reason="the store was never reached",
                sessions_at_risk=standing.sessions_in_memory,
            )
        return Condition(
            mode="outage" if breaker.open else "normal",
            since=breaker.opened_at,
            reason=breaker.reason if breaker.open else "",
            events_at_risk=spools.events,
            bytes_at_risk=spools.bytes,
            sessions_at_risk=spools.sessions,
        )

    @property
    def ending(self) -> bool:
        """Whether no task can be started: not yet, or not any more."""
        return self._tasks is None

    def start(self, task: Callable[..., Awaitable[Any]], *args: Any) -> None:
        """Run a task that belongs to this replica and ends with it.

        Raises:
            RuntimeError: the replica is not running.
        """
        if self._tasks is None:
            raise RuntimeError("Holdfast is not running: the application's lifespan was not entered")
        self._tasks.start_soon(self._contained, task, *args)

    def write(self, task: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run a task that writes to a client until every handler has ended. It must not raise."""
        if self._writers is None:
            raise RuntimeError("Holdfast is not running: the application's lifespan was not entered")
        self._writers.start_soon(task)

    def tail(self, reader: Reader, cursor: Position) -> Tail:
        """Read on from a cursor, for a reader in this process."""

        async def end_orphan(stream: StreamState, epoch: str) -> bool:
            return await self._end_orphan(reader, stream, epoch)

        return Tail(self.backend.log, reader, cursor, end_orphan=end_orphan, replica=self.id)

    def listen(self, after: Position) -> Listening:
        """Go on in the broadcast log, for `Tail.listening` of a reader in this process."""
        return Listening(self.broadcasts, after)

    async def cancel(self, session: SessionId, request_id: RequestId) -> None:
        """The client cancelled a request, wherever it runs."""
        self.running.cancel(session, request_id)
        await self._tell(EVERYBODY, "cancel", session=session, request=request_id)

    async def end_session(self, session: SessionId) -> bool:
        """Delete a session: its streams close and its requests are cancelled on all replicas."""
        existed = await self.registry.close(session)
        self._session_ended(session)
        await self._tell(EVERYBODY, "ended", session=session)
        await self.backend.subscriptions.drop(session)
        return existed

    async def set_log_level(self, session: SessionId, level: str) -> None:
        """Put the log level that the client asked for in force on every replica."""
        settings = await self.registry.set_log_level(session, level)
        await self._tell(
            EVERYBODY, "settings", session=session, version=settings.version, log_level=settings.log_level
        )

    async def close_stream(self, session: SessionId, stream: StreamId) -> None:
        """End the HTTP responses that carry a stream, on any replica. The client comes back."""
        # Whom we close here comes back, maybe to another replica: a late hint must not close it there again.
        if not self.hub.close(session, stream=stream):
            await self._tell(EVERYBODY, "close", session=session, stream=stream)

    async def displace(self, holder: tuple[ReplicaId, str], session: SessionId) -> None:
        """End the HTTP response of a reader whose stream was taken over."""
        replica, token = holder
        await self._tell(
            topic_of(replica),
            "close",
            session=session,
            stream=STANDALONE,
            token=token,
            retry=DISPLACED_RETRY_MILLISECONDS,
        )

    async def progressed(self, session: SessionId, params: dict[str, Any]) -> bool:
        """Route a client's progress notification to the handler that asked. False: nobody here asked."""
        token = params.get("progressToken")
        replica = writer_of(token)
        if replica is None:
            return False
        await self._tell(topic_of(replica), "progress", session=session, request=token, params=params)
        return True

    async def hear_itself(self) -> None:
        """Return once an announcement of this replica has come back to it through the store.

        Raises:
            StoreError: it could not be sent.
        """
        token = secrets.token_hex(8)
        echo = self._echoes[token] = anyio.Event()
        try:
            await self.backend.bus.publish(topic_of(self.id), encode_signal("echo", token=token))
            await echo.wait()
        finally:
            del self._echoes[token]

    async def _tell(self, topic: str, kind: str, **fields: Any) -> None:
        try:
            await self.backend.bus.publish(topic, encode_signal(kind, **fields))
        except StoreError as error:
            self.observer.store_failed("publish", error)
            logger.warning("could not tell other replicas (%s): %s", kind, error)

    def _receive(self, message: bytes) -> None:
        kind, fields = decode_signal(message)
        handle = getattr(self, f"_on_{kind}", None) if kind in _SIGNALS else None
        if handle is not None and fields.get(_SIGNALS[kind][0]):
            handle(**{name: fields.get(name) for name in _SIGNALS[kind]})

    def _on_echo(self, token: str) -> None:
        if (echo := self._echoes.get(token)) is not None:
            echo.set()

    def _on_cancel(self, session: SessionId, request: RequestId) -> None:
        self.running.cancel(session, request)

    def _on_ended(self, session: SessionId) -> None:
        self._session_ended(session)

    def _on_settings(self, session: SessionId, version: int, log_level: str | None) -> None:
        self._later(self.kernel.configure, session, Settings(version, log_level))

    def _on_close(self, session: SessionId, stream: StreamId, token: str | None, retry: int | None) -> None:
        self.hub.close(session, stream=stream, token=token, retry_milliseconds=retry)

    def _on_progress(self, session: SessionId, request: str, params: dict[str, Any]) -> None:
        self.waiting.progressed(session, request, params)

    def _session_ended(self, session: SessionId) -> None:
        self.registry.forget(session)
        self.running.end(session)
        self.hub.end(session)
        self._later(self.kernel.forget, session)

    def _later(self, job: Callable[..., Awaitable[None]], *args: Any) -> None:
        """Do something that takes time because of a hint. Hints arrive outside of any task."""
        if self._jobs is None:
            return
        try:
            self._jobs.send_nowait(partial(job, *args))
        except (anyio.WouldBlock, anyio.BrokenResourceError, anyio.ClosedResourceError):
            logger.warning("too much to do: a hint was dropped")

    async def _work(self, jobs: MemoryObjectReceiveStream[_Job]) -> None:
        async for job in jobs:
            # A server's own handler may be behind it: one that hangs must not hold up the others.
            with anyio.move_on_after(_JOB_SECONDS):
                await self._contained(job)

    async def _end_orphan(self, reader: Reader, stream: StreamState, epoch: str) -> bool:
        writer = stream.replica
        try:
            if writer is None or await self.pulse.is_alive(writer):
                return False
        except StoreError as error:  # what was read must not wait for this: each heartbeat looks again
            self.observer.store_failed("alive", error)
            return False
        logger.warning("replica %s died: ending its stream of session %s", writer, shorten(reader.session))
        await end_for_dead(self.backend.log, reader.session, reader.stream, stream, epoch=epoch)
        self.hub.wake(reader.session)
        self.observer.orphan_ended(reader.session, reader.stream, writer)
        # It may have been asleep: when it wakes up, its handler must not wait for what cannot come any more.
        if stream.request_id is not None:
            await self._tell(topic_of(writer), "cancel", session=reader.session, request=stream.request_id)
        return True

    async def _repeat(self, work: Callable[[], Awaitable[None]], seconds: tuple[float, float]) -> None:
        while True:
            await anyio.sleep(random.uniform(*seconds))
            await self._contained(work)

    async def _contained(self, task: Callable[..., Awaitable[Any]], *args: Any) -> None:
        """A fan-out border: one task that fails must not end the others."""
        try:
            await task(*args)
        except HoldfastError as error:
            name = getattr(task, "__name__", str(task)).strip("_")
            if isinstance(error, StoreError):
                self.observer.store_failed(name, error)
            logger.warning("%s failed: %s", name, error)
        except Exception:
            logger.exception("a background task failed")
        except anyio.get_cancelled_exc_class():
            if self.ending or not is_foreign_cancellation():
                raise
            # Not this task was cancelled, but something that it waited for.
            logger.exception("a background task let a foreign cancellation through")

    async def _watch_loop(self) -> None:
        while True:
            due = time.monotonic() + _LOOP_LOOK_SECONDS
            await anyio.sleep(_LOOP_LOOK_SECONDS)
            self.loop_lag_seconds = max(0.0, time.monotonic() - due)
            self.observer.loop_lagged(self.loop_lag_seconds)

    async def _watch_writers(self) -> None:
        writers = self.hub.writers()
        self.pulse.look_again()
        for writer in writers:
            if not await self.pulse.is_alive(writer):
                self.hub.wake_readers_of(writer)

    async def _keep_sessions(self) -> None:
        """Keep alive what is in use here, find out what ended, and let go of what is idle here."""
        sessions = list({*self.hub.sessions(), *self.running.busy_sessions()})
        self.registry.mark_used(sessions)
        self.registry.forget_idle()
        for start in range(0, len(sessions), _UPKEEP_BATCH):
            await self._contained(self._renew, sessions[start : start + _UPKEEP_BATCH])
        for session in self.kernel.idle(_IDLE_HERE_SECONDS):
            if not self.running.runs(session):
                await self.kernel.forget(session)

    async def _look_for_broadcasts(self) -> None:
        """Find out whether announcements were lost, once for all readers, and keep the log from expiring."""
        await self.broadcasts.top()

    async def _keep_indexes(self) -> None:
        """Keep the sessions that were used here in the indexes."""
        now = time.monotonic()
        used = await self.registry.refresh_index()
        self._subscribed_until = {s: t for s, t in self._subscribed_until.items() if t > now}
        for facts in used:
            if facts.id not in self._subscribed_until:
                await self.backend.subscriptions.refresh(facts.id, ttl_seconds=advisory_ttl(facts))
                self._subscribed_until[facts.id] = now + facts.ttl_seconds / 4

    async def _renew(self, sessions: list[SessionId]) -> None:
        # Only who had the stream before this look can have lost it.
        claimants = [self.hub.claimants(session) for session in sessions]
        found = zip(sessions, claimants, await self.backend.log.renew(sessions), strict=True)
        for session, readers, renewed in found:
            if renewed is None:
                self._session_ended(session)
                continue
            self.hub.wake_behind(session, renewed.top)
            for reader in readers:
                if renewed.reader not in (None, reader.token):  # the hint that said so was lost
                    reader.close(DISPLACED_RETRY_MILLISECONDS)

    async def _leave(self) -> None:
        with anyio.move_on_after(1, shield=True):
            try:
                await self.backend.replicas.retire()
            except (StoreError, SessionGone) as error:
                logger.warning("could not say goodbye to the fleet: %s", error)


_SIGNALS: Final = {
    "cancel": ("session", "request"),
    "ended": ("session",),
    "settings": ("session", "version", "log_level"),
    "close": ("session", "stream", "token", "retry"),
    "progress": ("session", "request", "params"),
    "echo": ("token",),
}
"""The kinds that this release knows, with their fields; the first one is always there."""

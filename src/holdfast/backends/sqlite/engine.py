"""The threads of one backend, and the way to them: one that writes, one that reads, one that listens."""

import sqlite3
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from secrets import token_hex
from typing import Any, TypeVar

import anyio
from anyio import to_thread

from holdfast.backends.sqlite.calls import Call, Loop, Worker
from holdfast.backends.sqlite.database import Database, begin
from holdfast.backends.sqlite.glance import Glance
from holdfast.backends.sqlite.hints import Hints, datagram
from holdfast.backends.sqlite.listener import Listener
from holdfast.backends.sqlite.options import SqliteOptions
from holdfast.backends.sqlite.presence import Presence
from holdfast.backends.sqlite.reader import Reader
from holdfast.backends.sqlite.reading import Snapshot
from holdfast.backends.sqlite.sockets import Mailbox
from holdfast.backends.sqlite.text import decode
from holdfast.backends.sqlite.topics import Topics
from holdfast.backends.sqlite.transaction import Transaction
from holdfast.backends.sqlite.writer import Writer
from holdfast.errors import StoreError, StoreUnavailable
from holdfast.sessions.types import ReplicaId

__all__ = ["Engine"]

T = TypeVar("T")

_CLOSE_SECONDS = 40.0


class Engine:
    """Runs operations in threads of its own, for a file that is open; see `open` and `close`."""

    def __init__(
        self, database: Database, replica: ReplicaId, options: SqliteOptions, clock: Callable[[], float]
    ) -> None:
        self.options = options
        self.replica = replica
        self.hints = Hints(self._look_at_bus)
        self._database = database
        self._clock = clock
        self._threads: _Threads | None = None
        self._comparing = False

    @property
    def topics(self) -> Topics:
        """Subscriptions to the bus."""
        return self._running.topics

    @property
    def wakeups(self) -> int:
        """How often the listening thread woke up."""
        return self._running.listener.wakeups

    async def open(self) -> None:
        """Open the file and start the threads; raises `ConfigurationError` or a `StoreError`."""
        loop = Loop()
        with anyio.CancelScope(shield=True):  # bounded by `busy_seconds`; half open would be worse
            self._threads = await to_thread.run_sync(self._start, loop)

    async def close(self) -> None:
        """Let what is under way end, and close the file."""
        threads, self._threads = self._threads, None
        if threads is not None:
            with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
                await to_thread.run_sync(threads.stop, abandon_on_cancel=True)

    def write(
        self, run: Callable[[Transaction], T], *, undo: Callable[[Transaction, Any], object] | None = None
    ) -> Awaitable[T]:
        """Do something in a transaction, with whatever else waits, and return when it is stored."""
        return self._running.writing.call(run, undo)

    def read(self, run: Callable[[Snapshot], T]) -> Awaitable[T]:
        """Read something from one snapshot."""
        return self._running.reading.call(run)

    def glance(self, key: str, run: Callable[[sqlite3.Connection], T]) -> T | None:
        """Read something small at once, if that is likely to wait for nothing; None: use `read`."""
        running = self._running
        return None if running.writer.trouble else running.glance.read(key, run)

    def check(self) -> None:
        """Nothing, if what was written last was stored; else raises the `StoreError` of that."""
        trouble = self._running.writer.trouble
        if isinstance(trouble, StoreError):
            raise type(trouble)(*trouble.args) from trouble

    def now(self) -> int:
        """Milliseconds since 1970."""
        return int(self._clock() * 1000)

    @property
    def _running(self) -> "_Threads":
        if self._threads is None:
            raise StoreUnavailable("the backend is not open")
        return self._threads

    def _start(self, loop: Loop) -> "_Threads":
        self._database.prepare()
        try:
            return _Threads(self._database, self.replica, self._clock, loop, self.hints, self._compare)
        except sqlite3.Error as error:
            raise self._database.failure(error) from error

    def _look_at_bus(self) -> None:
        if self._threads is not None:
            self._threads.topics.look()

    def _compare(self) -> None:
        """Somebody changed the file: find out what no hint told of."""
        if self._threads is None or self._comparing:
            return
        step = partial(_state, sessions=self.hints.watched(), replica=self.replica)
        call = Call[Snapshot](step, lambda: self._compared(call))
        try:
            self._threads.reading.submit(call)
        except StoreError:  # the next time
            return
        self._comparing = True

    def _compared(self, call: Call[Snapshot]) -> None:
        self._comparing = False
        if call.error is None:
            self.hints.compare(*call.result)


class _Threads:
    """Everything that is open. Made and stopped in a thread that may block."""

    def __init__(
        self,
        database: Database,
        replica: ReplicaId,
        clock: Callable[[], float],
        loop: Loop,
        hints: Hints,
        changed: Callable[[], None],
    ) -> None:
        options = database.options
        self._replica = replica
        self._closing: list[Callable[[], object]] = []
        try:
            self._presence = Presence(database.path)
            self._closing.append(self._presence.leave)
            mailbox = self._mailbox(database)
            connection = database.connect(patient=False)
            self._closing.append(connection.close)
            _enter(connection, options.busy_seconds, replica, mailbox, new_life=self._presence.alone)
            self._presence.share()

            def deliver(own: dict[bytes, None]) -> None:
                loop.post(hints.receive, (datagram(own),))

            self.writer = writer = Writer(database, connection, replica, clock, deliver)
            self._closing.append(writer.close)
            reader = Reader(database, clock)
            self._closing.append(reader.close)
            looking = database.connect()
            self._closing.append(looking.close)
            glancing = database.connect(patient=False)
            self._closing.append(glancing.close)
            self.glance = Glance(glancing)
        except BaseException:
            self._close()
            raise
        bounds = {"max_waiting": options.max_waiting, "max_batch": options.max_batch}
        self.writing: Worker[Transaction] = Worker(
            "holdfast-sqlite-writer", loop, carry_out=writer.carry_out, rest=writer.rest, **bounds
        )
        self.reading: Worker[Snapshot] = Worker(
            "holdfast-sqlite-reader", loop, carry_out=reader.carry_out, rest=reader.rest, **bounds
        )
        self.topics = Topics(self.reading)

        def watch() -> None:
            self.writing.fail_overdue(options.stall_seconds)
            self.reading.fail_overdue(options.stall_seconds)

        self.listener = Listener(
            mailbox,
            looking,
            loop,
            received=hints.receive,
            changed=changed,
            heal_seconds=options.heal_seconds,
            watch=watch,
        )
        for thread in (self.writing, self.reading, self.listener):
            thread.start()

    def stop(self) -> None:
        """End the threads and close the file."""
        self.listener.stop()
        with suppress(StoreError):  # too much is waiting: others find out by themselves that this one left
            self.writing.submit(Call[Transaction](self._leave, time.monotonic))
        ended = [self.writing.stop(), self.reading.stop()]
        if all(ended):  # else what they use must stay; they are daemons
            self._close()

    def _leave(self, tx: Transaction) -> None:
        tx.execute("DELETE FROM listeners WHERE replica = ?", (self._replica,))
        tx.execute("DELETE FROM replicas WHERE id = ?", (self._replica.encode(),))

    def _mailbox(self, database: Database) -> Mailbox | None:
        if database.options.hints == "poll":
            return None
        try:
            mailbox = Mailbox(database.path, self._replica)
        except OSError:
            return None  # the change counter does as well, a little later
        self._closing.append(mailbox.close)
        return mailbox

    def _close(self) -> None:
        for close in reversed(self._closing):
            close()
        self._closing.clear()


def _enter(
    connection: sqlite3.Connection,
    busy_seconds: float,
    replica: ReplicaId,
    mailbox: Mailbox | None,
    *,
    new_life: bool,
) -> None:
    """Say where this replica receives hints; as the first to open the file, begin a new life of it."""
    begin(connection, busy_seconds)
    try:
        if new_life:
            # It may have been restored from a backup, copied, or cut short by a power failure meanwhile.
            connection.execute("UPDATE file SET life = ?", (token_hex(6),))
            connection.execute("DELETE FROM listeners")
        address = "" if mailbox is None else mailbox.address
        connection.execute("INSERT OR REPLACE INTO listeners VALUES (?, ?)", (replica, address))
        connection.execute("COMMIT")
    except BaseException:
        connection.execute("ROLLBACK")
        raise


def _state(
    snapshot: Snapshot, sessions: Sequence[str], replica: str
) -> tuple[dict[str, int], list[tuple[str, str]], tuple[str, int]]:
    """Tops of sessions, answers that are there for a replica, and the top of what is said to all."""
    tops: dict[str, int] = {}
    for session in sessions:
        row = snapshot.connection.execute(
            "SELECT no, top, last FROM heads JOIN sessions USING (no) WHERE sessions.id = ?", (session,)
        ).fetchone()
        if row is not None:
            tops[session], _ = snapshot.tail.ahead(*row)
    rows = snapshot.connection.execute(
        "SELECT sessions.id, request FROM asked JOIN sessions ON sessions.no = asked.session "
        "WHERE replica = ? AND answer IS NOT NULL",
        (replica,),
    )
    answered = [(session, decode(request)) for session, request in rows]
    broadcast = snapshot.connection.execute("SELECT epoch, top FROM broadcast_head").fetchone()
    return tops, answered, broadcast or ("", 0)

"""Several serving processes on one port, and the parent that keeps their number."""

import logging
import mmap
import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from holdfast.ops.cli.errors import FAILED
from holdfast.ops.cli.process import Surroundings

__all__ = ["Supervisor"]

logger = logging.getLogger("holdfast")

_SIGNALS: Final = (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
_STEADY_SECONDS: Final = 60.0
_BACK_OFF_SECONDS: Final = (0.5, 30.0)
_KILL_GRACE_SECONDS: Final = 10.0


@dataclass(slots=True)
class _Worker:
    """One place in the row of workers, and the process that fills it.

    Attributes:
        index: which place.
        pid: None while there is no process.
        started_at: when the process was forked.
        failures: how many processes in a row did not live for long.
        due_at: when to fork the next one.
    """

    index: int
    pid: int | None = None
    started_at: float = 0.0
    failures: int = 0
    due_at: float | None = None


class Supervisor:
    """Forks workers, replaces those that die, and stops them all.

    Signals are blocked and taken one after the other, so there are no handlers and no races between them.
    The first worker starts alone: if it cannot start, none can, and the reason is said once.

    Args:
        count: how many workers.
        sockets: bound; every worker accepts from them.
        work: serves, in a forked process; returns its exit status.
        announce: called once, when all workers serve.
        drain_seconds: how long a worker may take to pause and to finish its requests when it is told to stop.
    """

    def __init__(
        self,
        *,
        count: int,
        sockets: list[socket.socket],
        work: Callable[[Surroundings], int],
        announce: Callable[[], None],
        drain_seconds: float,
    ) -> None:
        self._workers = [_Worker(index) for index in range(count)]
        self._sockets = sockets
        self._work = work
        self._announce = announce
        self._drain_seconds = drain_seconds
        self._ready = mmap.mmap(-1, count)  # shared: a worker sets its byte when it serves
        self._lifeline, self._life = os.pipe()
        self._announced = False
        self._kill_at: float | None = None
        self._status = 0

    def run(self) -> int:
        """Supervise until all workers have ended; the exit status of the command."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        self._fork(self._workers[0])
        while any(worker.pid is not None or worker.due_at is not None for worker in self._workers):
            signalled = signal.sigtimedwait(_SIGNALS, self._patience_seconds())
            if signalled is not None and signalled.si_signo in (signal.SIGINT, signal.SIGTERM):
                self._told_to_stop(signalled.si_signo)
            self._reap()
            self._count_ready()
            self._do_what_is_due()
        return self._status

    # -- what happens

    def _told_to_stop(self, number: int) -> None:
        if self._kill_at is None:
            self._stop()
        elif number == signal.SIGINT:  # somebody at a terminal, who has lost patience
            self._kill_at = time.monotonic()

    def _reap(self) -> None:
        for worker in self._workers:
            if worker.pid is None:
                continue
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                worker.pid = None
                self._ready[worker.index] = 0
                self._ended(worker, pid, os.waitstatus_to_exitcode(status))

    def _ended(self, worker: _Worker, pid: int, status: int) -> None:
        if self._kill_at is not None:
            return
        if not self._announced:
            self._status = status if status > 0 else FAILED
            self._stop()
            return
        lived_for_long = time.monotonic() - worker.started_at > _STEADY_SECONDS
        worker.failures = 1 if lived_for_long else worker.failures + 1
        first, longest = _BACK_OFF_SECONDS
        pause = min(longest, first * 2 ** min(worker.failures - 1, 10))
        worker.due_at = time.monotonic() + pause
        how = f"status {status}" if status >= 0 else signal.Signals(-status).name
        logger.error(
            "worker %d (process %d) ended with %s; restarting in %g s", worker.index, pid, how, pause
        )

    def _count_ready(self) -> None:
        """Start the others once the first serves, and say so once all do."""
        ready = sum(self._ready[:])
        if self._announced or self._kill_at is not None or not ready:
            return
        for worker in self._workers:
            if worker.pid is None:
                self._fork(worker)
        if ready == len(self._workers):
            self._announced = True
            self._announce()

    def _do_what_is_due(self) -> None:
        now = time.monotonic()
        if self._kill_at is not None and now >= self._kill_at:
            self._kill()
        for worker in self._workers:
            if worker.due_at is not None and now >= worker.due_at:
                self._fork(worker)

    def _patience_seconds(self) -> float:
        due = [worker.due_at for worker in self._workers if worker.due_at is not None]
        if self._kill_at is not None:
            due.append(self._kill_at)
        return max(0.01, min(due, default=time.monotonic() + 60.0) - time.monotonic())

    # -- what is done

    def _stop(self) -> None:
        self._kill_at = time.monotonic() + self._drain_seconds + _KILL_GRACE_SECONDS
        for listener in self._sockets:
            listener.close()
        for worker in self._workers:
            worker.due_at = None
            if worker.pid is not None:
                os.kill(worker.pid, signal.SIGTERM)

    def _kill(self) -> None:
        self._kill_at = time.monotonic() + _KILL_GRACE_SECONDS
        for worker in self._workers:
            if worker.pid is not None:
                logger.error("worker %d (process %d) does not end: it is killed", worker.index, worker.pid)
                self._status = FAILED
                os.kill(worker.pid, signal.SIGKILL)

    def _fork(self, worker: _Worker) -> None:
        worker.due_at = None
        worker.started_at = time.monotonic()
        sys.stdout.flush()
        sys.stderr.flush()
        worker.pid = os.fork()
        if worker.pid == 0:
            self._be_a_worker(worker.index)

    def _be_a_worker(self, index: int) -> None:
        """What the forked process does; it never returns."""
        status = FAILED
        try:
            os.close(self._life)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            parent = os.getppid()

            def started() -> None:
                self._ready[index] = 1
                os.kill(parent, signal.SIGUSR1)

            status = self._work(Surroundings(self._sockets, started, self._lifeline))
        except BaseException:
            logger.exception("worker %d failed", index)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)

"""One process that serves: from the options to a running uvicorn, until it is told to stop. Needs extras."""

import asyncio
import contextlib
import gc
import logging
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Callable, Generator
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from typing_extensions import override

from holdfast.errors import ConfigurationError, StoreError
from holdfast.integrations.mcp_sdk.app import Attached, attach
from holdfast.ops.cli.errors import FAILED, MISUSED, CliError, first_cause
from holdfast.ops.cli.frameworks import build_app, is_server, server_from
from holdfast.ops.cli.options import ServeOptions
from holdfast.ops.cli.store import StoreChoice
from holdfast.ops.cli.target import load_target
from holdfast.ops.health import mount_health

__all__ = ["Surroundings", "run_server"]

logger = logging.getLogger("holdfast")

_KEEP_ALIVE_SECONDS: Final = 75
"""Longer than the idle timeout of common balancers: they, not we, must be the ones who close a connection."""

_CLOSING_SECONDS: Final = 2
"""How long what is answered at the deadline may take to be sent, before uvicorn cancels it."""

_SHUTDOWN_SECONDS: Final = 5.0
"""How long the server's own lifespan may take to end, after the requests have."""

_GC_THRESHOLDS: Final = (10_000, 20, 50)
"""A look at so many young objects takes 4 ms; at 50,000, with which this began, 50 ms."""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a serving process is given by whoever started it.

    Attributes:
        sockets: bound, not listening.
        started: called once it serves.
        lifeline: a file descriptor that is at its end when the parent is gone. Such a process is one of
            several: it leaves Ctrl-C, which reaches all of them at once, to the parent.
    """

    sockets: list[socket.socket]
    started: Callable[[], None]
    lifeline: int | None = None


def run_server(options: ServeOptions, store: StoreChoice, surroundings: Surroundings) -> None:
    """Serve until SIGTERM or Ctrl-C.

    Raises:
        CliError: it cannot start.
    """
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(_serve(options, store, surroundings))


async def _serve(options: ServeOptions, store: StoreChoice, surroundings: Surroundings) -> None:
    loaded = load_target(options.target, is_server)
    app = build_app(await server_from(loaded, options.target), options)
    try:
        attached = attach(
            app,
            store=store.open(serving=True),
            drain_seconds=options.drain_seconds,
            drain_pause_seconds=options.drain_pause_seconds,
            handle_signals=False,
            **options.edge,
        )
    except ConfigurationError as error:
        raise CliError(str(error)) from error
    mount_health(app)
    beginning = _watch_the_beginning(app)
    server = _Server(_uvicorn_config(app, options), attached, surroundings, options)
    try:
        with _signals_to(server):
            await server.serve(sockets=surroundings.sockets)
    except SystemExit:  # newer uvicorns leave this way if the application's start fails, older ones return
        if beginning.failure is None:
            raise
    except OSError as error:  # somebody else took the port while we loaded
        raise CliError(
            f"cannot listen on --host {options.host} --port {options.port}: {error.strerror}", status=FAILED
        ) from error
    if not server.started and beginning.failure is not None:
        raise _why_not_started(beginning.failure, store)


def _uvicorn_config(app: Starlette, options: ServeOptions) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        interface="asgi3",
        lifespan="on",
        ws="none",
        log_config=None,
        access_log=options.access_log,
        server_header=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=options.drain_seconds + _CLOSING_SECONDS,
    )


class _Server(uvicorn.Server):
    """uvicorn that sends the readers of idle streams away before it waits for open connections to end."""

    def __init__(
        self, config: uvicorn.Config, attached: Attached, surroundings: Surroundings, options: ServeOptions
    ) -> None:
        super().__init__(config)
        self._attached = attached
        self._surroundings = surroundings
        self._options = options
        self._loop = asyncio.get_running_loop()

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        if self._surroundings.lifeline is not None:
            self._loop.add_reader(self._surroundings.lifeline, self._orphaned)
        with _quiet():
            await super().startup(sockets)
        if not self.started:
            return
        if self._options.gc_tuning:
            tune_gc()
        self._surroundings.started()

    @override
    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if sig == signal.SIGINT and self._surroundings.lifeline is not None:
            return
        pass_on = partial(super().handle_exit, sig, frame)
        if self._attached.termination is None:  # it does not serve yet
            pass_on()
        else:
            self._attached.termination.told(sig, pass_on)

    @override
    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        longest = self._options.drain_seconds + _CLOSING_SECONDS + _SHUTDOWN_SECONDS
        try:
            await asyncio.wait_for(super().shutdown(sockets), longest)
        except TimeoutError:
            logger.warning("the server's own shutdown takes over %g s: it is cut off", _SHUTDOWN_SECONDS)

    def _orphaned(self) -> None:
        lifeline = self._surroundings.lifeline
        if lifeline is not None:
            self._loop.remove_reader(lifeline)
        logger.warning("the parent process is gone: stopping")
        self.handle_exit(signal.SIGTERM, None)


def tune_gc() -> None:
    """Never look again at what was loaded at the start, and look less often at the rest."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)


@contextlib.contextmanager
def _signals_to(server: uvicorn.Server) -> Generator[None]:
    """Be told to stop without dying of it.

    uvicorn raises the signal again when it has stopped, for the handlers that were there before it. They are
    the server's own again, so that the process ends as it should: with status 0.
    """
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, server.handle_exit) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """Silence what uvicorn has to say about a failed start: we say it ourselves, in one line."""
    log = logging.getLogger("uvicorn.error")
    level = log.level
    if not logging.getLogger().isEnabledFor(logging.DEBUG):
        log.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        log.setLevel(level)


@dataclass(slots=True)
class _Beginning:
    """How the application's start went."""

    failure: BaseException | None = None


def _watch_the_beginning(app: Starlette) -> _Beginning:
    """Remember the exception with which the start fails; Starlette turns it into text."""
    inner = app.router.lifespan_context
    beginning = _Beginning()

    @contextlib.asynccontextmanager
    async def watched(started: Any) -> AsyncGenerator[Any, None]:
        try:
            async with inner(started) as state:
                yield state
        except BaseException as error:
            beginning.failure = error
            raise

    app.router.lifespan_context = watched
    return beginning


def _why_not_started(failure: BaseException, store: StoreChoice) -> CliError:
    cause = first_cause(failure)
    if isinstance(cause, StoreError):
        error = store.refused(cause, status=FAILED)
    elif isinstance(cause, ConfigurationError):
        is_about_store = str(cause).startswith("store: ")
        error = store.refused(cause) if is_about_store else CliError(str(cause), status=MISUSED)
    else:
        error = CliError(
            f"the server's own start-up failed: {type(cause).__name__}: {cause} "
            "(--log-level debug shows the traceback)",
            status=FAILED,
        )
    error.__cause__ = failure
    return error


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """That of uvloop where it is installed; None: asyncio's own."""
    if sys.platform == "win32":
        return None
    try:
        import uvloop  # noqa: PLC0415 - does not exist everywhere
    except ImportError:
        return None
    return uvloop.new_event_loop

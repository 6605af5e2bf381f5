"""Noticing that the process is told to end before the server that runs it does: then the drain begins."""

import asyncio
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any, Final, TypeAlias

from holdfast.backends.memory import MemoryBackend
from holdfast.errors import ConfigurationError
from holdfast.sessions.drain import Drain, DrainPlan
from holdfast.sessions.protocols import Backend

__all__ = ["Ending", "Termination"]

_LONGEST_DRAIN_SECONDS: Final = 86_400
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_Handler: TypeAlias = Callable[[int, FrameType | None], Any]


@dataclass(frozen=True, slots=True)
class Ending:
    """How an application ends; the arguments of `attach` say what each of these means."""

    drain_seconds: float
    drain_pause_seconds: float | None
    handle_signals: bool

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ConfigurationError: names the argument, what was given and what is allowed.
        """
        for name in ("drain_seconds", "drain_pause_seconds"):
            value: float | None = getattr(self, name)
            if value is not None and not 0 <= value <= _LONGEST_DRAIN_SECONDS:
                raise ConfigurationError(
                    f"{name}: got {value!r}, expected seconds from 0 to {_LONGEST_DRAIN_SECONDS:,}"
                )

    @classmethod
    def names(cls) -> frozenset[str]:
        """The names of these arguments."""
        return frozenset(cls.__dataclass_fields__)

    def plan(self, backend: Backend) -> DrainPlan:
        """The same as the drain wants it: nobody else can go on with a stream in this process's memory."""
        return DrainPlan(
            seconds=self.drain_seconds,
            pause_seconds=self.drain_pause_seconds,
            hand_over=not isinstance(backend, MemoryBackend),
        )


class Termination:
    """Begins the drain at the first signal, cuts it short at the second, and passes both on.

    The first is passed on after the drain's pause: a server that hears of it stops listening. The drain and
    the server's own waiting for open connections then go on side by side.
    """

    def __init__(self, drain: Drain, plan: DrainPlan) -> None:
        """Made on the event loop that is to be told."""
        self._drain = drain
        self._plan = plan
        self._soon = _call_soon()
        self._told = False

    def told(self, number: int, pass_on: Callable[[], object]) -> None:
        """The process got a signal. Called by its handler, between any two steps of the main thread."""
        if self._told:
            self._hurry()
            pass_on()
        else:
            self._begin(number, then=partial(self._soon, pass_on))

    @contextmanager
    def chained(self) -> Generator[None]:
        """Stand in front of the present handlers while the context lasts; do nothing but in the main thread.

        Handlers of the event loop are told by the interpreter, whatever stands before them: for those, the
        pause does not delay anything.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {int(number): signal.getsignal(number) for number in _SIGNALS}
        ours: dict[int, _Handler] = {}
        for number, handler in before.items():
            if handler is None or handler is signal.SIG_IGN:
                continue
            ours[number] = partial(self._handle, handler)
            with suppress(ValueError):  # a subinterpreter
                signal.signal(number, ours[number])
        try:
            yield
        finally:
            for number, handler in ours.items():
                if signal.getsignal(number) is handler:
                    signal.signal(number, before[number])

    def _handle(self, handler: Any, number: int, frame: FrameType | None) -> None:
        if callable(handler):
            self.told(number, partial(handler, number, frame))
        elif self._told:  # hypercorn tells its workers up to three times in a moment
            self._hurry()
        else:  # nobody else waits for it: without us the process would have ended here and now
            self._begin(number, at_end=partial(self._soon, partial(_die, number)))

    def _begin(self, number: int, **callbacks: Callable[[], object]) -> None:
        self._told = True
        plan = self._plan.without_pause() if number == signal.SIGINT else self._plan  # somebody waits for it
        self._soon(partial(self._drain.begin, plan, **callbacks))

    def _hurry(self) -> None:
        with suppress(RuntimeError):  # the event loop has ended: so has everything else
            self._soon(self._drain.hurry)


def _die(number: int) -> None:
    signal.signal(number, signal.SIG_DFL)
    signal.raise_signal(number)


def _call_soon() -> Callable[[Callable[[], object]], object]:
    """What hands a callback to the running event loop, and may be called in a signal handler."""
    try:
        return asyncio.get_running_loop().call_soon_threadsafe
    except RuntimeError:
        from trio.lowlevel import current_trio_token  # noqa: PLC0415 - only where it runs

        return current_trio_token().run_sync_soon

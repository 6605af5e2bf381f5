"""A backend whose store fails when a test says so: what an outage, a cut cable or a dead process looks like.

faulty = FaultyBackend(MemoryBackend(data))
attach(app, store=faulty)
faulty.fail("log.append")       # or "inbox.*", or several; fail() alone: everything
faulty.heal()
"""

import inspect
from collections.abc import Callable
from fnmatch import fnmatchcase
from typing import Any, Final, Self, cast

from typing_extensions import override

from holdfast.errors import StoreError, StoreUnavailable
from holdfast.sessions.delegating import DelegatingBackend
from holdfast.sessions.diagnosis import Diagnosis
from holdfast.sessions.protocols import (
    Backend,
    BroadcastLog,
    Bus,
    EventLog,
    Inbox,
    ReplicaDirectory,
    SessionStore,
    SubscriptionIndex,
    Transfer,
)

__all__ = ["FaultyBackend"]

_REMEMBERED_CALLS: Final = 100_000


class FaultyBackend(DelegatingBackend):
    """Passes every call on to another backend, or fails it; and remembers what was called.

    Hints of the other backend (wake-ups, answers, bus messages, announcements) keep coming, unless they are
    to be lost: it is calls that fail.

    Attributes:
        calls: names of the calls so far, such as `log.append`, failed ones included.
    """

    def __init__(self, inner: Backend) -> None:
        super().__init__(inner)
        self.calls: list[str] = []
        self._patterns: tuple[str, ...] = ()
        self._error: Callable[[str], StoreError] = StoreUnavailable
        self._carried_out = False
        self._deaf = False
        self._log = cast("EventLog", _Part(self, "log", inner.log))
        self._broadcasts = cast("BroadcastLog", _Part(self, "broadcasts", inner.broadcasts))
        self._sessions = cast("SessionStore", _Part(self, "sessions", inner.sessions))
        self._inbox = cast("Inbox", _Part(self, "inbox", inner.inbox))
        self._bus = cast("Bus", _Part(self, "bus", inner.bus))
        self._subscriptions = cast("SubscriptionIndex", _Part(self, "subscriptions", inner.subscriptions))
        self._replicas = cast("ReplicaDirectory", _Part(self, "replicas", inner.replicas))
        self._transfer = cast("Transfer", _Part(self, "transfer", inner.transfer))
        self._diagnosis = cast("Diagnosis", _Part(self, "diagnosis", inner.diagnosis))

    def fail(
        self,
        *patterns: str,
        error: Callable[[str], StoreError] = StoreUnavailable,
        carried_out: bool = False,
    ) -> None:
        """Fail calls from now on.

        Args:
            patterns: which, such as `log.append` or `inbox.*`; none given: all.
            error: makes the exception from a message.
            carried_out: the store does what it is told, and then the reply is lost.
        """
        self._patterns, self._error, self._carried_out = patterns or ("*",), error, carried_out

    def lose_hints(self) -> None:
        """From now on no hint reaches this replica."""
        self._deaf = True

    def heal(self) -> None:
        """Pass all calls and hints on again."""
        self._patterns = ()
        self._deaf = False

    def hearing(self, receive: Callable[..., object]) -> Callable[..., None]:
        """A callback for hints that passes them on unless they are to be lost."""

        def heard(*hint: Any) -> None:
            if not self._deaf:
                receive(*hint)

        return heard

    def check(self, name: str, *, done: bool = False) -> None:
        """Note a call that begins, or is done, and fail it if it is to fail."""
        if not done and len(self.calls) < _REMEMBERED_CALLS:
            self.calls.append(name)
        if done == self._carried_out and any(fnmatchcase(name, pattern) for pattern in self._patterns):
            raise self._error(f"{name} fails because a test wants it to")

    @property
    def fallback_since(self) -> float | None:
        """See `Standing`."""
        return getattr(self.inner, "fallback_since", None)

    @property
    def sessions_in_memory(self) -> int:
        """See `Standing`."""
        return getattr(self.inner, "sessions_in_memory", 0)

    @override
    async def __aenter__(self) -> Self:
        self.check("connect")
        return await super().__aenter__()


class _Part:
    """One protocol of a backend, every method of it checked first."""

    def __init__(self, owner: FaultyBackend, name: str, inner: Any) -> None:
        self._owner = owner
        self._name = name
        self._inner = inner

    def __getattr__(self, method: str) -> Any:
        name, call = f"{self._name}.{method}", getattr(self._inner, method)
        if not callable(call):
            return call
        if not inspect.iscoroutinefunction(call):

            def enter(*args: Any, **kwargs: Any) -> Any:
                self._owner.check(name)
                return call(*(self._owner.hearing(arg) if callable(arg) else arg for arg in args), **kwargs)

            return enter

        async def checked(*args: Any, **kwargs: Any) -> Any:
            self._owner.check(name)
            result = await call(*args, **kwargs)
            self._owner.check(name, done=True)
            return result

        return checked

"""A backend whose every call is seen by the breaker, and fails at once while the store is gone."""

import inspect
from collections.abc import Awaitable, Callable
from typing import Any, cast

from holdfast.errors import StoreError, StoreUnavailable
from holdfast.sessions.breaker import Breaker
from holdfast.sessions.delegating import DelegatingBackend
from holdfast.sessions.protocols import (
    Backend,
    BroadcastLog,
    Bus,
    EventLog,
    Inbox,
    ReplicaDirectory,
    SessionStore,
    SubscriptionIndex,
)

__all__ = ["GuardedBackend"]


class GuardedBackend(DelegatingBackend):
    """What a replica uses of its store."""

    def __init__(self, inner: Backend, breaker: Breaker) -> None:
        super().__init__(inner)
        self._log = cast("EventLog", _Part(breaker, inner.log))
        self._broadcasts = cast("BroadcastLog", _Part(breaker, inner.broadcasts))
        self._sessions = cast("SessionStore", _Part(breaker, inner.sessions))
        self._inbox = cast("Inbox", _Part(breaker, inner.inbox))
        self._bus = cast("Bus", _Part(breaker, inner.bus))
        self._subscriptions = cast("SubscriptionIndex", _Part(breaker, inner.subscriptions))
        self._replicas = cast("ReplicaDirectory", _Part(breaker, inner.replicas))


class _Part:
    """One protocol of a backend. Each method is wrapped when it is first asked for, and kept."""

    def __init__(self, breaker: Breaker, inner: Any) -> None:
        self._breaker = breaker
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._inner, name)
        guarded = _guard(self._breaker, method) if inspect.iscoroutinefunction(method) else method
        setattr(self, name, guarded)
        return guarded


def _guard(breaker: Breaker, method: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
    async def guarded(*args: Any, **kwargs: Any) -> Any:
        call = breaker.begin()
        try:
            result = await method(*args, **kwargs)
        except StoreUnavailable as error:
            breaker.suspect(type(error).__name__)
            raise
        except StoreError:
            raise  # it may come from here as well as from the store
        except Exception:
            breaker.answered()
            raise
        else:
            breaker.answered()
            return result
        finally:
            breaker.end(call)

    return guarded

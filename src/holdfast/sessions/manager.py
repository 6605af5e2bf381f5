"""The session-manager seam: four methods that say who is connected and how to reach them.

Its shape is that of TMCP's managers, so that a manager that was written for them can be carried over. Ours
(`holdfast.InMemorySessionManager`, `holdfast.RedisSessionManager`) are built on the event log.
"""

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Iterable, Mapping
from inspect import isawaitable
from typing import Any, Protocol, TypeAlias, TypeVar

__all__ = ["MaybeAwaitable", "SessionManager", "StreamController", "settled"]

T = TypeVar("T")
MaybeAwaitable: TypeAlias = Awaitable[T] | T


class StreamController(Protocol):
    """The writing end of one open connection. Both methods may be coroutine functions."""

    def enqueue(self, data: str) -> MaybeAwaitable[object]:
        """Send a framed event. Raise, if that is not possible any more: the connection is then let go."""
        ...

    def close(self) -> MaybeAwaitable[object]:
        """End the connection. Called at most once by a manager; must not mind having been closed before."""
        ...


class SessionManager(ABC):
    """Who is connected, and how to reach them. Each method may be a plain or a coroutine function."""

    @abstractmethod
    def create(self, session_id: str, controller: StreamController) -> MaybeAwaitable[None]:
        """Send what is for this session to `controller` from now on."""

    @abstractmethod
    def delete(self, session_id: str) -> MaybeAwaitable[None]:
        """End the session and close its connection, wherever that is. One that is not there is no error."""

    @abstractmethod
    def has(self, session_id: str) -> MaybeAwaitable[bool]:
        """Whether the session exists, on any replica."""

    @abstractmethod
    def send(self, session_ids: Iterable[str] | None, data: str | Mapping[str, Any]) -> MaybeAwaitable[None]:
        """Send to some sessions, or (None) to all. An empty list is nobody; who is gone is passed over.

        Args:
            session_ids: whom.
            data: one framed server-sent event (lines `event: message` and `data: {...}`, and an empty one),
                or a message that is framed as one.
        """


async def settled(value: MaybeAwaitable[T]) -> T:
    """What a method of a seam returned, whether or not it is a coroutine function."""
    return await value if isawaitable(value) else value  # pyright: ignore[reportReturnType] - a T that is awaitable is none

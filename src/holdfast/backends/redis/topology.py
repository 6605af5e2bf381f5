"""What differs between one server, Sentinel and Cluster: where a key is, where announcements are heard."""

from collections.abc import Sequence
from typing import Protocol

from holdfast.backends.redis.link import Link
from holdfast.backends.redis.location import Endpoint

__all__ = ["Topology"]


class Topology(Protocol):
    """Leads a key to the server that has it. `Client` sends every command by it."""

    async def open(self) -> None:
        """Connect; raises `StoreUnavailable` or `StoreRefused`."""
        ...

    async def close(self) -> None:
        """Hang up. Commands under way fail with `StoreUnavailable`."""
        ...

    def link(self, key: str | bytes) -> Link | None:
        """The link to the server of `key`, if it is up."""
        ...

    async def ready(self, key: str | bytes, wait_seconds: float) -> Link:
        """The same when it is up and has room; raises `StoreUnavailable` or `StoreRefused`."""
        ...

    async def redirected(self, error: Exception, wait_seconds: float) -> Link | None:
        """What follows from MOVED or ASK: the link to ask, this once; None: the key has a new home.

        Raises:
            StoreRefused: there can be no redirection here.
            StoreUnavailable: the server that it points to cannot be reached in time.
        """
        ...

    def links(self) -> Sequence[Link]:
        """Those to servers with data that are up."""
        ...

    def doubt(self) -> None:
        """Something went wrong: look where the servers are."""
        ...

    async def listening_post(self) -> Endpoint:
        """A server where announcements can be heard; raises `StoreUnavailable` or `StoreRefused`."""
        ...

    def confirm(self, endpoint: Endpoint) -> None:
        """Raise `StoreUnavailable` if a server that we were sent to was replaced while we connected to it."""
        ...

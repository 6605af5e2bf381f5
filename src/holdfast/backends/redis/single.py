"""One server at a time: a fixed one, or the master that sentinels name."""

from collections.abc import Awaitable, Callable, Sequence

from typing_extensions import override

from holdfast.backends.redis.line import Line
from holdfast.backends.redis.link import Link, open_link
from holdfast.backends.redis.location import Endpoint, Location
from holdfast.backends.redis.options import RedisOptions
from holdfast.backends.redis.scripts import ALL
from holdfast.backends.redis.sentinels import Sentinels
from holdfast.backends.redis.topology import Topology
from holdfast.errors import StoreRefused, StoreUnavailable

__all__ = ["SingleTopology"]


class SingleTopology(Topology):
    """One line.

    Args:
        location: the server, or the sentinels.
        options: bounds.
        name: what the servers call our connections.
        restored: called after each connect to the server.
        moved: called when there is another master, with that.
    """

    def __init__(
        self,
        location: Location,
        options: RedisOptions,
        *,
        name: str,
        restored: Callable[[], Awaitable[None]],
        moved: Callable[[Endpoint], None],
    ) -> None:
        self._server = location.server
        self._moved = moved
        self._sentinels = (
            Sentinels(location, options, name=name, moved=self._switch) if location.service else None
        )

        async def connect() -> Link:
            endpoint = await self.listening_post()
            link = await open_link(endpoint, options, name=name, scripts=ALL)
            try:
                self.confirm(endpoint)
            except StoreUnavailable:
                link.connection.abort("it was replaced")
                raise
            return link

        self._line = Line("data", options, connect, restored)

    @override
    async def open(self) -> None:
        if self._sentinels is not None:
            self._sentinels.start()
        await self._line.open()

    @override
    async def close(self) -> None:
        await self._line.close()
        if self._sentinels is not None:
            await self._sentinels.close()

    @override
    def link(self, key: str | bytes) -> Link | None:
        return self._line.link

    @override
    async def ready(self, key: str | bytes, wait_seconds: float) -> Link:
        return await self._line.ready(wait_seconds)

    @override
    async def redirected(self, error: Exception, wait_seconds: float) -> Link | None:
        raise StoreRefused(f"the store is a cluster: redis-cluster://host:port is right ({error})") from error

    @override
    def links(self) -> Sequence[Link]:
        link = self._line.link
        return () if link is None else (link,)

    @override
    def doubt(self) -> None:
        """Losing the link is enough: each attempt to connect asks the sentinels."""

    @override
    async def listening_post(self) -> Endpoint:
        return self._server if self._sentinels is None else await self._sentinels.master()

    @override
    def confirm(self, endpoint: Endpoint) -> None:
        if self._sentinels is not None:
            self._sentinels.confirm(endpoint)

    def _switch(self, master: Endpoint) -> None:
        """The sentinels name another master, and the old one may still answer.

        A connection to that one that is still being made is found out when it is (`confirm`).
        """
        link = self._line.link
        if link is not None and link.endpoint != master:
            self._line.reconnect(f"the sentinels name {master} now")
        self._moved(master)

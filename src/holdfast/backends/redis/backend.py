"""The Redis store as one replica sees it."""

import asyncio
import logging
import secrets
from typing import Final, Self

import anyio
from typing_extensions import override

from holdfast.backends.redis.announcements import Announcements
from holdfast.backends.redis.broadcast_log import RedisBroadcastLog
from holdfast.backends.redis.bus import RedisBus
from holdfast.backends.redis.client import Client
from holdfast.backends.redis.cluster import ClusterTopology
from holdfast.backends.redis.diagnosis import RedisDiagnosis
from holdfast.backends.redis.event_log import RedisEventLog
from holdfast.backends.redis.hints import Hints
from holdfast.backends.redis.inbox import RedisInbox
from holdfast.backends.redis.keys import Keys, check_replica, encode
from holdfast.backends.redis.location import Endpoint
from holdfast.backends.redis.options import RedisOptions
from holdfast.backends.redis.probe import Probe
from holdfast.backends.redis.replicas import RedisReplicaDirectory
from holdfast.backends.redis.session_store import RedisSessionStore
from holdfast.backends.redis.single import SingleTopology
from holdfast.backends.redis.subscription_index import RedisSubscriptionIndex
from holdfast.backends.redis.topology import Topology
from holdfast.backends.redis.transfer import RedisTransfer
from holdfast.backends.redis.url import parse_url
from holdfast.errors import ConfigurationError, StoreError
from holdfast.sessions.types import ReplicaId

__all__ = ["RedisBackend"]

logger = logging.getLogger("holdfast.backends.redis")

_CLOSE_SECONDS: Final = 10.0


class RedisBackend:
    """Sessions in Redis >= 6.2 or Valkey. Implements `holdfast.sessions.protocols.Backend`; asyncio only.

    An async context manager. It keeps two connections: one for all commands of the process (in a cluster:
    one to each master), one for announcements. They are made again when they break, to whatever serves by
    then. May be entered once.

    Args:
        url: one server, sentinels or a cluster; see `url.parse_url`. What it says goes before the arguments.
        prefix: first part of every key and channel.
        replica: id of this process in this life; minted if it is not given.
        options: bounds.

    Raises:
        ConfigurationError: an argument is wrong.
    """

    def __init__(
        self,
        url: str,
        *,
        prefix: str = "mcp",
        replica: ReplicaId | None = None,
        options: RedisOptions | None = None,
    ) -> None:
        self._location = parse_url(url)
        self.replica: Final = check_replica(replica or f"r{secrets.token_hex(8)}")
        options = self._location.adjust(options or RedisOptions())
        keys = Keys(self._location.prefix or prefix)
        topology = self._topology(options)
        self._client = Client(topology, options)
        self._announcements = Announcements(
            topology.listening_post,
            options,
            confirm=topology.confirm,
            name=self._name,
            restored=self._restored,
        )
        self._entered = False
        channel = encode(keys.channel(self.replica))
        self._hints = Hints(self._announcements)
        self._probe = Probe(self._client, self._announcements, self._hints, channel, options)
        self._subscription = self._announcements.subscribed(channel, self._hints.receive)
        self.log: Final = RedisEventLog(self._client, self._hints, keys, self.replica, options)
        self.broadcasts: Final = RedisBroadcastLog(self._client, self._announcements, keys, options)
        self.sessions: Final = RedisSessionStore(self._client, keys, self.replica)
        self.inbox: Final = RedisInbox(self._client, self._hints, keys, self.replica)
        self.bus: Final = RedisBus(self._client, self._announcements, keys)
        self.subscriptions: Final = RedisSubscriptionIndex(self._client, keys, options)
        self.replicas: Final = RedisReplicaDirectory(self._client, keys, self.replica)
        self.transfer: Final = RedisTransfer(self._client, keys)
        self.diagnosis: Final = RedisDiagnosis(topology, keys, self._location, self.replica)

    @property
    def _name(self) -> str:
        return f"{self._location.client_name or 'holdfast'}-{self.replica}"

    def _topology(self, options: RedisOptions) -> Topology:
        if self._location.mode == "cluster":
            return ClusterTopology(self._location, options, name=self._name, restored=self._restored)
        return SingleTopology(
            self._location, options, name=self._name, restored=self._restored, moved=self._moved
        )

    @override
    def __repr__(self) -> str:
        """Says where, never who: the URL may hold a password."""
        return f"RedisBackend({self._location}, replica={self.replica})"

    async def __aenter__(self) -> Self:
        """Connect.

        Raises:
            StoreUnavailable: the store did not answer in time.
            StoreRefused: it refused (wrong password, too old).
        """
        try:
            asyncio.get_running_loop()
        except RuntimeError as exc:
            raise ConfigurationError("RedisBackend needs asyncio, this is another event loop") from exc
        if self._entered:
            raise RuntimeError("a RedisBackend can be entered once")
        self._entered = True
        try:
            await self._client.open()
            await self._announcements.open()
            await self._subscription.__aenter__()
            self._probe.start()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        """Close all connections, also when the task that leaves is being cancelled."""
        with anyio.move_on_after(_CLOSE_SECONDS, shield=True):
            await self._probe.close()
            await self._subscription.__aexit__(None, None, None)
            await self._close()

    async def _close(self) -> None:
        await self._announcements.close()
        await self._client.close()

    async def _restored(self) -> None:
        """A connection was made. Hints and leases may have been lost: take the leases, then all look.

        Called for either connection: after an outage, whichever is there last finds the other one up.
        """
        try:
            await self.log.recover()
        except StoreError as exc:
            logger.warning("leases were not taken again, `renew` will do it: %s", exc)
        self._hints.everything()
        self.broadcasts.everything()

    def _moved(self, master: Endpoint) -> None:
        """Sentinels name another master: announcements are made there."""
        if self._announcements.endpoint not in {None, master}:
            self._announcements.reconnect(f"the sentinels name {master} now")

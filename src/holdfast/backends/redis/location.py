"""Where a store is: what a URL says, checked. Passwords stay out of every text made from it."""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal, Self, TypeAlias

from typing_extensions import override

from holdfast.backends.redis.options import RedisOptions

__all__ = ["Endpoint", "Location", "Mode"]

Mode: TypeAlias = Literal["standalone", "sentinel", "cluster"]
"""What a server says of itself in HELLO."""

DEFAULT_PORTS: Final[Mapping[Mode, int]] = {"standalone": 6379, "sentinel": 26379, "cluster": 6379}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one server is, what it has to be, and who we are to it.

    Attributes:
        host: name or address.
        port: TCP port.
        path: the Unix socket; then host and port mean nothing.
        mode: what it must be.
        db: number of the database.
        username: ACL user; None for the default one.
        password: None without authentication.
        tls: what TLS needs, None for plain TCP.
    """

    host: str = "localhost"
    port: int = 6379
    path: str | None = None
    mode: Mode = "standalone"
    db: int = 0
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    tls: ssl.SSLContext | None = None

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, as other servers name it."""
        return self.host, self.port

    def at(self, host: str, port: int) -> Self:
        """The same somewhere else."""
        return replace(self, host=host, port=port)

    @override
    def __str__(self) -> str:
        """For messages: no user, no password."""
        if self.path is not None:
            return f"unix://{self.path}"
        what = "sentinel " if self.mode == "sentinel" else ""
        db = "" if self.mode == "sentinel" else f"/{self.db}"
        return f"{what}{'rediss' if self.tls else 'redis'}://{host_and_port(*self.address)}{db}"


@dataclass(frozen=True, slots=True)
class Location:
    """Where a store is.

    Attributes:
        seeds: the server; or the sentinels, or the nodes of the cluster, that are asked first.
        server: what the servers with the data have in common. For one server it is that server.
        service: what the sentinels call the master; None for others.
        prefix: first part of every key, if the URL says it.
        client_name: first part of what the servers call our connections, if the URL says it.
        connect_timeout: instead of the option, if the URL says it.
        timeout: instead of the option `retry_seconds`, if the URL says it.
    """

    seeds: tuple[Endpoint, ...]
    server: Endpoint
    service: str | None = None
    prefix: str | None = None
    client_name: str | None = None
    connect_timeout: float | None = None
    timeout: float | None = None

    @property
    def mode(self) -> Mode:
        """What is asked first."""
        return self.seeds[0].mode

    def adjust(self, options: RedisOptions) -> RedisOptions:
        """The options with what the URL says."""
        return replace(
            options,
            connect_timeout=self.connect_timeout or options.connect_timeout,
            retry_seconds=self.timeout or options.retry_seconds,
        )

    @override
    def __str__(self) -> str:
        """For messages: no user, no password."""
        if self.mode == "standalone":
            return str(self.server)
        scheme = f"{'rediss' if self.server.tls else 'redis'}-{self.mode}"
        hosts = ",".join(host_and_port(*seed.address) for seed in self.seeds)
        return f"{scheme}://{hosts}" + (f"/{self.service}/{self.server.db}" if self.service else "")


def host_and_port(host: str, port: int) -> str:
    """As in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

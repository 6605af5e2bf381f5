"""How the Redis backend behaves: every bound in one place, with its default."""

from dataclasses import dataclass, fields

from holdfast.errors import ConfigurationError

__all__ = ["RedisOptions"]


@dataclass(frozen=True, slots=True)
class RedisOptions:
    """The bounds of one `RedisBackend`. All must be above zero.

    Attributes:
        connect_timeout: seconds for one connection with its handshake.
        start_wait: seconds that entering the backend tries to connect.
        connect_wait: seconds that a command waits while there is no connection or no room.
        retry_seconds: a command that is safe to repeat gives up so many seconds after it was issued.
        max_in_flight: commands under way; further ones wait.
        max_unsent_bytes: bytes on their way to the server; further commands wait.
        ping_seconds: how often each connection is probed.
        silence_seconds: no byte for so long while an answer is due: the connection is given up.
        probe_seconds: how often it is checked that announcements arrive, and how long they may take; and how
            often a cluster is asked which node serves what, if nothing gives reason to ask before.
        backoff_min: first pause between attempts to reconnect.
        backoff_max: longest pause between attempts to reconnect.
        max_events: most events in the log of one session, over all its streams. A full log holds at least
            63/64 of that: trimming a few at a time is cheaper.
        max_bytes: most bytes of payload in the log of one session.
        page_bytes: a page of a read ends after so many bytes.
        max_streams: most stream records in one session.
        max_subscriptions: most resource subscriptions in one session.
        lease_seconds: how long a replica gets announcements of a session that it no longer renews.
        inline_bytes: the payload of an event up to this size rides in its announcement.
        broadcast_seconds: how long what was said to all sessions is kept while no replica runs.
        takeover_seconds: the standalone stream changes hands at most once in so many seconds.
    """

    connect_timeout: float = 2.0
    start_wait: float = 5.0
    connect_wait: float = 1.0
    retry_seconds: float = 5.0
    max_in_flight: int = 10_000
    max_unsent_bytes: int = 16 * 1024 * 1024
    ping_seconds: float = 2.0
    silence_seconds: float = 5.0
    probe_seconds: float = 5.0
    backoff_min: float = 0.02
    backoff_max: float = 1.0
    max_events: int = 1_000
    max_bytes: int = 16 * 1024 * 1024
    page_bytes: int = 1024 * 1024
    max_streams: int = 4_096
    max_subscriptions: int = 10_000
    lease_seconds: float = 90.0
    inline_bytes: int = 4_096
    broadcast_seconds: float = 7 * 86_400.0
    takeover_seconds: float = 1.0

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if not value > 0:
                raise ConfigurationError(f"RedisOptions.{field.name} is {value!r}; allowed: above 0")

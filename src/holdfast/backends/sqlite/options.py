"""How the SQLite backend behaves: every bound in one place, with its default."""

from dataclasses import dataclass, fields
from typing import Literal

from holdfast.errors import ConfigurationError

__all__ = ["SqliteOptions"]

_CHOICES = {
    "synchronous": ("normal", "full"),
    "hints": ("auto", "poll"),
    "on_damage": ("refuse", "move_aside"),
}


@dataclass(frozen=True, slots=True)
class SqliteOptions:
    """The bounds of one `SqliteBackend`. Numbers must be above zero.

    What an acknowledged operation survives: with `synchronous="normal"` the death of any process (`kill -9`
    too); when the machine loses power or its kernel crashes, the operations since the last checkpoint may be
    lost, from the end, never from the middle, and readers who had seen them are told. With `"full"` it
    survives that too, as far as the disk keeps what it says it wrote.

    Attributes:
        synchronous: `"normal"` or `"full"`.
        hints: `"auto"`: processes wake each other by datagrams (AF_UNIX) where the system has them;
            `"poll"`: they look at the file's change counter instead.
        on_damage: `"refuse"`: a file that is found damaged is left as it is, and the error says what to do;
            `"move_aside"`: who is first to open it looks through all of it, and renames it if it is damaged.
        busy_seconds: how long to wait while another program holds a lock on the file.
        stall_seconds: how long a caller waits for the disk.
        max_waiting: operations that may wait; further ones are refused.
        max_batch: most operations in one transaction.
        max_events: most events in the log of one session, over all its streams.
        max_bytes: most bytes of payload in the log of one session.
        page_bytes: a page of a read ends after so many bytes.
        max_streams: most streams recorded in one session.
        max_asked: most requests to the client that wait for their answer in one session.
        max_subscriptions: most resource subscriptions of one session.
        inline_bytes: the payload of an event for all sessions up to this size rides in its announcement.
        broadcast_seconds: how long what was said to all sessions is kept while no replica runs.
        takeover_seconds: the standalone stream changes hands at most once in so many seconds.
        heal_seconds: how often to look whether a hint was lost.
        tidy_seconds: how often the writer removes what has run out, gives space back, and makes what was
            written safe against a power cut.
        cached_events: events of recently used sessions that the writer remembers, without their payload.
        checkpoint_bytes: the write-ahead log is copied into the file when it is longer than that.
    """

    synchronous: Literal["normal", "full"] = "normal"
    hints: Literal["auto", "poll"] = "auto"
    on_damage: Literal["refuse", "move_aside"] = "refuse"
    busy_seconds: float = 5.0
    stall_seconds: float = 30.0
    max_waiting: int = 20_000
    max_batch: int = 256
    max_events: int = 1_000
    max_bytes: int = 16 * 1024 * 1024
    page_bytes: int = 1024 * 1024
    max_streams: int = 4_096
    max_asked: int = 1_024
    max_subscriptions: int = 10_000
    inline_bytes: int = 4_096
    broadcast_seconds: float = 7 * 86_400.0
    takeover_seconds: float = 1.0
    heal_seconds: float = 2.0
    tidy_seconds: float = 5.0
    cached_events: int = 100_000
    checkpoint_bytes: int = 1024 * 1024

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in _CHOICES:
                if value not in _CHOICES[field.name]:
                    allowed = " or ".join(map(repr, _CHOICES[field.name]))
                    raise ConfigurationError(f"SqliteOptions.{field.name} is {value!r}; allowed: {allowed}")
            elif not value > 0:
                raise ConfigurationError(f"SqliteOptions.{field.name} is {value!r}; allowed: above 0")

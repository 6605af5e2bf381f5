"""Every exception that Holdfast raises.

```
HoldfastError
├── ConfigurationError (ValueError)   a setting is wrong: which one, what it was, what is allowed
├── StoreError                        the store could not do it
│   ├── StoreUnavailable              not reachable, or the outcome is unknown: try again later
│   └── StoreRefused                  it refused the command: out of memory, read-only, no permission
├── SessionError
│   ├── SessionGone                   unknown, expired, deleted, or somebody else's: never said which
│   ├── SessionExists                 the id is in use, or was and stays deleted
│   └── TooManySessions               the limit over the fleet is reached
└── StreamError
    ├── StreamUnknown                 the session has (or still has) no such stream
    ├── StreamClosed                  the stream has had its last event
    └── PositionLost                  the answer would have a hole
```
"""

from collections.abc import Sequence
from typing import Final

__all__ = [
    "ConfigurationError",
    "HoldfastError",
    "PositionLost",
    "SessionError",
    "SessionExists",
    "SessionGone",
    "StoreError",
    "StoreRefused",
    "StoreUnavailable",
    "StreamClosed",
    "StreamError",
    "StreamUnknown",
    "TooManySessions",
]

DEFAULT_RETRY_AFTER_SECONDS: Final = 2.0


class HoldfastError(Exception):
    """Root of all errors raised by Holdfast."""


class ConfigurationError(HoldfastError, ValueError):
    """A setting is wrong. The message names the setting, what was given and what is allowed."""


class StoreError(HoldfastError):
    """The shared store could not carry out an operation. It fails one request, never the session."""

    retry_after_seconds: float = DEFAULT_RETRY_AFTER_SECONDS


class StoreUnavailable(StoreError):
    """The store cannot be reached, or it is not known whether the operation took place."""


class StoreRefused(StoreError):
    """The store answered, and refused: out of memory, read-only, wrong password, no permission."""


class SessionError(HoldfastError):
    """Something about one session."""


class SessionGone(SessionError):
    """The session is unknown, expired, deleted or belongs to another principal (never said which)."""


class SessionExists(SessionError):
    """A session with this id exists, or existed and stays deleted."""


class TooManySessions(SessionError):
    """`max_sessions` over all replicas is reached."""


class StreamError(HoldfastError):
    """Something about one stream of a session."""


class StreamUnknown(StreamError):
    """The session has no such stream, or every trace of it has been trimmed."""


class StreamClosed(StreamError):
    """The stream already had its final event; nothing can be appended to it."""


class PositionLost(StreamError):
    """Reading on from a position would silently skip something, so it is refused.

    Attributes:
        reason: `"trimmed"`: events after it were dropped at the bound. `"epoch"`: it is from another life of
            the log, and more was lost than that life's surviving part, or from no life of this log at all.
        resume_epoch: the present epoch. Empty: the position was never one of this session (or is forgotten),
            and nothing may be read with it.
        resume_offset: reading is complete again from here, in the present epoch.
        unanswered: what is stored of requests to the client that lie in between and still wait for an answer,
            oldest first. Who goes on from `resume_offset` would skip them.
    """

    def __init__(
        self, reason: str, *, resume_offset: int = 0, resume_epoch: str = "", unanswered: Sequence[bytes] = ()
    ) -> None:
        super().__init__(f"position lost ({reason})")
        self.unanswered = tuple(unanswered)
        self.reason = reason
        self.resume_offset = resume_offset
        self.resume_epoch = resume_epoch

"""What can be chosen about the edge."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, get_args

from holdfast.asgi.guards import Guards
from holdfast.errors import ConfigurationError
from holdfast.sessions.registry import check_session_id, mint_session_id
from holdfast.sessions.relay import Resumable
from holdfast.sessions.types import SessionId

__all__ = ["EdgeOptions", "new_session_id"]

_LONGEST_SECONDS: Final = {
    "ttl_seconds": 10 * 365 * 86_400.0,
    "stream_after_seconds": 60.0,
    "keepalive_seconds": 86_400.0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeOptions:
    """How sessions are served.

    Attributes:
        ttl_seconds: a session ends after this long without any activity of its client.
        max_sessions: the most sessions that may be open over the fleet; None: no limit.
        resumable: `"auto"`: a request that is answered at once and emitted nothing is answered as plain JSON,
            anything else becomes a stream that can be resumed. `"always"`: every request is such a stream.
            `"never"`: streams of requests live with their connection only.
        json_response: answer requests with JSON only; what handlers emit is dropped.
        stream_after_seconds: a request that runs longer than this becomes a stream (`resumable="auto"`).
        keepalive_seconds: a comment is sent on a stream that was silent for this long.
        retry_milliseconds: how long a client should wait before it resumes a stream that ended.
        get_session_id: makes the id of a new session; nobody must be able to guess it. It is not called for
            a session that is there.
        disable_sse: answer GET with 405: no standalone stream, for servers that cannot hold connections.
        guards: what is refused before anything else.
    """

    ttl_seconds: float = 3600.0
    max_sessions: int | None = 10_000
    resumable: Resumable = "auto"
    json_response: bool = False
    stream_after_seconds: float = 0.2
    keepalive_seconds: float = 15.0
    retry_milliseconds: int = 1000
    get_session_id: Callable[[], str] = mint_session_id
    disable_sse: bool = False
    guards: Guards = field(default_factory=Guards)

    def __post_init__(self) -> None:
        """Check every value.

        Raises:
            ConfigurationError: names the option, what was given and what is allowed.
        """
        if not callable(self.get_session_id):
            raise ConfigurationError("get_session_id: expected a function without arguments")
        for name, most in _LONGEST_SECONDS.items():
            _check_seconds(name, getattr(self, name), most)
        if self.max_sessions is not None and self.max_sessions < 1:
            raise ConfigurationError(f"max_sessions: got {self.max_sessions!r}, expected at least 1, or None")
        if self.resumable not in get_args(Resumable):
            raise ConfigurationError(
                f"resumable: got {self.resumable!r}, expected {', '.join(map(repr, get_args(Resumable)))}"
            )
        if self.retry_milliseconds < 0:
            raise ConfigurationError(
                f"retry_milliseconds: got {self.retry_milliseconds!r}, expected 0 or more"
            )


def new_session_id(options: EdgeOptions) -> SessionId:
    """An id for a new session.

    Raises:
        ConfigurationError: `get_session_id` returned what cannot be one.
    """
    made = options.get_session_id()
    try:
        return check_session_id(made)
    except (TypeError, ValueError):
        raise ConfigurationError(
            "get_session_id: returned something else than 1 to 128 visible ASCII characters without { and }"
        ) from None


def _check_seconds(name: str, value: float, most: float) -> None:
    if not 0 < value <= most:
        raise ConfigurationError(f"{name}: got {value!r}, expected seconds above 0 and up to {most:,.0f}")

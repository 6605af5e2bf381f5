"""Environment to typed settings. An error names the variable, what it was, and what is allowed.

The names are those of the session persistence guide (seed 003). What that guide's other variables asked for
and this package does otherwise is in `SUPERSEDED`: setting one is an error that gives the reason, so that
nobody relies on a limit that is not there.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from holdfast.errors import ConfigurationError

__all__ = ["SUPERSEDED", "StoreSettings"]

_TRUE: Final = ("true", "1", "yes", "on")
_FALSE: Final = ("false", "0", "no", "off")
_LAST_PORT: Final = 65_535
_KEY_PREFIX: Final = re.compile(r"[!-z~]+:session:", re.ASCII)

SUPERSEDED: Final[Mapping[str, tuple[tuple[str, ...], str]]] = {
    "ENABLE_EVENT_REPLAY": (_TRUE, "streams are always replayed; choose with `resumable` of holdfast.attach"),
    "ENABLE_STREAM_RESUMPTION": (_TRUE, "streams resume always; choose with `resumable` of holdfast.attach"),
    "EVENT_ID_SEQUENCE_START": (("0",), "the store gives event ids, and an old one must not come again"),
    "MAX_SESSIONS_PER_CLIENT": (
        (),
        "`max_sessions` of holdfast.attach limits them over all clients",
    ),
    "MAX_CONCURRENT_STREAMS": (
        (),
        "limit the connections of the HTTP server instead",
    ),
    "STREAM_TIMEOUT_MS": ((), "a stream lives as long as its session: SESSION_TTL"),
    "FALLBACK_TO_MEMORY": (
        _FALSE,
        "a store that cannot be reached fails the start or, later, each request until it is back",
    ),
    "EVENT_TTL": ((), "events live as long as their session: SESSION_TTL"),
}
"""Variable: the values that ask for what happens anyway, and why no other is possible."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """What the environment says about the store.

    Attributes:
        url: the store; None: nothing was said. It may hold a password.
        url_variable: the variable that said it.
        ttl_seconds: a session ends after this long without activity (SESSION_TTL, seconds).
        max_events: most events in the log of one session (MAX_EVENTS_PER_SESSION).
        compression: whether payloads from 4 kB are compressed (SESSION_COMPRESSION).
        key_prefix: what all keys in Redis begin with; SESSION_KEY_PREFIX is this with `:session:` behind it.
        answer_seconds: how long an answer of the store may take (REDIS_SOCKET_TIMEOUT).
        connect_seconds: how long a connection to it may take (REDIS_CONNECT_TIMEOUT).
        probe_seconds: how often each connection is probed (REDIS_HEALTH_CHECK_INTERVAL).
        encryption_keys: see `KeyRing.parse` (HOLDFAST_ENCRYPTION_KEYS).
        debug_logging: whether everything is logged (SESSION_DEBUG_LOGGING).
    """

    url: str | None = field(default=None, repr=False)
    url_variable: str | None = None
    ttl_seconds: float | None = None
    max_events: int | None = None
    compression: bool = True
    key_prefix: str | None = None
    answer_seconds: float | None = None
    connect_seconds: float | None = None
    probe_seconds: float | None = None
    encryption_keys: str | None = field(default=None, repr=False)
    debug_logging: bool = False

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] = os.environ) -> "StoreSettings":
        """The settings of an environment. Empty variables count as not set.

        Raises:
            ConfigurationError: one of them is wrong, or asks for what is not possible.
        """
        given = {name: value.strip() for name, value in environment.items() if value.strip()}
        for name, (harmless, reason) in SUPERSEDED.items():
            if name in given and given[name].lower() not in harmless:
                raise ConfigurationError(f"{name}: is not used here: {reason}. Leave it out")
        known: dict[str, Any] = {
            setting: read(name, given[name]) for name, (setting, read) in _VARIABLES.items() if name in given
        }
        variable, url = _url(given)
        return cls(url=url, url_variable=variable, **known)


def _url(given: Mapping[str, str]) -> tuple[str | None, str | None]:
    """The store and the variable that names it: a whole URL wins over its parts."""
    if "SESSION_PERSISTENCE_ENABLED" in given and not _switch(
        "SESSION_PERSISTENCE_ENABLED", given["SESSION_PERSISTENCE_ENABLED"]
    ):
        return "SESSION_PERSISTENCE_ENABLED", "memory://"
    for variable in ("HOLDFAST_STORE", "REDIS_URL"):
        if variable in given:
            return variable, given[variable]
    if "REDIS_HOST" not in given:
        return None, None
    password = f":{quote(given['REDIS_PASSWORD'], safe='')}@" if "REDIS_PASSWORD" in given else ""
    host = f"[{given['REDIS_HOST']}]" if ":" in given["REDIS_HOST"] else given["REDIS_HOST"]
    port = _whole("REDIS_PORT", given.get("REDIS_PORT", "6379"), least=1, most=_LAST_PORT)
    db = _whole("REDIS_DB", given.get("REDIS_DB", "0"), least=0, most=2**31 - 1)
    return "REDIS_HOST", f"redis://{password}{host}:{port}/{db}"


def _switch(name: str, text: str) -> bool:
    if text.lower() not in _TRUE + _FALSE:
        raise ConfigurationError(f"{name}: got {text!r}, expected {', '.join(_TRUE + _FALSE)}")
    return text.lower() in _TRUE


def _whole(name: str, text: str, *, least: int, most: int) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 20 else -1  # noqa: PLR2004 - 64 bits
    if not least <= number <= most:
        raise ConfigurationError(f"{name}: got {text!r}, expected a whole number from {least} to {most:,}")
    return number


def _seconds(name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise ConfigurationError(f"{name}: got {text!r}, expected seconds above 0")
    return seconds


def _events(name: str, text: str) -> int:
    return _whole(name, text, least=8, most=1_000_000)


def _prefix(name: str, text: str) -> str:
    if not _KEY_PREFIX.fullmatch(text):
        raise ConfigurationError(
            f"{name}: got {text!r}, expected visible ASCII without braces that ends with :session:, such as "
            "mcp:session:"
        )
    return text.removesuffix(":session:")


def _secret(_name: str, text: str) -> str:
    return text


_VARIABLES: Final[Mapping[str, tuple[str, Callable[[str, str], Any]]]] = {
    "SESSION_TTL": ("ttl_seconds", _seconds),
    "MAX_EVENTS_PER_SESSION": ("max_events", _events),
    "SESSION_COMPRESSION": ("compression", _switch),
    "SESSION_KEY_PREFIX": ("key_prefix", _prefix),
    "REDIS_SOCKET_TIMEOUT": ("answer_seconds", _seconds),
    "REDIS_CONNECT_TIMEOUT": ("connect_seconds", _seconds),
    "REDIS_HEALTH_CHECK_INTERVAL": ("probe_seconds", _seconds),
    "SESSION_DEBUG_LOGGING": ("debug_logging", _switch),
    "HOLDFAST_ENCRYPTION_KEYS": ("encryption_keys", _secret),
}

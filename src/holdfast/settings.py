"""Environment and arguments to typed settings. An error names the variable, what it was, and what is allowed.

The names are those of the session persistence guide (seed 003). What that guide's other variables asked for
and this package does otherwise is in `SUPERSEDED`: setting one is an error that gives the reason, so that
nobody relies on a limit that is not there.
"""

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, TypedDict
from urllib.parse import quote

from holdfast.errors import ConfigurationError

__all__ = ["DEFAULT_TTL_SECONDS", "SUPERSEDED", "StoreOptions", "StoreSettings", "read_setting"]

DEFAULT_TTL_SECONDS: Final = 3_600.0
"""A session ends after this long without activity, if nobody says otherwise: the guide's hour."""

_TRUE: Final = ("true", "1", "yes", "on")
_FALSE: Final = ("false", "0", "no", "off")
_LAST_PORT: Final = 65_535
_LONGEST_TTL: Final = 10 * 365 * 86_400
_LONGEST_WAIT: Final = 3_600
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
    "EVENT_TTL": ((), "events live as long as their session: SESSION_TTL"),
    "EVENT_COMPRESSION": ((), "SESSION_COMPRESSION says whether messages are compressed"),
    "PREFER_REDIS": (_TRUE, "the store that is named is used; SESSION_PERSISTENCE_ENABLED=false is memory"),
    "CLEANUP_INTERVAL": ((), "the store itself removes what has expired, when it expires: SESSION_TTL"),
    "SESSION_CLEANUP_INTERVAL": ((), "the store itself removes sessions when they expire: SESSION_TTL"),
    "HEALTH_CHECK_INTERVAL": (
        (),
        "health is asked for, not kept; REDIS_HEALTH_CHECK_INTERVAL says how often connections are probed",
    ),
}
"""Variable: the values that ask for what happens anyway, and why no other is possible."""


class StoreOptions(TypedDict, total=False):
    """What can be said of a store as an argument; `StoreSettings` says what each means."""

    fallback: str
    max_events: int
    compression: bool
    key_prefix: str
    answer_seconds: float
    connect_seconds: float
    probe_seconds: float
    encryption_keys: str
    debug_logging: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreSettings:
    """What was said about the store, apart from the code.

    Attributes:
        url: the store; None: nothing was said. It may hold a password.
        url_variable: the variable that said it.
        ttl_seconds: a session ends after this long without activity (SESSION_TTL, seconds).
        fallback: `memory` or `fail`: what happens if Redis cannot be reached at the start
            (FALLBACK_TO_MEMORY, true or false). None: memory if Redis was named by a variable of the guide.
        max_events: most events in the log of one session (MAX_EVENTS_PER_SESSION).
        compression: whether payloads from 4 kB are compressed (SESSION_COMPRESSION).
        key_prefix: what the keys of sessions in Redis begin with, ending in `:session:` (SESSION_KEY_PREFIX).
        answer_seconds: how long an answer of the store may take (REDIS_SOCKET_TIMEOUT).
        connect_seconds: how long a connection to it may take (REDIS_CONNECT_TIMEOUT).
        probe_seconds: how often each connection is probed (REDIS_HEALTH_CHECK_INTERVAL).
        encryption_keys: see `KeyRing.parse` (HOLDFAST_ENCRYPTION_KEYS, or HOLDFAST_ENCRYPTION_KEYS_FILE,
            which names a file with them).
        debug_logging: whether everything is logged (SESSION_DEBUG_LOGGING).
    """

    url: str | None = field(default=None, repr=False)
    url_variable: str | None = None
    ttl_seconds: float | None = None
    fallback: str | None = None
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
        if "HOLDFAST_ENCRYPTION_KEYS" in given and "HOLDFAST_ENCRYPTION_KEYS_FILE" in given:
            raise ConfigurationError(
                "HOLDFAST_ENCRYPTION_KEYS_FILE: HOLDFAST_ENCRYPTION_KEYS is set too; expected one of them"
            )
        variable, url = _url(given)
        return cls(url=url, url_variable=variable, **known)

    def falls_back(self, named_by: str | None) -> bool:
        """Whether memory will do until the store can be reached for the first time (decision 0045).

        The guide's variables bring its fallback along; whoever names a store otherwise has to ask for it.

        Args:
            named_by: the variable that named the store, if one did.
        """
        if self.fallback is None:
            return named_by in {"REDIS_URL", "REDIS_HOST"}
        return self.fallback == "memory"

    def overridden(self, **options: Any) -> "StoreSettings":
        """These settings, with arguments (`StoreOptions`) in the place of what the environment says.

        Raises:
            ConfigurationError: an option is unknown, or its value is wrong; what is allowed.
        """
        chosen: dict[str, Any] = {}
        for name, value in options.items():
            if name not in StoreOptions.__annotations__:
                allowed = ", ".join(sorted(StoreOptions.__annotations__))
                raise ConfigurationError(f"store: unknown option {name!r}, expected one of {allowed}")
            chosen[name] = read_setting(name, _as_text(value))
        return replace(self, **chosen)


def read_setting(setting: str, text: str, *, name: str | None = None) -> Any:
    """The value of a setting of `StoreSettings` that was given as text.

    Args:
        setting: which one.
        text: what was given.
        name: what it is called where it was given.

    Raises:
        ConfigurationError: names it, what was given and what is allowed.
    """
    return _READERS[setting](name or setting, text)


def _as_text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


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


def _seconds(name: str, text: str, *, most: int = _LONGEST_WAIT) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= most:
        raise ConfigurationError(f"{name}: got {text!r}, expected seconds above 0 and up to {most:,}")
    return seconds


def _ttl(name: str, text: str) -> float:
    return _seconds(name, text, most=_LONGEST_TTL)


def _events(name: str, text: str) -> int:
    return _whole(name, text, least=8, most=1_000_000)


def _prefix(name: str, text: str) -> str:
    if not _KEY_PREFIX.fullmatch(text):
        raise ConfigurationError(
            f"{name}: got {text!r}, expected visible ASCII without braces that ends with :session:, such as "
            "mcp:session:"
        )
    return text


def _fallback(name: str, text: str) -> str:
    if text not in {"memory", "fail"}:
        raise ConfigurationError(f"{name}: got {text!r}, expected memory or fail")
    return text


def _fallback_switch(name: str, text: str) -> str:
    return "memory" if _switch(name, text) else "fail"


def _secret(_name: str, text: str) -> str:
    return text


def _secret_file(name: str, text: str) -> str:
    """What a file says, with ends of lines as separators."""
    try:
        lines = Path(text).read_text(encoding="utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not text"
        raise ConfigurationError(f"{name}: got {text!r}, expected a file to read: {reason}") from None
    if not lines:
        raise ConfigurationError(f"{name}: got {text!r}, expected a file with keys: it is empty")
    return ",".join(line.strip(",") for line in lines)


_READERS: Final[Mapping[str, Callable[[str, str], Any]]] = {
    "ttl_seconds": _ttl,
    "fallback": _fallback,
    "max_events": _events,
    "compression": _switch,
    "key_prefix": _prefix,
    "answer_seconds": _seconds,
    "connect_seconds": _seconds,
    "probe_seconds": _seconds,
    "debug_logging": _switch,
    "encryption_keys": _secret,
    "encryption_keys_file": _secret_file,
}

_VARIABLES: Final[Mapping[str, tuple[str, Callable[[str, str], Any]]]] = {
    "SESSION_TTL": ("ttl_seconds", _ttl),
    "FALLBACK_TO_MEMORY": ("fallback", _fallback_switch),
    "MAX_EVENTS_PER_SESSION": ("max_events", _events),
    "SESSION_COMPRESSION": ("compression", _switch),
    "SESSION_KEY_PREFIX": ("key_prefix", _prefix),
    "REDIS_SOCKET_TIMEOUT": ("answer_seconds", _seconds),
    "REDIS_CONNECT_TIMEOUT": ("connect_seconds", _seconds),
    "REDIS_HEALTH_CHECK_INTERVAL": ("probe_seconds", _seconds),
    "SESSION_DEBUG_LOGGING": ("debug_logging", _switch),
    "HOLDFAST_ENCRYPTION_KEYS": ("encryption_keys", _secret),
    "HOLDFAST_ENCRYPTION_KEYS_FILE": ("encryption_keys", _secret_file),
}

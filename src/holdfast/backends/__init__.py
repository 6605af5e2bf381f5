"""The stores: one folder per product, one file per protocol. The tree is the support matrix."""

import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack
from urllib.parse import urlsplit

from holdfast.errors import ConfigurationError
from holdfast.sessions.protocols import Backend
from holdfast.sessions.types import ReplicaId
from holdfast.settings import StoreOptions, StoreSettings

if TYPE_CHECKING:
    from holdfast.backends.memory import MemoryData

__all__ = ["backend_of", "open_store", "sqlite_file"]

logger = logging.getLogger("holdfast")

_NAMED_MEMORY: "dict[str, MemoryData]" = {}
_FALLBACK_SECONDS = 2.0
"""How long a start waits for a store that it can do without."""

_REDIS = re.compile(r"(redis|valkey)\S*|unix", re.IGNORECASE)


def open_store(
    url: str | None = None,
    *,
    name: str = "holdfast",
    settings: StoreSettings | None = None,
    serving: bool = False,
    **options: Unpack[StoreOptions],
) -> Backend:
    """The backend that a URL names, not yet connected: enter it.

    Args:
        url: `memory://` (this process only, shared within it by NAME in `memory://NAME`),
            `sqlite:///abs/file.db`, `sqlite://rel.db` (this machine), `sqlite://` (a file in the user's
            state folder), `redis://`, `rediss://` (TLS), `valkey://`, `valkeys://`, `unix://`, and with
            several hosts `redis-sentinel://`, `redis-cluster://` and the like. Default: `HOLDFAST_STORE`,
            then `REDIS_URL`, then memory.
        name: what the file of `sqlite://` is named after, e.g. the server.
        settings: what the store is like apart from where it is. Default: those of the environment.
        serving: clients are to be served from it: if it cannot be reached at the start, the setting
            `fallback` says whether memory will do until it can.
        options: go before `settings`: `fallback`, `max_events`, `compression`, `key_prefix`,
            `answer_seconds`, `connect_seconds`, `probe_seconds`, `encryption_keys`, `debug_logging`; see
            `StoreSettings`.

    Raises:
        ConfigurationError: no backend has this scheme, the URL is malformed, an option is wrong, or an extra
            is missing.
    """
    settings = StoreSettings.from_environment() if settings is None else settings
    settings = settings.overridden(**options)
    if settings.debug_logging:
        logger.setLevel(logging.DEBUG)
    setting, url = _choose(url, settings)
    try:
        return _open(setting, url, name, settings, serving=serving)
    except ConfigurationError as error:
        if setting == "store":
            raise
        # The backends do not know which variable named their URL.
        message = str(error)
        about_url = message.removeprefix("store URL: ").removeprefix("store: ")
        raise type(error)(f"{setting}: {about_url}" if about_url != message else message) from None


def _open(setting: str, url: str, name: str, settings: StoreSettings, *, serving: bool) -> Backend:
    scheme, separator, _ = url.partition("://")
    if scheme == "memory" and separator:
        return _open_memory(url, settings)
    if scheme == "sqlite" and separator:
        return _wrapped(_open_sqlite(url, name, settings), settings)
    if separator and _REDIS.fullmatch(scheme):
        if serving and settings.falls_back(setting):
            return _with_fallback(url, settings)
        return _wrapped(_open_redis(url, settings), settings)
    if not separator:
        raise ConfigurationError(
            f"{setting}: expected a URL, such as sqlite:///srv/sessions.db for a file, or redis://localhost"
        )
    raise ConfigurationError(
        f"{setting}: no store has the scheme {scheme[:20]!r}, expected memory://, sqlite://, "
        "redis://, rediss://, valkey://, valkeys://, unix://, redis-sentinel://, redis-cluster://"
    )


def backend_of(
    store: str | Backend | None, *, serving: bool = False, **options: Unpack[StoreOptions]
) -> Backend:
    """The backend that was given, or the one that a URL names; None: as in `open_store`.

    Raises:
        ConfigurationError: as in `open_store`; or options came together with a backend.
    """
    if store is None or isinstance(store, str):
        return open_store(store, serving=serving, **options)
    if options:
        raise ConfigurationError(
            f"{min(options)}: got it together with a backend as store, expected a URL: a backend was told "
            "such things when it was made"
        )
    return store


def sqlite_file(url: str, *, name: str = "holdfast") -> Path:
    """The file that a `sqlite://` URL stands for, for those who want to say where it is.

    Raises:
        ConfigurationError: the URL is malformed.
    """
    from holdfast.backends.sqlite.location import locate  # noqa: PLC0415 - lazily

    return locate(url, name, None)[0]


def _choose(url: str | None, settings: StoreSettings) -> tuple[str, str]:
    if url is not None:
        return "store", url
    if settings.url is not None and settings.url_variable is not None:
        return settings.url_variable, settings.url
    logger.warning(
        "no store was chosen: sessions live in this process's memory, end with it and cannot be shared. Set "
        "HOLDFAST_STORE or REDIS_URL, or pass store=, to serve them from several processes"
    )
    return "store", "memory://"


def _wrapped(backend: Backend, settings: StoreSettings) -> Backend:
    """With compression and encryption as the settings say, and able to read what other settings wrote."""
    from holdfast.backends.envelope import Codec, EnvelopeBackend, KeyRing  # noqa: PLC0415 - lazily

    keys = None if settings.encryption_keys is None else KeyRing.parse(settings.encryption_keys)
    codec = Codec(keys=keys) if settings.compression else Codec(compress_from_bytes=None, keys=keys)
    return EnvelopeBackend(backend, codec)


def _open_memory(url: str, settings: StoreSettings) -> Backend:
    from holdfast.backends.memory import MemoryBackend, MemoryData  # noqa: PLC0415 - lazily

    name = urlsplit(url).netloc
    data = MemoryData() if settings.max_events is None else MemoryData(max_events=settings.max_events)
    return MemoryBackend(_NAMED_MEMORY.setdefault(name, data) if name else data)


def _open_sqlite(url: str, name: str, settings: StoreSettings) -> Backend:
    try:
        from holdfast.backends.sqlite import SqliteBackend, SqliteOptions  # noqa: PLC0415 - lazily
    except ModuleNotFoundError as error:
        if error.name not in {"sqlite3", "_sqlite3"}:
            raise
        raise ConfigurationError(
            "store: this Python was built without SQLite; use another one, or redis:// or memory://"
        ) from None
    options = SqliteOptions()
    if settings.max_events is not None:
        options = replace(options, max_events=settings.max_events)
    return SqliteBackend(url, name=name, options=options)


def _with_fallback(url: str, settings: StoreSettings) -> Backend:
    from holdfast.backends.fallback import FallbackBackend  # noqa: PLC0415 - lazily
    from holdfast.backends.memory import MemoryBackend, MemoryData  # noqa: PLC0415 - lazily

    replica = _open_redis(url, settings).replica
    data = MemoryData() if settings.max_events is None else MemoryData(max_events=settings.max_events)
    # Wrapped like the store, so that what moves is compressed and encrypted as it has to be there.
    return FallbackBackend(
        lambda: _wrapped(_open_redis(url, settings, replica, start_wait=_FALLBACK_SECONDS), settings),
        _wrapped(MemoryBackend(data, replica=replica), settings),
    )


def _open_redis(
    url: str, settings: StoreSettings, replica: ReplicaId | None = None, *, start_wait: float | None = None
) -> Backend:
    try:
        from holdfast.backends.redis import RedisBackend, RedisOptions  # noqa: PLC0415 - lazily
    except ModuleNotFoundError as error:
        if error.name != "hiredis":
            raise
        raise ConfigurationError(
            'store: redis needs an extra that is not installed: pip install "holdfast[redis]"'
        ) from None
    given: dict[str, Any] = {
        "start_wait": start_wait,
        "max_events": settings.max_events,
        "connect_timeout": settings.connect_seconds,
        "retry_seconds": settings.answer_seconds,
        "silence_seconds": settings.answer_seconds,
        "ping_seconds": settings.probe_seconds,
    }
    options = RedisOptions(**{name: value for name, value in given.items() if value is not None})
    prefix = (settings.key_prefix or "mcp:session:").removesuffix(":session:")
    return RedisBackend(url, prefix=prefix, replica=replica, options=options)

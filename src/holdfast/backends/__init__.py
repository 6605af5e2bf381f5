"""The stores: one folder per product, one file per protocol. The tree is the support matrix."""

import logging
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from holdfast.errors import ConfigurationError
from holdfast.sessions.protocols import Backend

if TYPE_CHECKING:
    from holdfast.backends.memory import MemoryData

__all__ = ["open_store", "sqlite_file"]

logger = logging.getLogger("holdfast")

_NAMED_MEMORY: "dict[str, MemoryData]" = {}
_REDIS = re.compile(r"(redis|valkey)\S*|unix", re.IGNORECASE)


def open_store(url: str | None = None, *, name: str = "holdfast") -> Backend:
    """The backend that a URL names, not yet connected: enter it.

    Args:
        url: `memory://` (this process only, shared within it by NAME in `memory://NAME`),
            `sqlite:///abs/file.db`, `sqlite://rel.db` (this machine), `sqlite://` (a file in the user's
            state folder), `redis://`, `rediss://` (TLS), `valkey://`, `valkeys://`, `unix://`, and with
            several hosts `redis-sentinel://`, `redis-cluster://` and the like. Default: `HOLDFAST_STORE`,
            then `REDIS_URL`, then memory.
        name: what the file of `sqlite://` is named after, e.g. the server.

    Raises:
        ConfigurationError: no backend has this scheme, the URL is malformed, or an extra is missing.
    """
    setting, url = _choose(url)
    scheme, separator, _ = url.partition("://")
    if scheme == "memory" and separator:
        return _open_memory(url)
    if scheme == "sqlite" and separator:
        return _open_sqlite(url, name)
    if separator and _REDIS.fullmatch(scheme):
        return _open_redis(url)
    raise ConfigurationError(
        f"{setting}: no store has the scheme {scheme[:20]!r}, expected memory://, sqlite://, "
        "redis://, rediss://, valkey://, valkeys://, unix://, redis-sentinel://, redis-cluster://"
    )


def sqlite_file(url: str, *, name: str = "holdfast") -> Path:
    """The file that a `sqlite://` URL stands for, for those who want to say where it is.

    Raises:
        ConfigurationError: the URL is malformed.
    """
    from holdfast.backends.sqlite.location import locate  # noqa: PLC0415 - lazily

    return locate(url, name, None)[0]


def _choose(url: str | None) -> tuple[str, str]:
    if url is not None:
        return "store", url
    for variable in ("HOLDFAST_STORE", "REDIS_URL"):
        if value := os.environ.get(variable):
            return variable, value
    logger.warning(
        "no store was chosen: sessions live in this process's memory, end with it and cannot be shared. Set "
        "HOLDFAST_STORE or REDIS_URL, or pass store=, to serve them from several processes"
    )
    return "store", "memory://"


def _open_memory(url: str) -> Backend:
    from holdfast.backends.memory import MemoryBackend, MemoryData  # noqa: PLC0415 - lazily

    name = urlsplit(url).netloc
    return MemoryBackend(_NAMED_MEMORY.setdefault(name, MemoryData()) if name else None)


def _open_sqlite(url: str, name: str) -> Backend:
    try:
        from holdfast.backends.sqlite import SqliteBackend  # noqa: PLC0415 - lazily
    except ModuleNotFoundError as error:
        if error.name not in {"sqlite3", "_sqlite3"}:
            raise
        raise ConfigurationError(
            "store: this Python was built without SQLite; use another one, or redis:// or memory://"
        ) from None
    return SqliteBackend(url, name=name)


def _open_redis(url: str) -> Backend:
    try:
        from holdfast.backends.redis import RedisBackend  # noqa: PLC0415 - lazily
    except ModuleNotFoundError as error:
        if error.name != "hiredis":
            raise
        raise ConfigurationError(
            'store: redis needs an extra that is not installed: pip install "holdfast[redis]"'
        ) from None
    return RedisBackend(url)

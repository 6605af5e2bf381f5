"""From a URL to the file: where it is, and whether SQLite can share it there."""

import os
import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, unquote

from holdfast.backends.sqlite.options import SqliteOptions
from holdfast.errors import ConfigurationError

__all__ = ["check_filesystem", "locate"]

_SCHEME: Final = "sqlite://"
_SHARED_FILESYSTEMS: Final = frozenset(
    (
        *("9p", "afs", "ceph", "cifs", "fuse.glusterfs", "fuse.s3fs", "fuse.sshfs", "glusterfs", "lustre"),
        *("ncpfs", "nfs", "nfs4", "smb3", "smbfs"),
    )
)


def locate(url: str | Path, name: str, options: SqliteOptions | None) -> tuple[Path, SqliteOptions]:
    """The file and the options that a URL or a path names.

    Args:
        url: `sqlite:///srv/app/sessions.db` (absolute), `sqlite://sessions.db` (relative to the working
            folder), `sqlite://~/sessions.db`, each with `?option=value`; `sqlite://` alone is `NAME.db` in
            the folder for state of this user. Or a path.
        name: what the file in the folder for state is called.
        options: they win over those in the URL.

    Raises:
        ConfigurationError: it is no such URL.
    """
    if isinstance(url, Path) or "://" not in url:
        return _file(os.fspath(url)), options or SqliteOptions()
    if not url.startswith(_SCHEME):
        raise ConfigurationError(f"store: {url.split(':')[0]!r} is no scheme of SQLite, expected sqlite://")
    place, _, query = url.removeprefix(_SCHEME).partition("?")
    settings = _options(query)
    path = _file(unquote(place)) if place else _state_folder() / "holdfast" / f"{_file_name(name)}.db"
    return path, options or settings


def _file(path: str) -> Path:
    if ":memory:" in path:
        raise ConfigurationError(
            "store: SQLite in memory would belong to one connection only; memory:// keeps sessions in memory"
        )
    if not path or "\0" in path or path.endswith(("/", os.sep)):
        raise ConfigurationError(f"store: {path!r} is not the path of a file")
    return Path(path).expanduser().absolute()


def _file_name(name: str) -> str:
    """`name` as a file name. Two servers whose names differ only in what is replaced share a file."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-")[:100] or "holdfast"


def _state_folder() -> Path:
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support"
    chosen = Path(os.environ.get("XDG_STATE_HOME", ""))
    return chosen if chosen.is_absolute() else Path.home() / ".local" / "state"


def _options(query: str) -> SqliteOptions:
    defaults: dict[str, Any] = {field.name: field.default for field in fields(SqliteOptions)}
    chosen: dict[str, Any] = {}
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in defaults:
            raise ConfigurationError(
                f"store: sqlite:// has no option {key!r}; allowed: {', '.join(sorted(defaults))}"
            )
        try:
            chosen[key] = type(defaults[key])(value)
        except ValueError:
            raise ConfigurationError(f"store: {key} is {value!r}; allowed: a number above 0") from None
    return SqliteOptions(**chosen)


def check_filesystem(path: Path) -> str | None:
    """Why several processes cannot share a file there; None: as far as can be seen, they can."""
    kind = _filesystem(path)
    if kind in _SHARED_FILESYSTEMS:
        return f"it is on a network file system ({kind}), where SQLite's locks and shared memory do not work"
    return None


def _filesystem(path: Path) -> str:
    try:
        mounts = Path("/proc/self/mounts").read_text("utf-8", "surrogateescape").splitlines()
        folder = path.parent.resolve()
    except OSError:
        return ""
    best, kind = -1, ""
    for line in mounts:
        _, point, mounted, *_ = line.split(" ")
        point = re.sub(r"\\(\d{3})", lambda match: chr(int(match[1], 8)), point)
        if folder.is_relative_to(point) and len(point) >= best:
            best, kind = len(point), mounted
    return kind

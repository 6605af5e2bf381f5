"""The Lua scripts, as typed values: read once, hashed once, loaded in each connection's handshake."""

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from typing_extensions import override

__all__ = ["ALL", "Script"]

_INCLUDE: Final = re.compile(r"^-- include: (.+)\n", re.MULTILINE)
_INCLUDE_HERE: Final = re.compile(r"^ *-- include here: (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True, repr=False)
class Script:
    """One atomic step in the store.

    Attributes:
        name: its file without `.lua`.
        source: what the server gets, shared parts included.
        sha: what the server calls it.
    """

    name: str
    source: str
    sha: str

    @override
    def __repr__(self) -> str:
        """The name is enough."""
        return f"Script({self.name})"


def _read(name: str) -> str:
    return (files(__name__) / f"{name}.lua").read_text("utf-8")


def _shared(include: re.Match[str]) -> str:
    return "\n".join(_read(f"_{part.strip()}") for part in include[1].split(","))


def _load(name: str) -> Script:
    source = _read(name)
    if include := _INCLUDE.search(source):
        source = f"{_shared(include)}\n{source}"
    source = _INCLUDE_HERE.sub(_shared, source)
    return Script(name, source, hashlib.sha1(source.encode(), usedforsecurity=False).hexdigest())


APPEND: Final = _load("append")
BROADCAST: Final = _load("broadcast")
BROADCAST_READ: Final = _load("broadcast_read")
BROADCAST_TOP: Final = _load("broadcast_top")
CLAIM: Final = _load("claim")
CLOSE: Final = _load("close")
CONFIGURE: Final = _load("configure")
DUMP: Final = _load("dump")
EXPECT: Final = _load("expect")
FIND: Final = _load("find")
OPEN: Final = _load("open")
OPEN_STREAM: Final = _load("open_stream")
PUT: Final = _load("put")
READ: Final = _load("read")
RESTORE: Final = _load("restore")
ROSTER_ADD: Final = _load("roster_add")
ROSTER_COUNT: Final = _load("roster_count")
ROSTER_PAGE: Final = _load("roster_page")
ROSTER_REMOVE: Final = _load("roster_remove")
SETTLE: Final = _load("settle")
SUBSCRIBE: Final = _load("subscribe")
TAKE: Final = _load("take")
UNWATCH: Final = _load("unwatch")
WATCH: Final = _load("watch")

ALL: Final = tuple(value for value in list(globals().values()) if isinstance(value, Script))

"""How names are stored."""

import re
from typing import Final

from holdfast.errors import ConfigurationError, SessionGone
from holdfast.sessions.types import ReplicaId, SessionId

__all__ = ["check_replica", "check_session", "decode", "encode", "is_session"]

_SESSION_ID: Final = re.compile(r"[!-z|~]+")  # visible ASCII without braces
_REPLICA: Final = re.compile(r"[!-z~]+")  # the same without `|`


def encode(text: str) -> bytes:
    """Any text as bytes, even with the lone surrogates that JSON lets through."""
    return text.encode("utf-8", "surrogatepass")


def decode(data: bytes) -> str:
    """The text that `encode` was given."""
    return data.decode("utf-8", "surrogatepass")


def is_session(session: str) -> bool:
    """Whether a session can have this id."""
    return _SESSION_ID.fullmatch(session) is not None


def check_session(session: SessionId) -> None:
    """Nothing, if a session can have this id.

    Raises:
        SessionGone: none can.
    """
    if not is_session(session):
        raise SessionGone("no session can have this id")


def check_replica(replica: str) -> ReplicaId:
    """`replica`, if it can be a part of a file name and of a hint.

    Raises:
        ConfigurationError: it cannot.
    """
    if not _REPLICA.fullmatch(replica) or "." in replica or "/" in replica:
        raise ConfigurationError(f"replica id is {replica!r}; allowed: visible ASCII without {{ }} | / and .")
    return ReplicaId(replica)

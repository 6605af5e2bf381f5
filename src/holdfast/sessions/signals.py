"""What replicas tell each other over the bus: hints that may be lost. JSON, one object per signal.

`v` is the version of the format. A replica ignores kinds and fields that it does not know, so that two
releases can run side by side.
"""

import json
from typing import Any, Final, cast

from holdfast.sessions.types import ReplicaId

__all__ = ["EVERYBODY", "decode_signal", "encode_signal", "topic_of"]

EVERYBODY: Final = "all"
"""The topic that every replica subscribes to."""


def topic_of(replica: ReplicaId) -> str:
    """The topic of one replica."""
    return f"replica/{replica}"


def encode_signal(kind: str, **fields: Any) -> bytes:
    """A signal as it goes over the bus."""
    return json.dumps({"v": 1, "kind": kind, **fields}, separators=(",", ":")).encode()


def decode_signal(message: bytes) -> tuple[str, dict[str, Any]]:
    """Kind and fields of a signal; the kind is empty for what this release cannot read."""
    try:
        fields: Any = json.loads(message)
    except ValueError:
        return "", {}
    if not isinstance(fields, dict):
        return "", {}
    known = cast("dict[str, Any]", fields)
    return (str(known.get("kind", "")), known) if known.get("v") == 1 else ("", {})

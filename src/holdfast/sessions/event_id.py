"""The SSE `id:` of an event: opaque text that encodes its stream and its position. No I/O.

Version 1 is `1.<stream>.<epoch>.<offset>`. Whoever holds an id can read nothing with it but streams of the
session that it is presented in: the epoch is random per session, and an unknown one is refused.
"""

import re
from typing import Final

from holdfast.sessions.types import Position, StreamId

__all__ = ["decode_event_id", "encode_event_id"]

_PATTERN: Final = re.compile(
    r"1\.([A-Za-z0-9_-]{1,32})\.([A-Za-z0-9_-]{1,32})\.(0|[1-9][0-9]{0,14})", re.ASCII
)


def encode_event_id(stream: StreamId, position: Position) -> str:
    """The event id of a place in a stream."""
    return f"1.{stream}.{position.epoch}.{position.offset}"


def decode_event_id(text: str) -> tuple[StreamId, Position]:
    """The stream and position in an event id.

    Raises:
        ValueError: it is not an event id of ours. The message does not repeat it.
    """
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ValueError("not an event id of this server")
    stream, epoch, offset = match.groups()
    return StreamId(stream), Position(epoch, int(offset))

"""The SSE `id:` of an event: opaque text that encodes its stream and its position. No I/O.

Version 1 is `1.<stream>.<epoch>.<offset>`. Version 2 is `2.<stream>.<epoch>.<offset>.<epoch>.<offset>`, with
a position in the broadcast log behind that in the session's; it is used once there is such a position, on the
standalone stream only. Until something is broadcast, a release that knows only version 1 reads every id.

Whoever holds an id can read nothing with it but streams of the session that it is presented in, and what is
said to all: the epoch of a session is random, and an unknown one is refused.
"""

import re
from typing import Final

from holdfast.sessions.types import GENESIS, Position, StreamId

__all__ = ["decode_event_id", "encode_event_id"]

_WORD: Final = r"([A-Za-z0-9_-]{1,32})"
_OFFSET: Final = r"(0|[1-9][0-9]{0,14})"
_PATTERN: Final = re.compile(
    rf"(?:1\.{_WORD}\.{_WORD}\.{_OFFSET}|2\.{_WORD}\.{_WORD}\.{_OFFSET}\.{_WORD}\.{_OFFSET})", re.ASCII
)


def encode_event_id(stream: StreamId, position: Position, broadcast: Position = GENESIS) -> str:
    """The event id of a place in a stream, and in the broadcast log if that is merged into it."""
    if broadcast == GENESIS:
        return f"1.{stream}.{position.epoch}.{position.offset}"
    return f"2.{stream}.{position.epoch}.{position.offset}.{broadcast.epoch}.{broadcast.offset}"


def decode_event_id(text: str) -> tuple[StreamId, Position, Position]:
    """The stream, the position in the session's log and that in the broadcast log that an event id names.

    Raises:
        ValueError: it is not an event id of ours. The message does not repeat it.
    """
    match = _PATTERN.fullmatch(text)
    if match is None:
        raise ValueError("not an event id of this server")
    stream, epoch, offset, *broadcast = [group for group in match.groups() if group is not None]
    place = Position(broadcast[0], int(broadcast[1])) if broadcast else GENESIS
    return StreamId(stream), Position(epoch, int(offset)), place

"""Where a client of the HTTP+SSE transport is: its session, and a place in each stream that it still reads.

The 2024-11-05 transport has one connection for everything, and a client that comes back names nothing but the
last event id. So each id names them all: `h1~<number of streams>~<event id>~...~<session>`.
"""

from dataclasses import dataclass, field
from typing import Final

from holdfast.sessions.event_id import decode_event_id
from holdfast.sessions.types import StreamId

__all__ = ["Cursor"]

_VERSION: Final = "h1"
_MOST_STREAMS: Final = 512
"""More requests than that, unanswered at once on one connection, cannot be resumed."""


@dataclass(slots=True)
class Cursor:
    """A session and places in its streams. Whoever holds one speaks for the session: keep it as secret.

    Attributes:
        session: the session.
        places: for each stream the event id of what was delivered last. Requests that were answered are not
            in it.
    """

    session: str
    places: dict[StreamId, str] = field(default_factory=dict[StreamId, str])

    def encode(self) -> str:
        """The event id that says all of this."""
        ids = list(self.places.values())[:_MOST_STREAMS]
        return "~".join([_VERSION, str(len(ids)), *ids, self.session])

    @classmethod
    def decode(cls, text: str) -> "Cursor":
        """What an event id says.

        Raises:
            ValueError: it is not one of this transport. The message does not repeat it.
        """
        version, _, rest = text.partition("~")
        count, _, rest = rest.partition("~")
        if version != _VERSION or not count.isdecimal() or len(count) > len(str(_MOST_STREAMS)):
            raise ValueError("not an event id of this server")
        *ids, session = rest.split("~", int(count))
        if len(ids) != int(count) or len(ids) > _MOST_STREAMS:
            raise ValueError("not an event id of this server")
        return cls(session, {decode_event_id(each)[0]: each for each in ids})

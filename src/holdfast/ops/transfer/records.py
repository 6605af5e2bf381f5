"""A session as JSON, and back. No I/O."""

import base64
import hashlib
import json
from dataclasses import asdict, dataclass
from typing import Any, Final, Self

from holdfast.sessions.image import AskedImage, SessionImage, StreamImage
from holdfast.sessions.types import (
    Event,
    Position,
    ReplicaId,
    SessionFacts,
    SessionId,
    Settings,
    StreamId,
    StreamState,
)

__all__ = ["Copy", "Counts", "image_of"]

_EPOCHS: Final = ("epoch", "fences")
"""Not part of a digest: they change when a file is opened again, and no client has seen that yet."""


@dataclass(slots=True)
class Counts:
    """What was moved.

    Attributes:
        pending: requests to clients that wait for an answer, and answers that wait to be taken.
        bytes: of payload, in events.
    """

    sessions: int = 0
    events: int = 0
    pending: int = 0
    bytes: int = 0

    def add(self, copy: "Copy") -> None:
        """Count a session in."""
        self.sessions += 1
        self.events += len(copy.image.events)
        self.pending += len(copy.image.asked)
        self.bytes += sum(len(event.payload) for event in copy.image.events)

    def record(self) -> dict[str, int]:
        """As JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Copy:
    """A session and its subscriptions, as one store had them."""

    image: SessionImage
    subscriptions: tuple[str, ...]

    def record(self) -> dict[str, Any]:
        """As JSON."""
        image = self.image
        facts = asdict(image.facts) | {"client": _text(image.facts.client)}
        return {
            "facts": facts,
            "settings": asdict(image.settings),
            "epoch": image.epoch,
            "top": image.top,
            "fences": [list(fence) for fence in image.fences],
            "streams": [_stream(stream) for stream in image.streams],
            "events": [_event(event) for event in image.events],
            "asked": [_asked(asked) for asked in image.asked],
            "holder": None if image.holder is None else list(image.holder),
            "subscriptions": list(self.subscriptions),
        }

    @classmethod
    def of(cls, record: dict[str, Any]) -> Self:
        """The session in a record.

        Raises:
            LookupError, TypeError, ValueError: the record was not made by `record`.
        """
        facts, epoch, holder = dict(record["facts"]), record["epoch"], record["holder"]
        facts |= {"client": _bytes(facts["client"]), "broadcast": Position(**facts["broadcast"])}
        image = SessionImage(
            SessionFacts(**facts),
            Settings(**record["settings"]),
            epoch,
            record["top"],
            tuple((name, top) for name, top in record["fences"]),
            tuple(_stream_of(*fields) for fields in record["streams"]),
            tuple(_event_of(epoch, *fields) for fields in record["events"]),
            tuple(_asked_of(*fields) for fields in record["asked"]),
            None if holder is None else (ReplicaId(holder[0]), holder[1]),
        )
        return cls(image, tuple(record["subscriptions"]))

    def digest(self) -> str:
        """The same for two copies of a session if nothing happened in it between them; see `image_of`."""
        content = {name: part for name, part in self.record().items() if name not in _EPOCHS}
        subscriptions = content.pop("subscriptions")
        return f"{_digest(content)}-{_digest(subscriptions)}"

    @property
    def id(self) -> SessionId:
        """The session."""
        return self.image.facts.id


def image_of(digest: str) -> str:
    """The part of a digest that says nothing of subscriptions: they are moved in a step of their own."""
    return digest.partition("-")[0]


def _digest(content: Any) -> str:
    text = json.dumps(content, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def _text(data: bytes) -> str | list[str]:
    """Text as it is, for whoever looks into the file; other bytes in a list, as base64."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return [base64.b64encode(data).decode()]


def _bytes(text: str | list[str]) -> bytes:
    return text.encode() if isinstance(text, str) else base64.b64decode(text[0], validate=True)


def _stream(stream: StreamImage) -> list[Any]:
    state = stream.state
    return [stream.name, state.running, state.replica, state.request_id, stream.opened_at, stream.trimmed]


def _stream_of(
    name: str, running: bool, replica: str | None, request: str | int | None, opened_at: int, trimmed: int
) -> StreamImage:
    writer = None if replica is None else ReplicaId(replica)
    return StreamImage(StreamId(name), StreamState(running, writer, request), opened_at, trimmed)


def _event(event: Event) -> list[Any]:
    return [event.position.offset, event.stream, event.previous, event.final, _text(event.payload)]


def _event_of(
    epoch: str, offset: int, stream: str, previous: int, final: bool, payload: str | list[str]
) -> Event:
    return Event(StreamId(stream), Position(epoch, offset), previous, _bytes(payload), final)


def _asked(asked: AskedImage) -> list[Any]:
    answer = None if asked.answer is None else _text(asked.answer)
    return [asked.request_id, asked.replica, asked.offset, answer]


def _asked_of(
    request_id: str, replica: str, offset: int | None, answer: str | list[str] | None
) -> AskedImage:
    return AskedImage(request_id, ReplicaId(replica), offset, None if answer is None else _bytes(answer))

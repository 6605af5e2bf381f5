"""Server-sent events as bytes. No I/O."""

from typing import Final

__all__ = ["KEEPALIVE", "event", "frame", "prime", "retry"]

KEEPALIVE: Final = b": keepalive\n\n"
"""A comment: it keeps proxies from closing an idle stream, and clients ignore it."""


_FRAMED: Final = frozenset({b"event", b"data:", b"data\n"})


def frame(payload: bytes, event_id: str | None = None) -> bytes:
    """One message. Without an id the client's cursor stays where it is.

    What begins as no JSON does was framed by whoever sent it, as an event of another kind.
    """
    if payload[:5] in _FRAMED:
        return payload if event_id is None else b"id: " + event_id.encode() + b"\n" + payload
    data = payload
    if b"\n" in payload or b"\r" in payload:  # only as blanks between tokens: JSON escapes them in texts
        data = payload.replace(b"\r", b"\n").replace(b"\n", b"\ndata: ")
    if event_id is None:
        return b"event: message\ndata: " + data + b"\n\n"
    return b"id: " + event_id.encode() + b"\nevent: message\ndata: " + data + b"\n\n"


def event(name: str, data: bytes, event_id: str) -> bytes:
    """An event of another name, of one line."""
    return f"id: {event_id}\nevent: {name}\ndata: ".encode() + data + b"\n\n"


def prime(event_id: str, retry_milliseconds: int) -> bytes:
    """An event without a message: from here on the client can resume (only understood from 2025-11-25 on)."""
    return f"id: {event_id}\nretry: {retry_milliseconds}\ndata: \n\n".encode()


def place(event_id: str) -> bytes:
    """The id of what the client had before it was stored. Only understood from 2025-11-25 on."""
    return f"id: {event_id}\ndata: \n\n".encode()


def retry(milliseconds: int) -> bytes:
    """How long the client should wait before it comes back."""
    return f"retry: {milliseconds}\n\n".encode()

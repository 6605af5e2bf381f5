"""What a request must satisfy before anything is done for it: headers, Host and Origin, body size."""

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, TypeAlias

from holdfast.asgi.jsonrpc import INVALID_REQUEST

__all__ = [
    "Guards",
    "Headers",
    "Http",
    "Receive",
    "Refusal",
    "Scope",
    "Send",
    "accepts",
    "is_json",
    "read_body",
    "read_headers",
]

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers: TypeAlias = dict[bytes, bytes]

DEFAULT_MAX_BODY_BYTES: Final = 4 * 1024 * 1024
_JSON: Final = "application/json"
_JSON_BYTES: Final = _JSON.encode()
_SSE: Final = "text/event-stream"
_REMEMBERED: Final = 64
"""Header values whose meaning is kept: clients send the same ones with every request."""


class Refusal(Exception):
    """The request is answered with this, and nothing else happens."""

    def __init__(
        self,
        status: int,
        message: str,
        *,
        code: int = INVALID_REQUEST,
        headers: tuple[tuple[bytes, bytes], ...] = (),
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.code = code
        self.headers = headers


@dataclass(frozen=True, slots=True)
class Http:
    """One HTTP request and the way to answer it."""

    scope: Scope
    headers: Headers
    receive: Receive
    send: Send


def read_headers(scope: Scope) -> tuple[Scope, Headers]:
    """The request's headers by lower-case name; those sent twice are joined by commas.

    Returns:
        The request with header values as RFC 9110 5.5 defines them (httptools leaves blanks around them), and
        the headers.
    """
    headers: Headers = {}
    given: list[tuple[bytes, bytes]] = scope["headers"]
    blanks = False
    for name, raw in given:
        value = raw.strip(b" \t")
        blanks = blanks or value is not raw
        headers[name] = headers[name] + b"," + value if name in headers else value
    if blanks:
        scope = {**scope, "headers": [(name, value.strip(b" \t")) for name, value in given]}
    return scope, headers


def accepts(headers: Headers) -> tuple[bool, bool]:
    """Whether the client accepts JSON, and whether it accepts SSE (RFC 9110 wildcards included)."""
    return _accepted(headers.get(b"accept", b""))


@lru_cache(_REMEMBERED)
def _accepted(accept: bytes) -> tuple[bool, bool]:
    given = {part.split(";")[0].strip().lower() for part in accept.decode("latin-1").split(",")}
    anything = "*/*" in given
    return anything or bool({_JSON, "application/*"} & given), anything or bool({_SSE, "text/*"} & given)


def is_json(headers: Headers) -> bool:
    """Whether the body is declared to be JSON."""
    declared = headers.get(b"content-type", b"")
    return declared == _JSON_BYTES or declared.split(b";")[0].strip().lower() == _JSON_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """Protection against DNS rebinding and oversized bodies.

    Attributes:
        allowed_hosts: `Host` headers that are served, `name:*` for any port; None: all.
        allowed_origins: `Origin` headers that are served, besides none at all; None: all, or no other one if
            `allowed_hosts` are given.
        max_body_bytes: larger bodies are refused with 413 before they are read whole.
    """

    allowed_hosts: tuple[str, ...] | None = None
    allowed_origins: tuple[str, ...] | None = None
    max_body_bytes: int = DEFAULT_MAX_BODY_BYTES

    def check(self, headers: Headers) -> None:
        """Check Host and Origin.

        Raises:
            Refusal: 421 for a foreign host, 403 for a foreign origin.
        """
        if self.allowed_hosts is not None and not _matches(headers.get(b"host", b""), self.allowed_hosts):
            raise Refusal(421, "Invalid Host header")
        if self.allowed_hosts is None and self.allowed_origins is None:
            return
        origin = headers.get(b"origin", b"")
        if origin and not _matches(origin, self.allowed_origins or ()):
            raise Refusal(403, "Invalid Origin header")


@lru_cache(_REMEMBERED)
def _matches(raw: bytes, allowed: tuple[str, ...]) -> bool:
    value = raw.decode("latin-1")
    return value in allowed or any(a.endswith(":*") and value.startswith(a[:-1]) for a in allowed)


async def read_body(http: Http, limit: int) -> bytes | None:
    """The whole body; None if the client went away before it was complete.

    Raises:
        Refusal: 413, larger than `limit` bytes.
    """
    declared = http.headers.get(b"content-length", b"")
    if declared.isdigit() and len(declared) < 20 and int(declared) > limit:  # noqa: PLR2004 - more digits than bytes exist
        raise Refusal(413, f"Request body too large: at most {limit} bytes are accepted")
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await http.receive()
        if message["type"] != "http.request":
            return None
        chunk: bytes = message.get("body", b"")
        size += len(chunk)
        if size > limit:
            raise Refusal(413, f"Request body too large: at most {limit} bytes are accepted")
        chunks.append(chunk)
        if not message.get("more_body", False):
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)

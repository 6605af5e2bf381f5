"""What a request must satisfy before anything is done for it: headers, Host and Origin, body size."""

from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
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
    "headers_of",
    "is_json",
    "read_body",
]

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]
Headers: TypeAlias = dict[bytes, bytes]

DEFAULT_MAX_BODY_BYTES: Final = 4 * 1024 * 1024
_JSON: Final = "application/json"
_SSE: Final = "text/event-stream"


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


def headers_of(scope: Scope) -> Headers:
    """The request's headers by lower-case name; those sent twice are joined by commas."""
    headers: Headers = {}
    for name, value in scope["headers"]:
        headers[name] = headers[name] + b"," + value if name in headers else value
    return headers


def accepts(headers: Headers) -> tuple[bool, bool]:
    """Whether the client accepts JSON, and whether it accepts SSE (RFC 9110 wildcards included)."""
    given = {
        part.split(";")[0].strip().lower()
        for part in headers.get(b"accept", b"").decode("latin-1").split(",")
    }
    anything = "*/*" in given
    return anything or bool({_JSON, "application/*"} & given), anything or bool({_SSE, "text/*"} & given)


def is_json(headers: Headers) -> bool:
    """Whether the body is declared to be JSON."""
    return headers.get(b"content-type", b"").split(b";")[0].strip().lower() == _JSON.encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Guards:
    """Protection against DNS rebinding and oversized bodies.

    Attributes:
        allowed_hosts: `Host` headers that are served, `name:*` for any port; None: all.
        allowed_origins: `Origin` headers that are served, besides none at all. Only with `allowed_hosts`.
        max_body_bytes: larger bodies are refused with 413 before they are read whole.
    """

    allowed_hosts: tuple[str, ...] | None = None
    allowed_origins: tuple[str, ...] = ()
    max_body_bytes: int = DEFAULT_MAX_BODY_BYTES

    def check(self, headers: Headers) -> None:
        """Check Host and Origin.

        Raises:
            Refusal: 421 for a foreign host, 403 for a foreign origin.
        """
        if self.allowed_hosts is None:
            return
        host = headers.get(b"host", b"").decode("latin-1")
        if not _matches(host, self.allowed_hosts):
            raise Refusal(421, "Invalid Host header")
        origin = headers.get(b"origin", b"").decode("latin-1")
        if origin and not _matches(origin, self.allowed_origins):
            raise Refusal(403, "Invalid Origin header")


def _matches(value: str, allowed: tuple[str, ...]) -> bool:
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

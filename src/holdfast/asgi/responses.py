"""Whole HTTP responses."""

from holdfast.asgi.guards import Refusal, Send
from holdfast.asgi.jsonrpc import encode_error

__all__ = ["send_json", "send_refusal", "send_status"]


async def send_json(
    send: Send,
    body: bytes,
    *,
    status: int = 200,
    session: str | None = None,
    content_type: bytes = b"application/json",
    headers: tuple[tuple[bytes, bytes], ...] = (),
) -> None:
    """Send one body."""
    given = [(b"content-type", content_type), (b"content-length", b"%d" % len(body)), *headers]
    if session is not None:
        given.append((b"mcp-session-id", session.encode("latin-1")))
    await send({"type": "http.response.start", "status": status, "headers": given})
    await send({"type": "http.response.body", "body": body})


async def send_status(send: Send, status: int, *, session: str | None = None) -> None:
    """Send a status without a body."""
    headers = [(b"content-length", b"0")]
    if session is not None:
        headers.append((b"mcp-session-id", session.encode("latin-1")))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": b""})


async def send_refusal(send: Send, refusal: Refusal) -> None:
    """Say why a request is not served, as a JSON-RPC error that belongs to no request."""
    body = encode_error(None, refusal.code, refusal.message)
    await send_json(send, body, status=refusal.status, headers=refusal.headers)

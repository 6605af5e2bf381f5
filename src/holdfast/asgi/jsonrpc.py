"""JSON-RPC 2.0 on the wire: one message decoded once, results passed on as bytes."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, cast

import pydantic_core

from holdfast.sessions.types import RequestId

__all__ = [
    "INTERNAL_ERROR",
    "INVALID_PARAMS",
    "INVALID_REQUEST",
    "METHOD_NOT_FOUND",
    "PARSE_ERROR",
    "REQUEST_CANCELLED",
    "Answer",
    "InvalidMessageError",
    "Message",
    "Notification",
    "Request",
    "decode",
    "encode_error",
    "encode_notification",
    "encode_request",
]

PARSE_ERROR: Final = -32700
INVALID_REQUEST: Final = -32600
METHOD_NOT_FOUND: Final = -32601
INVALID_PARAMS: Final = -32602
INTERNAL_ERROR: Final = -32603
REQUEST_CANCELLED: Final = -32800
"""What the SDK answers to a cancelled request, whose stream could not end otherwise."""


_LONGEST_ID: Final = 256
"""Ids are kept with the streams that they opened."""


class InvalidMessageError(ValueError):
    """The body is not one JSON-RPC message. `code` is the JSON-RPC error code that says why."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Request:
    """The client wants an answer."""

    id: RequestId
    method: str
    params: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Notification:
    """The client tells something."""

    method: str
    params: Mapping[str, Any] | None


@dataclass(frozen=True, slots=True)
class Answer:
    """The client answers a request of the server; the body is kept as it was posted."""

    id: RequestId | None


Message: TypeAlias = Request | Notification | Answer


def decode(body: bytes) -> Message:
    """The one JSON-RPC message in a body.

    Raises:
        InvalidMessageError: it is not JSON (-32700), or not one JSON-RPC 2.0 message (-32600).
    """
    try:
        raw: Any = pydantic_core.from_json(body)
    except ValueError as error:
        raise InvalidMessageError(PARSE_ERROR, f"Parse error: {error}") from None
    if isinstance(raw, list):
        raise InvalidMessageError(
            INVALID_REQUEST, "Invalid Request: batches are not supported, send one message per POST"
        )
    if not isinstance(raw, dict):
        raise InvalidMessageError(INVALID_REQUEST, "Invalid Request: expected a JSON object")
    message = cast("dict[str, Any]", raw)
    if message.get("jsonrpc") != "2.0":
        raise InvalidMessageError(INVALID_REQUEST, 'Invalid Request: "jsonrpc" must be "2.0"')
    return _classify(message)


def _classify(message: dict[str, Any]) -> Message:
    if "method" not in message:
        if ("result" in message) == ("error" in message):
            raise InvalidMessageError(
                INVALID_REQUEST, 'Invalid Request: expected "method", "result" or "error"'
            )
        return Answer(None if message.get("id") is None and "error" in message else _id(message.get("id")))
    method, params = message["method"], message.get("params")
    if not isinstance(method, str):
        raise InvalidMessageError(INVALID_REQUEST, 'Invalid Request: "method" must be a string')
    if params is not None and not isinstance(params, dict):
        raise InvalidMessageError(INVALID_REQUEST, 'Invalid Request: "params" must be an object')
    if "id" not in message:
        return Notification(method, cast("dict[str, Any] | None", params))
    return Request(_id(message["id"]), method, cast("dict[str, Any] | None", params))


def _id(value: object) -> RequestId:
    if isinstance(value, str) and len(value) > _LONGEST_ID:
        raise InvalidMessageError(
            INVALID_REQUEST, f'Invalid Request: "id" is longer than {_LONGEST_ID} characters'
        )
    if isinstance(value, str | int) and not isinstance(value, bool):
        return value
    raise InvalidMessageError(INVALID_REQUEST, 'Invalid Request: "id" must be a string or an integer')


def encode_error(request_id: RequestId | None, code: int, message: str, data: Any = None) -> bytes:
    """A JSON-RPC error response."""
    error: dict[str, Any] = {"code": code, "message": message}
    if data is not None:
        error["data"] = data
    return pydantic_core.to_json({"jsonrpc": "2.0", "id": request_id, "error": error})


def encode_notification(method: str, params: Mapping[str, Any] | None = None) -> bytes:
    """A JSON-RPC notification; `params` is left out when there are none."""
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    if params is not None:
        message["params"] = params
    return pydantic_core.to_json(message)


def encode_request(request_id: RequestId, method: str, params: Mapping[str, Any] | None) -> bytes:
    """A JSON-RPC request; `params` is left out when there are none."""
    message: dict[str, Any] = {"jsonrpc": "2.0", "id": request_id, "method": method}
    if params:
        message["params"] = params
    return pydantic_core.to_json(message)

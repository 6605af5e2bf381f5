"""What a caller sends, as the log keeps it: a JSON message, or one framed event of another kind."""

from collections.abc import Mapping
from typing import Any, cast

import pydantic_core

__all__ = ["payload_of"]


def payload_of(data: str | Mapping[str, Any]) -> bytes:
    """A message as JSON, or a framed event as it is. A framed JSON-RPC message is the same as its message.

    Raises:
        ValueError: `data` is not one framed event, or it has an `id` of its own: ids name places in the log.
    """
    if isinstance(data, Mapping):
        return pydantic_core.to_json(dict(data))
    text = data.replace("\r\n", "\n").replace("\r", "\n")
    if not text.endswith("\n\n") or "\n\n" in text[:-2] or text.startswith("\n"):
        raise ValueError("data: expected one server-sent event that ends with an empty line, or a message")
    fields = [line.partition(":")[::2] for line in text[:-2].split("\n")]
    names = [name for name, _ in fields]
    if "id" in names:
        raise ValueError("data: has an id of its own; ids are given by the event log")
    if "data" not in names:
        raise ValueError("data: the event has no data, so clients would ignore it")
    values = ["".join(value.removeprefix(" ")) for name, value in fields if name == "data"]
    kinds = [value.removeprefix(" ") for name, value in fields if name == "event"]
    body = "\n".join(values)
    if kinds in ([], ["message"]) and set(names) <= {"event", "data"} and _is_message(body):
        return body.encode()
    lines = [line for name in ("event", "data", "retry") for line in text.split("\n") if _is(line, name)]
    return "\n".join([*lines, "", ""]).encode()  # what begins like this is no JSON: see `sse.frame`


def _is(line: str, name: str) -> bool:
    return line.partition(":")[0] == name


def _is_message(body: str) -> bool:
    try:
        message: Any = pydantic_core.from_json(body)
    except ValueError:
        return False
    return isinstance(message, dict) and cast("dict[str, Any]", message).get("jsonrpc") == "2.0"

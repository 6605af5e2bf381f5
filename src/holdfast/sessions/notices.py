"""What tells a client that it missed something (decision 0005)."""

import json
from typing import Any, Final

__all__ = ["events_lost"]

_RESYNC: Final = (
    "notifications/tools/list_changed",
    "notifications/prompts/list_changed",
    "notifications/resources/list_changed",
)


def events_lost(reason: str, *, standalone: bool) -> list[bytes]:
    """The messages that say so; on the standalone stream also those that make a client ask again."""
    data = {"event": "events-lost", "reason": reason}
    told = _notification(
        "notifications/message", params={"level": "warning", "logger": "holdfast", "data": data}
    )
    return [told, *map(_notification, _RESYNC)] if standalone else [told]


def _notification(method: str, **rest: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": method, **rest}, separators=(",", ":")).encode()

"""What tells a client that it missed something (decision 0005)."""

import json
from collections.abc import Iterable
from typing import Any, Final

__all__ = ["events_lost"]

_RESYNC: Final = (
    "notifications/tools/list_changed",
    "notifications/prompts/list_changed",
    "notifications/resources/list_changed",
)


def events_lost(
    reason: str, *, standalone: bool, subscribed: Iterable[str] = (), **ends: str | None
) -> list[bytes]:
    """The messages that say so; on the standalone stream also those that make a client ask again.

    Args:
        reason: why.
        standalone: whether it is the standalone stream.
        subscribed: URIs of resources that may have changed meanwhile.
        ends: event ids of the ends of the gap, where they are known.
    """
    known = {name: end for name, end in ends.items() if end is not None}
    data = {"event": "events-lost", "reason": reason, **known}
    told = _notification(
        "notifications/message", params={"level": "warning", "logger": "holdfast", "data": data}
    )
    if not standalone:
        return [told]
    updated = (_notification("notifications/resources/updated", params={"uri": uri}) for uri in subscribed)
    return [told, *map(_notification, _RESYNC), *updated]


def _notification(method: str, **rest: Any) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "method": method, **rest}, separators=(",", ":")).encode()

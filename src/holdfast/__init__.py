"""Holdfast: sessions of MCP servers as data, so that any replica serves any request.

Importing this pulls in nothing heavy; `attach` and `streamable_http_app` load their framework when they are
first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from holdfast.backends import open_store
from holdfast.errors import (
    ConfigurationError,
    HoldfastError,
    PositionLost,
    SessionError,
    SessionExists,
    SessionGone,
    StoreError,
    StoreRefused,
    StoreUnavailable,
    StreamClosed,
    StreamError,
    StreamUnknown,
    TooManySessions,
)
from holdfast.observe import Observer
from holdfast.sessions.manager import SessionManager, StreamController

if TYPE_CHECKING:
    from holdfast.integrations.mcp_sdk.app import attach, streamable_http_app
    from holdfast.integrations.mcp_sdk.transports import HttpTransport, SseTransport
    from holdfast.integrations.plain.controllers import SseResponse
    from holdfast.integrations.plain.manager import (
        InMemorySessionManager,
        LogSessionManager,
        RedisSessionManager,
    )
    from holdfast.integrations.plain.publisher import Publisher

__all__ = [
    "ConfigurationError",
    "HoldfastError",
    "HttpTransport",
    "InMemorySessionManager",
    "LogSessionManager",
    "Observer",
    "PositionLost",
    "Publisher",
    "RedisSessionManager",
    "SessionError",
    "SessionExists",
    "SessionGone",
    "SessionManager",
    "SseResponse",
    "SseTransport",
    "StoreError",
    "StoreRefused",
    "StoreUnavailable",
    "StreamClosed",
    "StreamController",
    "StreamError",
    "StreamUnknown",
    "TooManySessions",
    "attach",
    "open_store",
    "streamable_http_app",
]

_LAZY = {
    "HttpTransport": "holdfast.integrations.mcp_sdk.transports",
    "InMemorySessionManager": "holdfast.integrations.plain.manager",
    "LogSessionManager": "holdfast.integrations.plain.manager",
    "Publisher": "holdfast.integrations.plain.publisher",
    "RedisSessionManager": "holdfast.integrations.plain.manager",
    "SseResponse": "holdfast.integrations.plain.controllers",
    "SseTransport": "holdfast.integrations.mcp_sdk.transports",
    "attach": "holdfast.integrations.mcp_sdk.app",
    "streamable_http_app": "holdfast.integrations.mcp_sdk.app",
}


def __getattr__(name: str) -> Any:
    """Load what needs a framework when it is asked for."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        module = import_module(_LAZY[name])
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("holdfast"):
            raise
        raise ImportError(
            f'holdfast.{name} needs an extra that is not installed: pip install "holdfast[mcp]"'
        ) from error
    return getattr(module, name)

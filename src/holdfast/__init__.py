"""Holdfast: sessions of MCP servers as data, so that any replica serves any request.

Importing this pulls in nothing heavy; `attach` and `streamable_http_app` load their framework when they are
first asked for.
"""

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

if TYPE_CHECKING:
    from holdfast.integrations.mcp_sdk.app import attach, streamable_http_app

__all__ = [
    "ConfigurationError",
    "HoldfastError",
    "Observer",
    "PositionLost",
    "SessionError",
    "SessionExists",
    "SessionGone",
    "StoreError",
    "StoreRefused",
    "StoreUnavailable",
    "StreamClosed",
    "StreamError",
    "StreamUnknown",
    "TooManySessions",
    "attach",
    "open_store",
    "streamable_http_app",
]

_LAZY = frozenset({"attach", "streamable_http_app"})


def __getattr__(name: str) -> Any:
    """Load what needs a framework when it is asked for."""
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from holdfast.integrations.mcp_sdk import app  # noqa: PLC0415 - loading it late is the point
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("holdfast"):
            raise
        raise ImportError(
            f'holdfast.{name} needs an extra that is not installed: pip install "holdfast[mcp]"'
        ) from error
    return getattr(app, name)

"""The same tools in an application of the SDK's own, with `attach`: for the servers of others."""

import os

from chaos.server import mcp
from holdfast import attach

app = mcp.streamable_http_app()
attach(
    app,
    drain_seconds=float(os.environ["CHAOS_DRAIN_SECONDS"]),
    keepalive_seconds=float(os.environ["CHAOS_KEEPALIVE_SECONDS"]),
)

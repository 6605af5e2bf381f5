"""Whether this process is well: routes for orchestrators and balancers, a tool for clients."""

from holdfast.ops.health.routes import mount_health
from holdfast.ops.health.tool import register

__all__ = ["mount_health", "register"]

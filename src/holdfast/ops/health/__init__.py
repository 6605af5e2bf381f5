"""Whether this process is well: routes for orchestrators and balancers."""

from holdfast.ops.health.routes import mount_health

__all__ = ["mount_health"]

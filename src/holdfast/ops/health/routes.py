"""Liveness and readiness over HTTP."""

from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from holdfast.errors import ConfigurationError
from holdfast.integrations.mcp_sdk.app import Attached
from holdfast.ops.health.checks import Report, liveness, readiness
from holdfast.sessions.replica import Replica

__all__ = ["LIVE_PATH", "READY_PATH", "mount_health"]

LIVE_PATH: Final = "/health/live"
READY_PATH: Final = "/health/ready"


def mount_health(app: Starlette, *, attached: Attached | None = None) -> None:
    """Answer `GET /health/live` and `GET /health/ready` with 200 or 503, and the reasons as JSON.

    Both answer within a second, whatever the store does. A path that the application has already stays its.

    Args:
        app: the application that `attach` was given, or one that it is mounted in.
        attached: what `attach` returned, for an application that it was not given.

    Raises:
        ConfigurationError: the application is not attached.
    """
    found: Attached | None = attached or getattr(app.state, "holdfast", None)
    if found is None:
        raise ConfigurationError(
            "mount_health: this application is not attached; call holdfast.attach(app, ...) before, or pass "
            "attached=, which is what attach returned"
        )
    taken = {getattr(route, "path", None) for route in app.routes}
    for path, good, bad, look in (
        (LIVE_PATH, "live", "not live", liveness),
        (READY_PATH, "ready", "not ready", readiness),
    ):
        if path not in taken:
            app.router.routes.insert(0, Route(path, _endpoint(found, look, good, bad), methods=["GET"]))


def _endpoint(
    attached: Attached, look: Callable[[Replica | None], Awaitable[Report]], good: str, bad: str
) -> Callable[[Request], Awaitable[Response]]:
    async def answer(_request: Request) -> Response:
        report = await look(attached.replica)
        body: dict[str, Any] = {
            "status": bad if report.reasons else good,
            "reasons": report.reasons,
            "checks": report.checks,
        }
        status = 503 if report.reasons else 200
        return JSONResponse(body, status, headers={"cache-control": "no-store"})

    return answer

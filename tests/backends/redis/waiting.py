"""Waiting for servers, and for a backend that finds them."""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TypeVar, cast

import anyio

from holdfast.backends.redis import RedisBackend
from holdfast.errors import StoreUnavailable
from tests.servers import RunningServer

T = TypeVar("T")
PATIENCE_SECONDS = 40


async def until(true: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """Return when something has come true."""
    with anyio.fail_after(seconds):
        while not true():  # noqa: ASYNC110 - nobody tells us
            await anyio.sleep(0.02)


async def again(
    call: Callable[[], Awaitable[T]], *passing: type[Exception], seconds: float = PATIENCE_SECONDS
) -> T:
    """Call until it succeeds; until then `passing` may be raised, by default `StoreUnavailable`."""
    expected = passing or (StoreUnavailable,)
    with anyio.fail_after(seconds):
        while True:
            try:
                return await call()
            except expected:
                await anyio.sleep(0.01)


async def for_ever(call: Callable[[], Awaitable[object]], *, but_for: type[Exception] | None = None) -> None:
    """Call until it fails, with an exception other than `but_for`."""
    with anyio.fail_after(PATIENCE_SECONDS):
        while True:
            try:
                await call()
            except Exception as exc:
                if but_for is None or not isinstance(exc, but_for):
                    raise


def connections(server: RunningServer, backend: RedisBackend, kind: str) -> list[bytes]:
    """The ids of a backend's connections to a server, `normal` ones or `pubsub`."""
    if not server.alive or server.paused:
        return []
    name = f" name=holdfast-{backend.replica} ".encode()
    lines = cast("bytes", server.cli("CLIENT", "LIST", "TYPE", kind)).splitlines()
    return [match[1] for line in lines if name in line and (match := re.match(rb"id=(\d+) ", line))]


def listening_post(servers: list[RunningServer], backend: RedisBackend) -> RunningServer | None:
    """Where a backend listens to announcements."""
    return next((server for server in servers if connections(server, backend, "pubsub")), None)

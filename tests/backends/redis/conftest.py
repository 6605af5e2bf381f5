"""What the tests of the Redis backend share. All of them talk to real servers."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import pytest

from holdfast.backends.redis import RedisBackend, RedisOptions
from tests.servers import RunningServer

Connect = Callable[..., AbstractAsyncContextManager[RedisBackend]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def connect(redis_server: RunningServer) -> Connect:
    """Makes connected backends: `async with connect(max_events=8) as backend`."""

    @asynccontextmanager
    async def connected(url: str | None = None, **options: Any) -> AsyncGenerator[RedisBackend]:
        settings = RedisOptions(**options)
        async with RedisBackend(url or redis_server.url, options=settings) as backend:
            yield backend

    return connected

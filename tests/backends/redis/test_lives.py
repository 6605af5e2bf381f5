"""The suite about failovers, on a real server that loses the end of its append-only file and comes back."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest
from typing_extensions import override

from holdfast.backends.redis import RedisBackend
from holdfast.sessions.protocols import Backend
from holdfast.testing import conformance
from tests.servers import Flavour, RunningServer, assert_every_key_expires, start_server


class MortalStore(conformance.StoreUnderTest):
    """`fail_over(keep)` is a crash: what came after the event with that offset had not reached the disk."""

    can_fail_over = True

    def __init__(self, server: RunningServer) -> None:
        self.server = server

    @override
    def replica(self) -> Backend:
        return RedisBackend(self.server.url)

    @override
    async def fail_over(self, keep: int | None) -> None:
        self.server.kill()
        if keep is not None:
            self._forget_after(keep)
        await anyio.to_thread.run_sync(self.server.restart)

    def _forget_after(self, keep: int) -> None:
        """Cut the file behind the transaction that stored the event: scripts are written as a whole."""
        (file,) = Path(self.server.directory).rglob("*.aof")
        data = file.read_bytes()
        stored = [match.end() for match in re.finditer(rb"\$\d+\r\n%d-0\r\n" % keep, data)]
        end = data.lower().index(b"exec\r\n", stored[-1]) + len(b"exec\r\n")
        file.write_bytes(data[:end])


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def store(redis_flavour: Flavour) -> Iterator[conformance.StoreUnderTest]:
    with start_server(redis_flavour, extra=["--appendonly", "yes", "--appendfsync", "always"]) as server:
        yield MortalStore(server)
        assert_every_key_expires(server)


class TestLives(conformance.LivesSuite): ...


class TestBroadcastLives(conformance.BroadcastLivesSuite): ...

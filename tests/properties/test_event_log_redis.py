"""The Redis backend agrees with the same model as the memory backend."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test
from typing_extensions import override

from holdfast.backends.redis import RedisBackend, RedisOptions
from holdfast.sessions.protocols import Backend
from holdfast.testing.conformance import StoreUnderTest
from tests.properties.machine import machine_on


class SmallRedisStore(StoreUnderTest):
    max_events = 8

    def __init__(self, url: str) -> None:
        self.url = url

    @override
    def replica(self) -> Backend:
        options = RedisOptions(max_events=self.max_events, max_bytes=self.max_bytes)
        return RedisBackend(self.url, options=options)


@pytest.mark.guarantee("G1")
def test_the_redis_backend_agrees_with_the_model(redis_url: str) -> None:
    fewer = settings(max_examples=40)
    run_state_machine_as_test(machine_on(lambda: SmallRedisStore(redis_url)), settings=fewer)

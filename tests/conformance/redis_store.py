"""Redis and Valkey as the suites see them, wherever they run."""

from typing_extensions import override

from holdfast.backends.redis import RedisBackend, RedisOptions
from holdfast.sessions.protocols import Backend
from holdfast.testing import conformance


class RedisStore(conformance.StoreUnderTest):
    short_seconds = 1.5  # of a real clock, which goes on while a busy machine does not

    def __init__(self, url: str) -> None:
        self.url = url

    @override
    def replica(self) -> Backend:
        return RedisBackend(
            self.url, options=RedisOptions(max_events=self.max_events, max_bytes=self.max_bytes)
        )

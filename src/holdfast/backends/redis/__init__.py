"""Redis >= 6.2 and Valkey: the distributed store. Needs asyncio, and `hiredis` (extra `redis`)."""

from holdfast.backends.redis.backend import RedisBackend
from holdfast.backends.redis.options import RedisOptions

__all__ = ["RedisBackend", "RedisOptions"]

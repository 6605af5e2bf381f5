"""Sessions in the memory of one process. `MemoryData` is the store, `MemoryBackend` one replica of it."""

from holdfast.backends.memory.backend import MemoryBackend
from holdfast.backends.memory.data import MemoryData

__all__ = ["MemoryBackend", "MemoryData"]

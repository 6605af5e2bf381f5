"""zstd, bounded."""

from typing import Final

__all__ = ["LARGEST_BYTES", "compress", "inflate"]

LARGEST_BYTES: Final = 64 * 1024 * 1024
"""A frame that claims to become longer is damaged: nothing of that size is ever stored."""

_LEVEL: Final = 1


def compress(payload: bytes) -> bytes:
    """A zstd frame that states its size."""
    import zstandard  # noqa: PLC0415 - most processes never need it

    return zstandard.ZstdCompressor(level=_LEVEL, write_content_size=True).compress(payload)


def inflate(frame: bytes) -> bytes | None:
    """What was compressed; None if the frame is damaged, or claims to be larger than `LARGEST_BYTES`."""
    import zstandard  # noqa: PLC0415 - most processes never need it

    try:
        if not 0 <= zstandard.frame_content_size(frame) <= LARGEST_BYTES:
            return None
        return zstandard.ZstdDecompressor().decompress(frame, allow_extra_data=False)
    except zstandard.ZstdError:
        return None

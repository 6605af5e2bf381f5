"""Serving from memory until the store is there for the first time."""

from holdfast.backends.fallback.backend import FallbackBackend

__all__ = ["FallbackBackend"]

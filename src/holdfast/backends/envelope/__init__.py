"""Payloads at rest: compression and encryption over any backend."""

from holdfast.backends.envelope.backend import EnvelopeBackend
from holdfast.backends.envelope.codec import Codec
from holdfast.backends.envelope.key_ring import KeyRing

__all__ = ["Codec", "EnvelopeBackend", "KeyRing"]

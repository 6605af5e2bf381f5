"""How payloads look at rest: as they are, compressed, encrypted. Any setting reads what any other wrote.

A payload is stored as it is unless there is a reason. What is not starts with three bytes: `MAGIC`, which no
JSON text and no UTF-8 begins with, the version of the envelope, and the codec:

    s   what follows, as it is (a payload that itself begins with `MAGIC`)
    z   a zstd frame that states its size
    e   length of the key's id (1 byte), the id, a nonce (12 bytes), AES-256-GCM of another such envelope
"""

import secrets
from dataclasses import dataclass, replace
from typing import Final

import anyio.to_thread

from holdfast.backends.envelope.compression import compress, inflate
from holdfast.backends.envelope.key_ring import KeyRing
from holdfast.errors import StoreRefused
from holdfast.sessions.types import Event

__all__ = ["Codec", "DamagedPayload", "Purpose"]

MAGIC: Final = 0xF5
_VERSION: Final = 1
_STORED, _COMPRESSED, _ENCRYPTED = (bytes((MAGIC, _VERSION, ord(codec))) for codec in "sze")
_PREFIX: Final = 3
_NONCE: Final = 12

_BESIDE_THE_LOOP: Final = 128 * 1024
"""What is longer is worked on in a thread: it would hold up everything else for longer than a millisecond."""


class DamagedPayload(Exception):
    """What is stored cannot be turned back into what was stored."""


@dataclass(frozen=True, slots=True)
class Purpose:
    """What a payload is for. One that was encrypted for another purpose is damaged here.

    Attributes:
        session: whose it is; each session has keys of its own.
        use: what it is in that session, such as the stream.
    """

    session: str
    use: str


class Codec:
    """Wraps and unwraps payloads."""

    def __init__(self, *, compress_from_bytes: int | None = 4096, keys: KeyRing | None = None) -> None:
        """Compress what has so many bytes and more (None: nothing), encrypt if there are keys."""
        self._compress_from = compress_from_bytes
        self._keys = keys

    async def wrap(self, payload: bytes, purpose: Purpose, *, repeatable: bool = False) -> bytes:
        """`payload` as it is to be stored.

        Args:
            payload: what to wrap.
            purpose: what for.
            repeatable: the same payload gives the same bytes again, so that the store can compare them.
        """
        if len(payload) < _BESIDE_THE_LOOP:
            return self._wrap(payload, purpose, repeatable)
        return await anyio.to_thread.run_sync(self._wrap, payload, purpose, repeatable)

    async def unwrap(self, stored: bytes, purpose: Purpose) -> bytes:
        """The payload that was stored.

        Raises:
            DamagedPayload: it cannot be had any more.
            StoreRefused: its key is not among ours, or a newer release wrote it.
        """
        if not stored or stored[0] != MAGIC:
            return stored
        if len(stored) < _BESIDE_THE_LOOP // 8:
            return self.unwrap_now(stored, purpose)
        return await anyio.to_thread.run_sync(self.unwrap_now, stored, purpose)

    def unwrap_now(self, stored: bytes, purpose: Purpose) -> bytes:
        """As `unwrap`, for what is known to be small."""
        if not stored or stored[0] != MAGIC:
            return stored
        prefix, body = stored[:_PREFIX], stored[_PREFIX:]
        if prefix == _ENCRYPTED:
            return self.unwrap_now(self._decrypt(body, purpose), purpose)
        if prefix == _COMPRESSED:
            if (payload := inflate(body)) is None:
                raise DamagedPayload("a compressed payload is damaged")
            return payload
        if prefix == _STORED:
            return body
        raise StoreRefused(
            "a newer release of Holdfast wrote something that this one cannot read: "
            f"envelope {prefix[1:].hex() or '(cut off)'}"
        )

    def announced(self, event: Event, purpose: Purpose) -> Event | None:
        """An event that came with an announcement, unwrapped; None: whoever reads it is told why not."""
        try:
            return replace(event, payload=self.unwrap_now(event.payload, purpose))
        except (DamagedPayload, StoreRefused):
            return None

    def _wrap(self, payload: bytes, purpose: Purpose, repeatable: bool) -> bytes:
        body = self._compressed(payload)
        if self._keys is None:
            return body
        key_id, cipher = self._keys.newest(purpose.session)
        named, use = key_id.encode(), purpose.use.encode()
        nonce = cipher.nonce_of(use, body)[:_NONCE] if repeatable else secrets.token_bytes(_NONCE)
        sealed = cipher.encrypt(nonce, body, use)
        return b"".join((_ENCRYPTED, bytes((len(named),)), named, nonce, sealed))

    def _compressed(self, payload: bytes) -> bytes:
        if self._compress_from is not None and len(payload) >= self._compress_from:
            smaller = _COMPRESSED + compress(payload)
            if len(smaller) < len(payload):
                return smaller
        return _STORED + payload if payload[:1] == bytes((MAGIC,)) else payload

    def _decrypt(self, body: bytes, purpose: Purpose) -> bytes:
        length = body[0] if body else 0
        key_id, rest = body[1 : 1 + length].decode("ascii", "replace"), body[1 + length :]
        cipher = self._keys.find(key_id, purpose.session) if self._keys is not None else None
        if cipher is None:
            raise StoreRefused(
                f"a payload is encrypted with the key {key_id!r}, which is not configured here"
            )
        opened = cipher.decrypt(rest[:_NONCE], rest[_NONCE:], purpose.use.encode())
        if opened is None:
            raise DamagedPayload(
                f"a payload encrypted with the key {key_id!r} is damaged, or lies where it does not belong"
            )
        return opened

"""The keys that payloads are encrypted with: the first one writes, all of them read."""

import base64
import binascii
import hmac
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NoReturn

from typing_extensions import override

from holdfast.errors import ConfigurationError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["Cipher", "KeyRing"]

_KEY_BYTES: Final = 32
_KEY_ID: Final = re.compile(r"[A-Za-z0-9_.-]{1,32}", re.ASCII)
_LABEL: Final = b"holdfast envelope 1\0"


class Cipher:
    """AES-256-GCM with the key of one session."""

    def __init__(self, aead: type["AESGCM"], key: bytes) -> None:
        self._aead = aead(key)
        self._nonce_key = hmac.digest(key, b"nonce", "sha256")

    def nonce_of(self, context: bytes, plain: bytes) -> bytes:
        """A nonce that only the same text in the same context has."""
        return hmac.digest(self._nonce_key, len(context).to_bytes(4) + context + plain, "sha256")

    def encrypt(self, nonce: bytes, plain: bytes, context: bytes) -> bytes:
        """The ciphertext with its tag. It opens only in the same context."""
        return self._aead.encrypt(nonce, plain, context)

    def decrypt(self, nonce: bytes, sealed: bytes, context: bytes) -> bytes | None:
        """What was encrypted; None if anything about it was changed."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - an extra

        try:
            return self._aead.decrypt(nonce, sealed, context)
        except (InvalidTag, ValueError):  # ValueError: cut off
            return None


class KeyRing:
    """Named keys. To rotate: add the new one last everywhere, then move it to the front, then drop the old.

    No key encrypts anything itself: each session has a key derived from it, so that the number of random
    nonces under one key stays small however much is written.
    """

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        """Encrypt with the first of `keys`, decrypt with all: 32 random bytes each, by id.

        Raises:
            ConfigurationError: there is none, or one has a wrong id or length; `cryptography` is missing.
        """
        if not keys:
            _wrong("nothing")
        for key_id, key in keys.items():
            if _KEY_ID.fullmatch(key_id) is None:
                _wrong(f"a key whose id is not like that (number {[*keys].index(key_id) + 1})")
            if len(key) != _KEY_BYTES:
                _wrong(f"a key {key_id!r} of {len(key)} bytes")
        try:
            from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - an extra
        except ModuleNotFoundError:
            raise ConfigurationError(
                'encryption needs an extra that is not installed: pip install "holdfast[encryption]"'
            ) from None
        self._aead = AESGCM
        self._keys = dict(keys)
        self._newest = next(iter(keys))

    @classmethod
    def parse(cls, text: str) -> "KeyRing":
        """The keys of `id:base64,id:base64`, the one that encrypts first.

        Raises:
            ConfigurationError: the text is not like that. What it was is not repeated: it holds keys.
        """
        keys: dict[str, bytes] = {}
        for part in text.split(","):
            key_id, separator, encoded = part.strip().partition(":")
            if not separator or key_id in keys:
                _wrong("an id twice" if separator else "a part without ':'")
            try:
                keys[key_id] = base64.b64decode(encoded, validate=True)
            except (binascii.Error, ValueError):
                _wrong(f"a key (number {len(keys) + 1}) that is not base64")
        return cls(keys)

    @override
    def __repr__(self) -> str:
        """The ids alone."""
        return f"KeyRing({', '.join(self._keys)})"

    def newest(self, session: str) -> tuple[str, Cipher]:
        """The key that encrypts for a session, with its id."""
        return self._newest, self._cipher(self._newest, session)

    def find(self, key_id: str, session: str) -> Cipher | None:
        """The key that decrypts for a session; None: there is none of that id."""
        return self._cipher(key_id, session) if key_id in self._keys else None

    def _cipher(self, key_id: str, session: str) -> Cipher:
        return Cipher(self._aead, hmac.digest(self._keys[key_id], _LABEL + session.encode(), "sha256"))


def _wrong(given: str) -> NoReturn:
    raise ConfigurationError(
        f"encryption keys: got {given}; expected id:base64[,id:base64...], each key 32 random bytes, such as "
        "from `openssl rand -base64 32`, each id of letters, digits and _.-"
    )

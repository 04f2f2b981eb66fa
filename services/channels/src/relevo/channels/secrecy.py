"""What seals a secret at rest."""

import os
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["InvalidTag", "seal", "unseal"]

_NONCE: Final = 12


def seal(key: bytes, plain: bytes, *, label: str) -> bytes:
    """Encrypt with AES-256-GCM. Only the same key and label open it."""
    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(key).encrypt(nonce, plain, label.encode())


def unseal(key: bytes, sealed: bytes, *, label: str) -> bytes:
    """The reverse of `seal`. Raises InvalidTag for another key, another label or damaged data."""
    return AESGCM(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], label.encode())

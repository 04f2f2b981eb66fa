"""What seals a secret at rest, with the key that the operator keeps."""

import base64
import binascii
import os
from typing import Annotated, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from pydantic import AfterValidator, SecretStr

__all__ = ["InvalidTag", "MasterKey", "key_bytes", "seal", "unseal"]

_KEY: Final = 32
_NONCE: Final = 12


def _checked(secret: SecretStr) -> SecretStr:
    text = secret.get_secret_value().strip().rstrip("=").translate(str.maketrans("-_", "+/"))
    try:
        raw = base64.b64decode(text + "=" * (-len(text) % 4), validate=True)
    except binascii.Error:
        raw = b""
    if len(raw) != _KEY:
        raise ValueError("must be 32 random bytes in base64, as `openssl rand -base64 32` prints them")
    return SecretStr(base64.b64encode(raw).decode())


MasterKey = Annotated[SecretStr, AfterValidator(_checked)]
"""A setting: 32 random bytes in base64."""


def key_bytes(master_key: SecretStr) -> bytes:
    """The key itself."""
    return base64.b64decode(master_key.get_secret_value())


def seal(key: bytes, plain: bytes, *, label: str) -> bytes:
    """Encrypt with AES-256-GCM. Only the same key and label open it."""
    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(key).encrypt(nonce, plain, label.encode())


def unseal(key: bytes, sealed: bytes, *, label: str) -> bytes:
    """The reverse of `seal`. Raises InvalidTag for another key, another label or damaged data."""
    return AESGCM(key).decrypt(sealed[:_NONCE], sealed[_NONCE:], label.encode())

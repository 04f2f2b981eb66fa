"""Secrets: passwords, and what seals a private key at rest."""

import asyncio
import base64
import os
import secrets

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

__all__ = ["InvalidTag", "Passwords", "seal", "unseal"]

_NONCE = 12


def seal(master_key: str, plain: bytes, *, label: str) -> bytes:
    """Encrypt with AES-256-GCM. Only the same master key (base64) and label open it."""
    nonce = os.urandom(_NONCE)
    return nonce + AESGCM(base64.b64decode(master_key)).encrypt(nonce, plain, label.encode())


def unseal(master_key: str, sealed: bytes, *, label: str) -> bytes:
    """The reverse of `seal`. Raises InvalidTag for another key, another label or damaged data."""
    return AESGCM(base64.b64decode(master_key)).decrypt(sealed[:_NONCE], sealed[_NONCE:], label.encode())


class Passwords:
    """Argon2id off the event loop; a few at a time, since each takes 64 MiB and a core."""

    def __init__(self, hasher: PasswordHasher | None = None, *, at_once: int = 2) -> None:
        self._hasher = hasher or PasswordHasher()
        self._slots = asyncio.Semaphore(at_once)
        self._nobody = self._hasher.hash(secrets.token_urlsafe(32))

    async def hash(self, password: str) -> str:
        async with self._slots:
            return await asyncio.to_thread(self._hasher.hash, password)

    async def verify(self, hash: str | None, password: str) -> bool:  # noqa: A002
        """Whether it is the password. Without a hash (nobody there) as much work is done, and the answer is no."""
        async with self._slots:
            return await asyncio.to_thread(self._verify, hash, password)

    def outdated(self, hash: str) -> bool:  # noqa: A002
        """Whether the hash was made with weaker parameters than today's."""
        return self._hasher.check_needs_rehash(hash)

    def _verify(self, hash: str | None, password: str) -> bool:  # noqa: A002
        try:
            right = self._hasher.verify(hash or self._nobody, password)
        except (VerifyMismatchError, InvalidHashError):
            return False
        return right and hash is not None

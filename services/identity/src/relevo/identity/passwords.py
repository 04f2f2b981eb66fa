"""Passwords."""

import asyncio
import secrets

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerifyMismatchError


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

"""The object store in a bucket of S3 or of what speaks like it (MinIO, Ceph, Garage, R2…)."""

from collections.abc import AsyncIterator
from datetime import timedelta
from functools import lru_cache
from typing import Final
from urllib.parse import SplitResult, parse_qs, unquote

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import S3Store

from relevo.chassis.objects import Access, ObjectMissing, checked

_PART: Final = 8 * 1024 * 1024
"""Bytes of an object that are sent, and kept in memory until they are acknowledged, at once; S3 takes no fewer than 5 MB."""
_PARTS: Final = 2
# The client raises Python's own exceptions for some of its kinds.
_MISSING: Final = (NotFoundError, FileNotFoundError)
_FAILED: Final = (BaseError, PermissionError)
_ASKED: Final = frozenset({"endpoint", "region"})


class StoreDown(OSError):
    """The store does not answer, or refuses us; trying again later can help. Names the object, never a credential."""


class Bucket:
    """Objects below a prefix of one bucket. An object is there whole once `put` returns, and not at all before."""

    def __init__(self, store: S3Store) -> None:
        self._store = store

    async def put(self, name: str, chunks: AsyncIterator[bytes]) -> None:
        try:
            await obstore.put_async(self._store, checked(name), chunks, chunk_size=_PART, max_concurrency=_PARTS)
        except _FAILED as error:
            raise _down(name, error) from None

    async def get(self, name: str, offset: int, length: int) -> bytes:
        try:
            found = await obstore.get_range_async(self._store, checked(name), start=offset, length=length)
        except _MISSING:
            raise ObjectMissing(f"{name} is not there") from None
        except _FAILED as error:
            size = await self._size(name)
            if size < offset + length:
                raise _short(name, size, offset + length) from None
            raise _down(name, error) from None
        if len(found) != length:
            raise _short(name, offset + len(found), offset + length)
        return bytes(found)

    async def delete(self, name: str) -> None:
        try:
            await obstore.delete_async(self._store, checked(name))
        except _MISSING:
            return
        except _FAILED as error:
            raise _down(name, error) from None

    async def _size(self, name: str) -> int:
        try:
            return (await obstore.head_async(self._store, name))["size"]
        except _MISSING:
            raise ObjectMissing(f"{name} is not there") from None
        except _FAILED as error:
            raise _down(name, error) from None


@lru_cache(maxsize=8)
def open_bucket(parts: SplitResult, access: Access | None) -> Bucket:
    """The bucket of ``s3://bucket/prefix?endpoint=…&region=…``, the same one each time: it keeps connections. Without ``access``: what the machine's environment grants.

    Raises ValueError, naming what is wrong.
    """
    asked = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
    if unknown := sorted(set(asked) - _ASKED):
        raise ValueError(f"{', '.join(unknown)}: s3 addresses take endpoint and region")
    if not parts.hostname or parts.username or parts.port:
        raise ValueError("must look like s3://bucket/prefix?endpoint=https://host:9000&region=eu-west-1")
    endpoint = asked.get("endpoint", [None])[-1]
    if endpoint is not None and not endpoint.startswith(("http://", "https://")):
        raise ValueError("endpoint must begin with https:// or http://")
    given = {"region": asked.get("region", ["us-east-1"])[-1]}
    if endpoint is not None:
        given["endpoint"] = endpoint.rstrip("/")
    if access is not None:
        given |= {"access_key_id": access.key_id, "secret_access_key": access.secret}
    store = S3Store(
        parts.hostname,
        prefix=unquote(parts.path).strip("/") or None,
        client_options={
            "allow_http": bool(endpoint and endpoint.startswith("http://")),
            "connect_timeout": timedelta(seconds=5),
            "timeout": timedelta(seconds=60),
        },
        retry_config={"max_retries": 3, "retry_timeout": timedelta(seconds=15)},
        config=given,  # type: ignore[arg-type]
    )
    return Bucket(store)


def _short(name: str, size: int, wanted: int) -> ObjectMissing:
    return ObjectMissing(f"{name} ends at {size}, {wanted} bytes were expected")


def _down(name: str, error: Exception) -> StoreDown:
    # Its own text has the whole request in it; the kind tells enough.
    return StoreDown(f"object {name}: {type(error).__name__.removesuffix('Error')} at the object store")

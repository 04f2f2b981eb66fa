"""The object store: whole files under names, written once, read in ranges.

A folder for one machine, or for several that share a file system; or a bucket (objects_s3). Writing to a folder is durable before it is told: the bytes are
synced under another name, renamed, and the folder is synced. (obstore's own folder renames without any sync, as
strace shows, and what follows a write here is the removal of the rows that it holds.)
"""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Protocol
from urllib.parse import unquote, urlsplit


class ObjectMissing(LookupError):
    """There is no object of that name, or not so much of it as was asked for."""


class ObjectStore(Protocol):
    """Objects by name; names are relative paths of plain characters."""

    async def put(self, name: str, chunks: AsyncIterator[bytes]) -> None:
        """Write an object whole, or not at all; replaces one of the same name. Durable once it returns."""

    async def get(self, name: str, offset: int, length: int) -> bytes:
        """A part of an object. Raises ObjectMissing."""

    async def delete(self, name: str) -> None:
        """Remove an object; one that is gone already is fine."""


class Folder:
    """Objects as files below one folder."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def _path(self, name: str) -> Path:
        return self._root / checked(name)

    async def put(self, name: str, chunks: AsyncIterator[bytes]) -> None:
        path = self._path(name)
        await asyncio.to_thread(path.parent.mkdir, parents=True, exist_ok=True)
        unfinished = path.with_name(path.name + ".unfinished")
        try:
            with await asyncio.to_thread(unfinished.open, "wb") as file:
                async for chunk in chunks:
                    await asyncio.to_thread(file.write, chunk)
                await asyncio.to_thread(_sync, file)
        except BaseException:
            unfinished.unlink(missing_ok=True)
            raise
        await asyncio.to_thread(_rename, unfinished, path, self._root)

    async def get(self, name: str, offset: int, length: int) -> bytes:
        return await asyncio.to_thread(_read, self._path(name), offset, length)

    async def delete(self, name: str) -> None:
        await asyncio.to_thread(self._path(name).unlink, missing_ok=True)


@dataclass(frozen=True, slots=True)
class Access:
    """Who we are to an object store that asks."""

    key_id: str
    secret: str = field(repr=False)


def checked(name: str) -> str:
    """The name. Raises ValueError for one that leads out of the store."""
    if name.startswith("/") or ".." in name.split("/"):
        raise ValueError(f"{name!r} cannot be an object's name")
    return name


def open_store(url: str, access: Access | None = None) -> ObjectStore:
    """The store that a URL names: ``file:///folder``, or ``s3://bucket/prefix``, whose options are open_bucket's.

    Raises ValueError for one that is not known.
    """
    parts = urlsplit(url)
    if parts.scheme == "s3":
        # Only who keeps objects in a bucket loads the client.
        from relevo.chassis.objects_s3 import open_bucket  # noqa: PLC0415

        return open_bucket(parts, access)
    if parts.scheme != "file" or parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
        raise ValueError(
            f"{parts.scheme or 'no scheme'} is not supported: give file:///absolute/folder or s3://bucket/prefix"
        )
    return Folder(Path(unquote(parts.path)))


def _sync(file: BinaryIO) -> None:
    file.flush()
    os.fsync(file.fileno())


def _rename(unfinished: Path, path: Path, root: Path) -> None:
    unfinished.replace(path)
    # The names, too: of the file, and of folders that were made for it.
    folder = path.parent
    while True:
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if folder in {root, folder.parent}:
            return
        folder = folder.parent


def _read(path: Path, offset: int, length: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(offset)
            found = file.read(length)
    except FileNotFoundError:
        raise ObjectMissing(f"{path.name} is not there") from None
    if len(found) != length:
        raise ObjectMissing(f"{path.name} ends at {offset + len(found)}, {offset + length} bytes were expected")
    return found

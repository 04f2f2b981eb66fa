"""A whole account's export: every service's part into one folder, each checked to be whole."""

import gzip
import json
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from relevo.stack.api import Refused, refused

_STALLED_SECONDS = 120.0  # a part may wait for another download of the same service


@dataclass(frozen=True, slots=True)
class Part:
    """One service's part on disk: how much is in it, or why it is not there."""

    service: str
    rows: int = 0
    files: int = 0
    size: int = 0
    error: str | None = None


async def take_along(
    edge_url: str, token: str, folder: Path, services: Sequence[str], report: Callable[[Part], None]
) -> list[Part]:
    """Download what is not there yet, or not whole, one part after the other, and tell each.

    A part gets its name (`<service>.jsonl.gz`) when it is whole, so that the same again goes on where it ended.
    Files are readable by their owner alone: they hold customers' words. The folder exists.
    """
    done = []
    async with httpx.AsyncClient(
        base_url=f"{edge_url}/api/v1", headers={"Authorization": f"Bearer {token}"}, timeout=_STALLED_SECONDS
    ) as client:
        for service in services:
            file = folder / f"{service}.jsonl.gz"
            try:
                rows, files = _whole(file) or await _download(client, service, file)
                part = Part(service, rows, files, file.stat().st_size)
            except (Refused, httpx.HTTPError, OSError, EOFError, ValueError, zlib.error) as error:
                part = Part(service, error=str(error) or type(error).__name__)
            report(part)
            done.append(part)
    return done


async def _download(client: httpx.AsyncClient, service: str, file: Path) -> tuple[int, int]:
    coming = file.with_name(f"{file.name}.part")
    coming.unlink(missing_ok=True)
    coming.touch(mode=0o600)
    path = f"/account/export/{service}"
    async with client.stream("GET", path) as response:
        if not response.is_success:
            await response.aread()
            raise refused("GET", path, response)
        with coming.open("wb") as out:
            async for chunk in response.aiter_raw():
                out.write(chunk)
    found = _counted(coming)
    coming.rename(file)
    return found


def _whole(file: Path) -> tuple[int, int] | None:
    """Rows and files of a part that is there and whole."""
    try:
        return _counted(file)
    except (OSError, EOFError, ValueError, zlib.error):
        return None


def _counted(file: Path) -> tuple[int, int]:
    """Rows and files of a part. Raises ValueError when its last line is missing or tells another number, and what gzip raises."""
    rows, files, told = 0, set[str](), None
    with gzip.open(file, "rt", encoding="utf-8") as lines:
        for line in lines:
            said = json.loads(line)
            rows += "row" in said
            if "file" in said:
                files.add(said["file"])
            told = said
    if told is None or not told.get("end"):
        raise ValueError(f"{file.name} was cut short: ask again")
    if (told["rows"], told["files"]) != (rows, len(files)):
        raise ValueError(
            f"{file.name} holds {rows} rows and {len(files)} files, its end tells of {told['rows']} and {told['files']}"
        )
    return rows, len(files)

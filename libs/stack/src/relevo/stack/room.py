"""How much disk the streams may take: sizes as people write them, and what is sensible on the disk at hand."""

import os
import re
import shutil
from datetime import timedelta
from pathlib import Path
from typing import Final

from relevo.stack.errors import StackError

VARIABLE: Final = "RELEVO_STREAMS_ROOM"
MAX_FILE_STORE: Final = 2**50
"""The broker's own limit over all streams, out of the way: it cannot be changed while the broker runs, theirs can."""

_PART: Final = 4
"""Streams get one part in so many of what is free: the databases hold the same events for as long, what comes of them for
ever, and take about twice as much for it (measured)."""
_LEAST: Final = 1024**3
_MOST: Final = 512 * 1024**3
_UNITS: Final = {unit: 1024**power for power, unit in enumerate(("B", "KIB", "MIB", "GIB", "TIB"))}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?i?B?)\Z", re.IGNORECASE)
_AGE = re.compile(r"(\d+(?:\.\d+)?)\s*([hd])\Z")


def for_streams(folder: Path) -> int:
    """Bytes that new streams together may take: RELEVO_STREAMS_ROOM, else a part of what is free where ``folder`` lies.

    Raises StackError when the variable is no size, or more than the disk has.
    """
    free = shutil.disk_usage(folder).free
    wanted = given()
    if wanted is None:
        return min(max(free // _PART, _LEAST), _MOST)
    if wanted > free:
        raise StackError(
            f"{VARIABLE} is {shown(wanted)}, but only {shown(free)} are free where the streams lie",
            "Give them less (the databases want twice as much as the streams), or a larger disk",
        )
    return wanted


def given() -> int | None:
    """What RELEVO_STREAMS_ROOM says; None: nothing. Raises StackError when it is no size."""
    text = os.environ.get(VARIABLE)
    if not text:
        return None
    try:
        return size(text)
    except ValueError as error:
        raise StackError(f"{VARIABLE}: {error}", "Write a size such as 200GiB") from None


def size(text: str) -> int:
    """Bytes of a size such as 20GiB, 512M or 1.5 TiB; units are powers of 1024. Raises ValueError."""
    match = _SIZE.match(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no size")
    unit = match[2].upper().removesuffix("B").removesuffix("I")
    return int(float(match[1]) * _UNITS[f"{unit}IB" if unit else "B"])


def age(text: str) -> timedelta:
    """An age such as 3d or 36h. Raises ValueError."""
    match = _AGE.match(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is no age such as 3d or 36h")
    return timedelta(**{"h": {"hours": float(match[1])}, "d": {"days": float(match[1])}}[match[2]])


def shown(count: float) -> str:
    """A number of bytes for people, as `size` reads it."""
    unit = "GiB" if count >= _UNITS["GIB"] else "MiB"
    return f"{count / _UNITS[unit.upper()]:.2f}".rstrip("0").rstrip(".") + f" {unit}"

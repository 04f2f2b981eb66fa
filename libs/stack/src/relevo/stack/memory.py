"""How much memory there is for us: what the machine has, or the control group that we run in allows."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

# Version 2, then version 1; inside a container its own limits show at the root.
_LIMITS: Final = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def usable(limits: Iterable[Path] = _LIMITS) -> int:
    """Bytes that all our processes together may take: the machine's memory, or the least of these limits below it."""
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([machine, *filter(None, map(_limit, limits))])


def _limit(file: Path) -> int | None:
    """The limit in this file; None when it names none, or is not there."""
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None

"""Loaded by the interpreter at start: makes every disk look nearly full."""

import shutil
from typing import NamedTuple


class Usage(NamedTuple):
    total: int
    used: int
    free: int


shutil.disk_usage = lambda _path: Usage(10**12, 10**12, 10**6)

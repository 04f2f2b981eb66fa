"""Named crash points: the places between two lines where a process must be able to die.

``RELEVO_CRASH=name`` kills the process the first time it passes that point, ``name:7`` the seventh time.

``RELEVO_CRASH_FOLDER`` arms processes while they run: whoever passes a point of which the folder holds a file takes
the file away and dies. So a file stands for one crash, and its absence afterwards proves that it happened there.
"""

import os

EXIT_CODE = 137
"""As if killed by SIGKILL: nothing is flushed, no handler runs."""

POINTS: set[str] = set()
"""Names of the points that this process has passed at least once."""


def _armed() -> tuple[str, int]:
    name, _, nth = os.environ.get("RELEVO_CRASH", "").partition(":")
    return name, int(nth or "1")


_name, _left = _armed()
_folder = os.environ.get("RELEVO_CRASH_FOLDER")


def crash_point(name: str) -> None:
    """Die here if this is the armed point and its count is reached."""
    POINTS.add(name)
    if _folder is not None and _taken(f"{_folder}/{name}"):
        os._exit(EXIT_CODE)
    if name != _name:
        return
    global _left  # noqa: PLW0603  (one counter a process: the point of the module)
    _left -= 1
    if _left <= 0:
        os._exit(EXIT_CODE)


def _taken(file: str) -> bool:
    try:
        os.unlink(file)  # noqa: PTH108  (one system call: of several replicas one gets it)
    except FileNotFoundError:
        return False
    return True

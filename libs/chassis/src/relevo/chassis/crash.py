"""Named crash points: the places between two lines where a process must be able to die.

``RELEVO_CRASH=name`` kills the process the first time it passes that point, ``name:7`` the seventh time. The chaos
run iterates over all names; ``relevo.chassis.crash.POINTS`` is the list that it prints.
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


def crash_point(name: str) -> None:
    """Die here if this is the armed point and its count is reached."""
    POINTS.add(name)
    if name != _name:
        return
    global _left  # noqa: PLW0603  (one counter a process: the point of the module)
    _left -= 1
    if _left <= 0:
        os._exit(EXIT_CODE)

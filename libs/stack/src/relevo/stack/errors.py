"""What stops the command line: one clear line with the mend, and an exit code that means something."""

from enum import IntEnum


class Exit(IntEnum):
    """Exit codes of `relevo`, documented in its help."""

    OK = 0
    FAILED = 1
    REFUSED = 2
    """Nothing was started or changed: a port is taken, the disk is full, it runs already, an argument is wrong."""
    NOT_RUNNING = 3
    NOT_READY = 4
    """Something runs, but not all of it is ready."""


class StackError(Exception):
    """One line for the operator: what is wrong and how to mend it."""

    def __init__(self, message: str, mend: str = "", code: Exit = Exit.REFUSED) -> None:
        super().__init__(f"{message}. {mend}" if mend else message)
        self.code = code

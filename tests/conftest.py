"""The whole stack, started once for the tests that need it."""

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

# With import-mode=importlib the test modules cannot see what they share otherwise.
sys.path.insert(0, str(Path(__file__).parent))

from whole_stack import WholeStack, shared_folder


@pytest.fixture(scope="session")
def stack() -> Iterator[WholeStack]:
    """One running stack in a home of its own; tests keep apart by account (`stack.account()`).

    RELEVO_TEST_HOME names a home where one runs already, which is left running.
    """
    with shared_folder() as folder:
        if home := os.environ.get("RELEVO_TEST_HOME"):
            running = WholeStack(folder, Path(home))
            running.up()
            yield running
            return
        running = WholeStack(folder)
        try:
            running.up()
            yield running
        finally:
            running.down()

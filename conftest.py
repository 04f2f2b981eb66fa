"""What every test of the repository has: real servers, how far Hypothesis searches, and what docs/functions.yaml owes."""

import sys
from collections.abc import Generator
from pathlib import Path

import pytest
from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent / "tests"))

from functions import owed

from relevo.chassis.testing import recorded

pytest_plugins = ["relevo.stack.testing"]

# `make test` runs Hypothesis' own profile `ci`; `make test-deep` this one.
settings.register_profile("deep", max_examples=1000, deadline=None, print_blob=True)

_OWED = owed()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A test that docs/functions.yaml names fails when it is skipped, or does not call what is said there."""
    report = yield
    wanted = _OWED.get(item.nodeid.partition("[")[0])
    if wanted is None:
        return report
    missing = wanted - recorded.get(item.nodeid, set())
    if report.skipped or (report.when == "call" and report.passed and missing):
        told = "is skipped" if report.skipped else f"does not call {sorted(missing)}"
        report.outcome = "failed"
        report.longrepr = f"docs/functions.yaml names this test, but it {told}"
    return report

"""A load that the judge finds nothing wrong with: `make test-deep` the short one, `make judged` the whole one."""

import os
from collections.abc import Iterator

import pytest
from judging import commits
from judging.load import COMMITTED, SHORT, Size, judged
from whole_stack import WholeStack, shared_folder

FULL = bool(os.environ.get("RELEVO_JUDGED_FULL"))
MOST_SECONDS = 0.25
"""From the commit of a status to that of the assignment which it brings, of 99 in 100, with the whole load."""


@pytest.fixture
def stack() -> Iterator[WholeStack]:
    with shared_folder() as folder:
        one = WholeStack(folder)
        try:
            commits.up(one, "--scale", "assignment=3")
            yield one
        finally:
            one.down()


@pytest.mark.deep
@pytest.mark.timeout(3600)
async def test_no_fault_is_found_while_agents_come_and_go_and_replicas_are_killed(stack: WholeStack) -> None:
    verdict = await judged(stack, Size() if FULL else SHORT)
    print(verdict.text())
    assert not verdict.faults, verdict.text()
    assert verdict.figures["given by turn out of the queue"] > 0
    if FULL:
        _, p99, *_ = verdict.figures[COMMITTED]
        assert p99 < 1000 * MOST_SECONDS, verdict.text()

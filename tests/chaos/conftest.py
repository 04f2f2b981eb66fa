"""A stack for each run of its own: what a run does to it stays there."""

from collections.abc import Iterator

import pytest
from chaos.run import ChaosStack, chaos_stack
from whole_stack import shared_folder


@pytest.fixture
def running(request: pytest.FixtureRequest) -> Iterator[ChaosStack]:
    """`@pytest.mark.parametrize("running", [("--scale", …)], indirect=True)` gives it options of `relevo up`."""
    with shared_folder() as folder, chaos_stack(folder, *getattr(request, "param", ())) as running:
        yield running

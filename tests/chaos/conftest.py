"""A stack for each run of its own: what a run does to it stays there."""

from collections.abc import Iterator

import pytest
from chaos.run import ChaosStack, chaos_stack


@pytest.fixture
def running(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ChaosStack]:
    """`@pytest.mark.parametrize("running", [("--scale", …)], indirect=True)` gives it options of `relevo up`."""
    with chaos_stack(tmp_path_factory.mktemp("chaos"), *getattr(request, "param", ())) as running:
        yield running

"""The checker finds what it is there for: each defect of tests/planted is put into a copy of the sources and run."""

from collections.abc import Iterator
from pathlib import Path

import planting
import pytest
from chaos.run import ChaosStack, Size, chaos, chaos_stack
from whole_stack import shared_folder

READERS = [(service, point) for service in ("ingest", "conversation") for point in ("reader.after_position",)]
RELAYS = [(service, "relay.after_publish") for service in ("ingest", "conversation", "reporting")]
# Where it must crash, and which of the checker's findings tell of it (any one).
DEFECTS: dict[str, tuple[list[tuple[str, str]], set[str]]] = {
    "position_in_another_transaction": (READERS, {"lost", "never accepted", "metrics that differ", "gaps in stories"}),
    "outbox_row_lost": ([], {"lost", "metrics that differ", "decisions untold", "gaps in stories"}),
    "position_ahead": ([], {"lost", "never accepted", "metrics that differ"}),
    "double_relay": (RELAYS, {"published twice"}),
    "reorder": ([], {"out of order", "gaps in stories"}),
    "assignment-over-capacity": ([], {"above capacity"}),
}


def test_every_planted_defect_is_tried_and_still_fits_the_sources() -> None:
    planting.all_fit(".", DEFECTS)


@pytest.fixture
def faulty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ChaosStack]:
    path = planting.planted(request.param, tmp_path / "sources")
    with shared_folder() as folder, chaos_stack(folder, PYTHONPATH=path) as running:
        yield running


@pytest.mark.deep
@pytest.mark.timeout(300)
@pytest.mark.parametrize(("faulty", "name"), [(name, name) for name in DEFECTS], indirect=["faulty"], ids=list(DEFECTS))
async def test_a_planted_defect_is_found(faulty: ChaosStack, name: str) -> None:
    points, telling = DEFECTS[name]
    size = Size(
        messages=0, kills=0, points=points, seconds=12, limit=20, rate=200, read_back=20, settle=15, variety=False
    )
    verdict = await chaos(faulty, size, f"planted {name}")
    assert telling & verdict.faults.keys(), verdict.text()

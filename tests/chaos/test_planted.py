"""The checker finds what it is there for: each defect of tests/planted is put into a copy of the sources and run."""

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from chaos.run import ChaosStack, Size, chaos, chaos_stack
from whole_stack import shared_folder

ROOT = Path(__file__).parents[2]
PLANTED = ROOT / "tests" / "planted"
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


def test_every_planted_defect_is_tried_and_still_fits_the_sources(tmp_path: Path) -> None:
    assert {patch.stem for patch in PLANTED.glob("*.patch")} == DEFECTS.keys()
    for name in DEFECTS:
        copy(tmp_path / name, name)


@pytest.fixture
def faulty(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ChaosStack]:
    sources = copy(tmp_path / "sources", request.param)
    path = os.pathsep.join(str(path) for path in sorted(sources.glob("*/*/src")))
    with shared_folder() as folder, chaos_stack(folder, PYTHONPATH=path) as running:
        yield running


def copy(target: Path, patch: str) -> Path:
    for part in ("libs", "services"):
        ignored = shutil.ignore_patterns("__pycache__", "tests")
        shutil.copytree(ROOT / part, target / part, ignore=ignored, dirs_exist_ok=True)
    done = subprocess.run(
        ["git", "apply", "--whitespace=nowarn", str(PLANTED / f"{patch}.patch")],
        cwd=target,
        env={**os.environ, "GIT_CEILING_DIRECTORIES": str(target.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"renew tests/planted/{patch}.patch: {done.stderr}"
    return target


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

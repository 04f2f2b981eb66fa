"""What is there to find leaks finds them: each defect of tests/planted/leaks is put into a copy of the sources and run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PLANTED = ROOT / "tests" / "planted" / "leaks"
AGREES = "tests/contract/test_access_agrees.py::test_every_place_shows_the_same_while_everything_changes"
INSIDE = "tests/e2e/test_private_stays_inside.py::test_nothing_private_leaves_by_any_path"
WALL = "tests/contract/test_without_where.py::test_no_statement_meets_a_foreign_row_without_its_where[{}]"
# The test that finds it, and what it then says.
DEFECTS = {
    "sockets_keep_old_rights": (AGREES, "whose sockets hear of a message"),
    "sockets_forget_teams": (AGREES, "whose sockets hear of a message"),
    "notification_tells_whoever_is_named": (AGREES, "told("),
    "notes_go_out": (INSIDE, "relevo.outbound.message.v1: {'note"),
    "wall_lost": (WALL.format("conversation"), "another account's rows show"),
    "wall_not_forced": (WALL.format("realtime"), "another account's rows show"),
    "labels_go_out": (INSIDE, "relevo.outbound.message.v1: {'label'"),
}


def apply(patch: str, *options: str, to: Path) -> None:
    done = subprocess.run(
        ["git", "apply", "--whitespace=nowarn", *options, str(PLANTED / f"{patch}.patch")],
        cwd=to,
        env={**os.environ, "GIT_CEILING_DIRECTORIES": str(to.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"renew tests/planted/leaks/{patch}.patch: {done.stderr}"


def test_every_planted_leak_is_tried_and_still_fits_the_sources() -> None:
    assert {patch.stem for patch in PLANTED.glob("*.patch")} == DEFECTS.keys()
    for name in DEFECTS:
        apply(name, "--check", to=ROOT)


@pytest.mark.deep
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_leak_is_found(name: str, tmp_path: Path) -> None:
    for part in ("libs", "services"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__", "tests"))
    apply(name, to=tmp_path)
    test, telling = DEFECTS[name]
    path = os.pathsep.join(str(source) for source in sorted(tmp_path.glob("*/*/src")))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-m", "not deep", test],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout[-3000:]
    assert telling in done.stdout, done.stdout[-3000:]

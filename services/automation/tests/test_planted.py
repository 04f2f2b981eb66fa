"""The tests find what they are there for: each defect of tests/planted/automation is put into a copy and run."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
PLANTED = ROOT / "tests" / "planted" / "automation"
# By the follow-ups, and as which fault.
DEFECTS = {
    "answer_forgotten": "although answered",
    "believed_at_once": "although answered",
    "rings_again": "twice",
    "taken_before_it_is_done": "never",
}


def test_every_planted_defect_is_tried_and_still_fits_the_sources():
    patches = sorted(PLANTED.glob("*.patch"))
    assert {patch.stem for patch in patches} == DEFECTS.keys()
    for patch in patches:
        done = subprocess.run(
            ["git", "apply", "--check", str(patch)], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


@pytest.mark.deep
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_defect_is_found(name, tmp_path):
    for part in ("libs", "services"):
        shutil.copytree(ROOT / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__", "tests"))
    alone = {**os.environ, "GIT_CEILING_DIRECTORIES": str(tmp_path.parent)}
    subprocess.run(["git", "apply", str(PLANTED / f"{name}.patch")], cwd=tmp_path, env=alone, check=True)
    path = os.pathsep.join(str(path) for path in sorted(tmp_path.glob("*/*/src")))
    run = ["-m", "pytest", "-q", "-x", "--timeout=0", "--show-capture=no", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, *run, str(HERE / "test_follow_ups.py")],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": path, "RELEVO_FOLLOW_UPS": "400"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1, done.stdout[-3000:]
    assert f"'{DEFECTS[name]}':" in done.stdout, done.stdout[-3000:]

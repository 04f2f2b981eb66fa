"""Defects of tests/planted, put into a copy of the sources to see that the tests find them.

A folder of patches belongs to one test module, whose table names each of them, what finds it and what that then tells.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

ROOT = Path(__file__).parents[1]
PLANTED = ROOT / "tests" / "planted"


def all_fit(folder: str, names: Iterable[str]) -> None:
    """Fails unless these are the patches of the folder (below tests/planted), and each fits the sources as they are."""
    assert {patch.stem for patch in (PLANTED / folder).glob("*.patch")} == set(names)
    for name in names:
        _apply(f"{folder}/{name}", "--check", to=ROOT)


def planted(patch: str, target: Path) -> str:
    """A copy of the sources below `target` with this patch (folder/name); answers the PYTHONPATH of it."""
    for part in ("libs", "services"):
        shutil.copytree(ROOT / part, target / part, ignore=shutil.ignore_patterns("__pycache__", "tests"))
    _apply(patch, to=target)
    return os.pathsep.join(str(path) for path in sorted(target.glob("*/*/src")))


def told(patch: str, target: Path, test: Path | str, *, deep: bool = False, days: int = 1, **environment: str) -> str:
    """What pytest prints when it runs the test on the sources with this patch. Fails unless the test does.

    `deep`: deep tests, too. `days`: how often it is tried, each time with another RELEVO_TEST_SEED; what is random may
    pass a defect by, but not always.
    """
    path = planted(patch, target)
    which = [] if deep else ["-m", "not deep"]
    run = ["-m", "pytest", "-q", "-x", *which, "--timeout=0", "--show-capture=no", "-p", "no:cacheprovider"]
    for day in range(1, days + 1):
        done = subprocess.run(
            [sys.executable, *run, str(test)],
            cwd=ROOT,
            env={**os.environ, "RELEVO_TEST_SEED": str(day), **environment, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            break
    assert done.returncode == 1, done.stdout[-3000:]
    return done.stdout


def _apply(patch: str, *options: str, to: Path) -> None:
    done = subprocess.run(
        ["git", "apply", "--whitespace=nowarn", *options, str(PLANTED / f"{patch}.patch")],
        cwd=to,
        # Not the repository that the copy may lie in.
        env={**os.environ, "GIT_CEILING_DIRECTORIES": str(to.parent)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"renew tests/planted/{patch}.patch: {done.stderr}"

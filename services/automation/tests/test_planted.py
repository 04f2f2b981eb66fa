"""The tests find what they are there for: each defect of tests/planted/automation is put into a copy and run."""

from pathlib import Path

import planting
import pytest

HERE = Path(__file__).parent
# By the follow-ups, and as which fault.
DEFECTS = {
    "answer_forgotten": "although answered",
    "believed_at_once": "although answered",
    "rings_again": "twice",
    "taken_before_it_is_done": "never",
}


def test_every_planted_defect_is_tried_and_still_fits_the_sources():
    planting.all_fit("automation", DEFECTS)


@pytest.mark.deep
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_defect_is_found(name, tmp_path):
    test = HERE / "test_follow_ups.py"
    told = planting.told(f"automation/{name}", tmp_path, test, deep=True, RELEVO_FOLLOW_UPS="400")
    assert f"'{DEFECTS[name]}':" in told, told[-3000:]

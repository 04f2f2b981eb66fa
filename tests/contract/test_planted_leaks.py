"""What is there to find leaks finds them: each defect of tests/planted/leaks is put into a copy of the sources and run."""

from pathlib import Path

import planting
import pytest

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


def test_every_planted_leak_is_tried_and_still_fits_the_sources() -> None:
    planting.all_fit("leaks", DEFECTS)


@pytest.mark.deep
@pytest.mark.timeout(400)
@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_leak_is_found(name: str, tmp_path: Path) -> None:
    test, telling = DEFECTS[name]
    told = planting.told(f"leaks/{name}", tmp_path, test)
    assert telling in told, told[-3000:]

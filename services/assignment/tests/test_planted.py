"""The tests find what they are there for: each defect of tests/planted/assignment is put into a copy and run."""

from pathlib import Path

import planting
import pytest

HERE = Path(__file__).parent
EVERY_AGENT = "test_explaining.py::test_what_keeps_somebody_from_it_is_said_exactly_when_assignment_gives_it_to_nobody"
EVERY_JOURNAL = "test_explaining.py::test_in_any_journal_each_decision_is_explained_as_it_was_counted"
RACES = "test_races.py::test_by_hand_stands_the_loser_is_told_and_each_act_is_told_once"
DAY = "test_judged.py::test_a_day_on_three_replicas_has_no_fault"
# By which test each is found, and what of its report tells so.
DEFECTS = {
    "off_shift_unsaid": (EVERY_AGENT, "assert codes"),
    "explained_by_what_was_before": (EVERY_JOURNAL, "assert (reached, excluded)"),
    "draft_follows_what_was": ("test_simulation.py::test_more_people_let_wait_less_and_fewer_more", "assert"),
    "takes_whatever_changed": (RACES, "in _judge"),
    "judged_over_capacity": (DAY, "over capacity"),
    "judged_asked_again": (DAY, "asked again"),
    "judged_offers_weigh_nothing": (DAY, "over capacity"),
    "notices_to_who_was_answered": ("test_notices.py", "test_who_has_an_agent_or_an_answer"),
    "offers_begin_the_wait_anew": ("test_offers.py", "test_who_declines_is_not_asked_again"),
    "judged_too_fast": (DAY, "too fast"),
    "judged_unskilled": (DAY, "unskilled"),
    "judged_widened_early": (DAY, "rings"),
    "judged_part_of_a_unit": (DAY, "over capacity"),
    "memory_of_no_queue": ("test_matcher.py", "test_a_replica_knows_of_the_queue_that_another_one_made"),
    "memory_of_who_reaches_what": ("test_matcher.py", "test_replicas_that_take_turns_know_what_the_others_did"),
    "light_for_ever": ("test_units.py", "a customer who writes is not sent away"),
    "judged_two_holders": (DAY, "two holders"),
    "judged_idle": (DAY, "idle"),
    "judged_out_of_order": (DAY, "out of order"),
    "judged_left_behind": (DAY, "left behind"),
    "taken_back_at_once": ("test_taken_back.py", "test_what_is_given_by_hand_to_somebody_gone"),
    "overflow_loses_its_place": ("test_overflow.py", "whoever waits since then waits since then"),
    "rule_after_hand": (RACES, "assert acts in"),
    "rule_for_ever": ("test_rules.py", "test_what_rules_look_at_becomes_otherwise_while_it_waits"),
    "rules_in_any_order": ("test_rules.py", "the oldest first"),
    "stays_forget_closings": (
        "test_past.py::test_as_of_any_moment_it_is_what_it_was_then",
        'assert [row["conversation_id"] for row in rows] == had',
    ),
    "stays_looked_for_too_near": (
        "test_past.py::test_a_level_is_the_smallest_that_the_length_fits_into",
        "assert length <= timedelta",
    ),
    "told_of_what_was_taken_back": (RACES, "the loser is told who has it"),
}


def test_every_planted_defect_is_tried_and_still_fits_the_sources():
    planting.all_fit("assignment", DEFECTS)


@pytest.mark.deep
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_defect_is_found(name, tmp_path):
    test, telling = DEFECTS[name]
    days = 5 if test == DAY else 1
    told = planting.told(f"assignment/{name}", tmp_path, HERE / test, days=days, RELEVO_TEST_ROUNDS="20")
    assert telling in told, told[-3000:]

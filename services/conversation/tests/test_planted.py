"""The tests find what they are there for: each defect of tests/planted/conversation is put into a copy and run."""

from pathlib import Path

import planting
import pytest

HERE = Path(__file__).parent
LIVES = "test_conversation_domain.py::test_ten_thousand_lives"
DAYS = "test_shop.py::test_some_days"
ANSWERS = "test_answers.py::test_every_answer_is_a_documented_one"
SURVEYS = "test_surveys.py::test_a_customer_is_asked_answers_and_changes_their_mind"
TIMELINE = "test_timeline.py::"
BOTS = "test_bots.py::"
HISTORY = "test_history.py::"
# By which test each is found, and what of its report tells so (any one).
DEFECTS: dict[str, tuple[str, set[str]]] = {
    "reopening_keeps_archived": (LIVES, {"assert not s.archived or s.status"}),
    "woken_keeps_its_moment": (LIVES, {"assert s.snoozed_until is None or s.status"}),
    "unread_by_account": (DAYS, {'assert row["unread"] == sum', 'assert answer.json()["unread"] == 1'}),
    "counts_forget_snoozed": (DAYS, {'assert count["count"] == len', 'assert counts["'}),
    "a_rules_note_leaves": (DAYS, {"in check_what_leaves", "(row,) = self.shop.rows(", "assert notes =="}),
    "merge_leaves_resolved_behind": (DAYS, {"assert answer.status_code < 500", "wanted.contact_id"}),
    "imported_is_unread": (
        f"{HISTORY}test_a_past_conversation_is_found_everywhere_and_nothing_happens",
        {"== [(0, 0), (0, 0)]"},
    ),
    "imported_is_reopened": (
        f"{HISTORY}test_a_customer_who_writes_begins_anew_and_an_agent_may_open_what_was_imported",
        {'["historic"] is False'},
    ),
    "forged_cursor_breaks": (ANSWERS, {"ServerError"}),
    "survey_link_shown": (SURVEYS, {"assert token not in shown"}),
    "bots_clock_moves": (
        f"{BOTS}test_a_silent_bot_loses_it_to_people_and_one_that_is_gone_too",
        {"who writes on does not wait longer"},
    ),
    "bot_of_any_inbox": (f"{BOTS}test_what_is_the_team_s_is_not_the_bot_s", {"== 404"}),
    "bot_reads_notes": (f"{BOTS}test_what_is_the_team_s_is_not_the_bot_s", {'assert "secreto" not in shown.text'}),
    "bot_keeps_owned": (
        f"{BOTS}test_the_bot_is_skipped_for_who_has_an_owner_where_the_inbox_says_so",
        {"== 'open'", '== "open"'},
    ),
    "as_of_takes_what_came_later": (f"{TIMELINE}test_as_of_a_moment_it_is_what_it_was_then", {"== state"}),
    "timeline_brings_back_the_deleted": (
        f"{TIMELINE}test_every_event_is_told_with_its_cause",
        {'assert "secreto" not in', 'items[5]["message"]["deleted_at"]'},
    ),
    "timeline_for_anybody": (
        f"{TIMELINE}test_every_event_is_told_with_its_cause",
        {"== (status, code)", "KeyError: 'code'"},
    ),
}
MORE = {"RELEVO_TEST_DAYS": "40", "RELEVO_TEST_EXAMPLES": "8"}


def test_every_planted_defect_is_tried_and_still_fits_the_sources():
    planting.all_fit("conversation", DEFECTS)


@pytest.mark.deep
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", DEFECTS)
def test_a_planted_defect_is_found(name, tmp_path):
    test, telling = DEFECTS[name]
    told = planting.told(f"conversation/{name}", tmp_path, HERE / test, deep=True, **MORE)
    assert any(one in told for one in telling), told[-3000:]

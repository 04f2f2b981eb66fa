"""Clocks of service levels, against a walk minute by minute, and what each event does to them."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relevo.automation.domain import sla
from relevo.automation.domain.sla import Course, Stop, Targets, Terms, clocks, due_at, fold
from relevo.kernel.business_time import Calendar, Interval, is_open

from .samples import conversation

MINUTE = timedelta(minutes=1)
# A Friday before the hours change in Madrid (29 March 2026), so that walks go over a weekend and the change.
FRIDAY = datetime(2026, 3, 27, 8, 0, tzinfo=UTC)
OFFICE = Calendar(
    "Europe/Madrid",
    tuple((Interval(9 * 60, 14 * 60), Interval(16 * 60, 19 * 60)) if day < 5 else () for day in range(7)),
    {date(2026, 3, 30): ()},
)
NIGHT = Calendar("Europe/Madrid", tuple((Interval(22 * 60, 26 * 60),) for _ in range(7)), {})


def walked(calendar: Calendar | None, start: datetime, minutes: int, stops: list[Stop]) -> datetime | None:
    """The same, by walking: a minute counts when it is open and in no stop."""
    at, left = start, minutes
    for _ in range(60 * 24 * 9):
        if left == 0:
            return at
        if any(stop.start <= at and stop.end is None for stop in stops):
            return None
        stopped = any(stop.start <= at and stop.end is not None and at < stop.end for stop in stops)
        left -= not stopped and (calendar is None or bool(is_open(calendar, at)))
        at += MINUTE
    raise AssertionError("the walk was too short")


@st.composite
def stops(draw: st.DrawFn) -> list[Stop]:
    found = []
    for _ in range(draw(st.integers(0, 4))):
        start = FRIDAY + MINUTE * draw(st.integers(-200, 5000))
        going = draw(st.integers(0, 9)) == 0
        found.append(Stop(start, None if going else start + MINUTE * draw(st.integers(1, 600))))
    return found


@settings(deadline=None)
@given(st.sampled_from([None, OFFICE, NIGHT]), st.integers(0, 3000), st.integers(1, 500), stops())
def test_a_clock_is_due_when_a_walk_minute_by_minute_says_so(calendar, later, target, halts) -> None:
    start = FRIDAY + MINUTE * later
    assert due_at(calendar, start, target * 60, halts) == walked(calendar, start, target, halts)


def test_a_calendar_that_measures_nothing_counts_every_second() -> None:
    nothing = Calendar("Europe/Madrid", tuple(() for _ in range(7)), {})
    assert due_at(nothing, FRIDAY, 60, ()) == FRIDAY + MINUTE


class Life:
    """A conversation whose events come one after the other."""

    def __init__(self, **more) -> None:
        self.at = FRIDAY
        self.sequence = 0
        self.facts = {"opened_at": FRIDAY, "waiting_since": FRIDAY, "status": "open"} | more
        self.course: Course | None = None
        self.event()

    def event(self, after: int = 0, **facts) -> Course:
        self.at += after * MINUTE
        self.sequence += 1
        self.facts |= facts
        self.course = fold(self.course, conversation(sequence=self.sequence, **self.facts), self.at)
        return self.course

    def customer(self, after: int) -> None:
        self.event(after, waiting_since=self.facts["waiting_since"] or self.at + after * MINUTE)

    def agent(self, after: int) -> None:
        at = self.at + after * MINUTE
        self.event(after, waiting_since=None, first_reply_at=self.facts.get("first_reply_at") or at)

    def resolve(self, after: int) -> None:
        self.event(after, status="resolved", resolved_at=self.at + after * MINUTE, waiting_since=None)

    def told(self, **terms) -> dict[str, tuple[str, int | None]]:
        """By measure the state, and after how many minutes of the clock's beginning it is due."""
        targets = Targets(600, 300, 6000)
        found = clocks(self.course, Terms({}, **({"business_hours": False} | terms)), targets, None)
        return {
            one.measure: (one.state, None if one.due_at is None else round((one.due_at - one.started_at) / MINUTE))
            for one in found
        }


def test_a_reply_in_time_is_met_a_late_one_missed_and_each_question_has_its_own_clock() -> None:
    life = Life()
    assert life.told() == {"first_response": ("running", 10), "resolution": ("running", 100)}
    life.agent(10)
    assert life.told()["first_response"] == ("met", 10)
    life.customer(5)
    life.customer(1)  # the same question goes on
    assert life.told()["next_response"] == ("running", 5)
    life.agent(5)
    assert life.told()["next_response"] == ("missed", 5)
    life.customer(3)
    assert life.told()["next_response"] == ("running", 5)
    life.agent(4)
    assert life.told()["next_response"] == ("met", 5)


def test_a_late_resolution_is_missed_and_never_met() -> None:
    life = Life()
    life.agent(1)
    life.resolve(100)
    assert life.told()["resolution"] == ("missed", 100)
    early = Life()
    early.resolve(99)
    assert early.told() == {"first_response": ("missed", 10), "resolution": ("met", 100)}
    soon = Life()
    soon.resolve(5)
    assert soon.told()["first_response"] == ("void", 10)


@pytest.mark.parametrize("status", ["snoozed", "pending"])
def test_clocks_stand_while_it_is_snoozed_or_with_a_bot(status) -> None:
    life = Life()
    life.event(4, status=status)
    assert life.told() == {"first_response": ("paused", None), "resolution": ("paused", None)}
    life.event(60, status="open")
    assert life.told() == {"first_response": ("running", 70), "resolution": ("running", 160)}
    life.agent(6)
    assert life.told()["first_response"] == ("met", 70)


def test_the_resolution_waits_for_the_customer_where_the_policy_says_so() -> None:
    life = Life()
    life.agent(5)
    assert life.told(pause_on_customer=True)["resolution"] == ("paused", None)
    assert life.told()["resolution"] == ("running", 100)
    life.event(10, status="snoozed")
    life.event(10, status="open")
    life.customer(10)
    assert life.told(pause_on_customer=True)["resolution"] == ("running", 130)


def test_reopening_begins_anew() -> None:
    life = Life()
    life.agent(1)
    life.event(1, status="snoozed")
    life.resolve(1)
    opened = life.at + 50 * MINUTE
    life.event(
        50, status="open", cycle=2, opened_at=opened, first_reply_at=None, resolved_at=None, waiting_since=opened
    )
    assert life.told() == {"first_response": ("running", 10), "resolution": ("running", 100)}
    assert life.course.halts == ()


def test_an_older_event_changes_nothing_and_a_course_is_kept_as_it_was() -> None:
    life = Life()
    life.agent(1)
    life.event(1, status="snoozed")
    before = life.course
    assert fold(before, conversation(sequence=1, opened_at=FRIDAY), FRIDAY + MINUTE) == before
    assert sla.from_json(sla.to_json(before)) == before


def test_the_warning_comes_at_its_part_of_the_target_and_priorities_have_their_own() -> None:
    terms = Terms({"default": Targets(600), "urgent": Targets(60)}, business_hours=False, warn_percent=50)
    course = Life().course
    (usual,) = clocks(course, terms, terms.of("low"), None)
    assert (usual.warn_at, usual.due_at) == (FRIDAY + 5 * MINUTE, FRIDAY + 10 * MINUTE)
    (urgent,) = clocks(course, terms, terms.of("urgent"), None)
    assert urgent.due_at == FRIDAY + MINUTE

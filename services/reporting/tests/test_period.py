"""The period before a period, in the calendars of real zones."""

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo.reporting.domain.period import before, change

from .test_rollup import _MOMENTS, _ZONES

_DATES = st.dates(date(2015, 1, 1), date(2029, 12, 31))
MADRID = ZoneInfo("Europe/Madrid")


def _start(day: date, zone: ZoneInfo) -> datetime:
    """The first moment of a day: by trying, as midnight may be skipped, or come twice."""
    at = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=16)
    while at.astimezone(zone).date() < day:
        at += timedelta(minutes=15)
    return at


def _month(day: date, months: int) -> date:
    year, month = divmod(day.year * 12 + day.month - 1 + months, 12)
    return date(year, month + 1, 1)


@given(_DATES, st.integers(1, 24), _ZONES)
def test_months_are_beside_as_many_months(day: date, months: int, zone: ZoneInfo) -> None:
    first = day.replace(day=1)
    since, until = _start(first, zone), _start(_month(first, months), zone)
    assert before(since, until, zone) == (_start(_month(first, -months), zone), since)


@given(_DATES, st.integers(1, 400), _ZONES)
def test_days_are_beside_as_many_days(day: date, days: int, zone: ZoneInfo) -> None:
    following = day + timedelta(days=days)
    if day.day == following.day == 1:
        following += timedelta(days=1)
        days += 1
    since, until = _start(day, zone), _start(following, zone)
    assert before(since, until, zone) == (_start(day - timedelta(days=days), zone), since)


@given(_MOMENTS, st.integers(1, 80 * 1440), _ZONES)
def test_anything_else_is_beside_as_many_seconds(since: datetime, minutes: int, zone: ZoneInfo) -> None:
    until = since + timedelta(minutes=minutes)
    begin, end = before(since, until, zone)
    assert begin < end == since
    if since.astimezone(zone).time() != until.astimezone(zone).time() and since.astimezone(zone).hour > 1:
        assert end - begin == until - since


def test_a_day_of_a_clock_change_is_beside_a_whole_day() -> None:
    short = datetime(2026, 3, 28, 23, tzinfo=UTC), datetime(2026, 3, 29, 22, tzinfo=UTC)
    assert before(*short, MADRID) == (datetime(2026, 3, 27, 23, tzinfo=UTC), short[0])
    week = datetime(2026, 3, 29, 22, tzinfo=UTC), datetime(2026, 4, 5, 22, tzinfo=UTC)
    assert before(*week, MADRID) == (datetime(2026, 3, 22, 23, tzinfo=UTC), week[0])
    # The hour that comes twice, and the one after the hour that there is not: as long as an hour.
    for hour in (datetime(2026, 10, 25, 1, tzinfo=UTC), datetime(2026, 3, 29, 1, tzinfo=UTC)):
        assert before(hour, hour + timedelta(hours=1), MADRID) == (hour - timedelta(hours=1), hour)
    twice = datetime(2026, 10, 25, 0, 30, tzinfo=UTC)
    assert before(twice, twice + timedelta(hours=1), MADRID) == (twice - timedelta(hours=1), twice)


def test_a_day_that_a_zone_skipped_is_none_to_compare_with() -> None:
    apia = ZoneInfo("Pacific/Apia")  # there was no 30 December 2011
    since = datetime(2011, 12, 30, 10, tzinfo=UTC)
    assert since.astimezone(apia).isoformat() == "2011-12-31T00:00:00+14:00"
    assert before(since, since + timedelta(days=1), apia) == (since - timedelta(days=1), since)


@pytest.mark.parametrize(
    ("now", "earlier", "grown"),
    [(3, 2, 0.5), (0, 4, -1), (1, 0, None), (0, 0, None), (None, 2, None), (2, None, None), (2.0, 3.0, -0.333333)],
)
def test_a_change_is_a_part_of_what_was(now: float | None, earlier: float | None, grown: float | None) -> None:
    assert change(now, earlier) == grown

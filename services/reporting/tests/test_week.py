"""The hours of a week beside a walk through every quarter of an hour."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relevo.reporting.domain.rollup import BadPeriod
from relevo.reporting.domain.week import CELLS, LONGEST, hours, resolution, spans

from .test_rollup import _MOMENTS, _ZONES

MADRID = ZoneInfo("Europe/Madrid")


@given(_MOMENTS, st.integers(1, 60 * 1440), _ZONES)
def test_spans_cover_the_period_and_tell_the_offset_of_every_moment(
    since: datetime, minutes: int, zone: ZoneInfo
) -> None:
    until = since + timedelta(minutes=minutes)
    found = spans(since, until, zone)
    assert (found[0].since, found[-1].until) == (since, until)
    for one, following in pairwise(found):
        assert one.until == following.since
        assert one.offset != following.offset
    for span in found:
        at = span.since
        while at < span.until:
            assert at.astimezone(zone).utcoffset() == span.offset
            at += timedelta(minutes=15)


@given(_MOMENTS, st.integers(1, 30 * 96), _ZONES)
def test_each_hour_of_the_week_is_as_long_as_the_clock_showed_it(
    since: datetime, quarters: int, zone: ZoneInfo
) -> None:
    since -= timedelta(minutes=since.minute % 15)
    walked: Counter[int] = Counter()
    for quarter in range(quarters):
        local = (since + timedelta(minutes=15 * quarter)).astimezone(zone)
        walked[local.weekday() * 24 + local.hour] += 1
    found = spans(since, since + timedelta(minutes=15 * quarters), zone)
    assert hours(found) == [walked[cell] / 4 for cell in range(CELLS)]


def test_an_hour_comes_twice_in_autumn_and_not_at_all_in_spring() -> None:
    sunday_at_two = 6 * 24 + 2
    autumn = datetime(2026, 10, 18, 22, tzinfo=UTC)
    assert hours(spans(autumn, autumn + timedelta(days=7, hours=1), MADRID))[sunday_at_two] == 2
    spring = datetime(2026, 3, 22, 23, tzinfo=UTC)
    assert hours(spans(spring, spring + timedelta(days=6, hours=23), MADRID))[sunday_at_two] == 0


def test_the_coarser_roll_up_only_where_hours_are_hours_of_utc() -> None:
    since = datetime(2026, 1, 1, tzinfo=UTC)
    until = since + timedelta(days=300)
    for zone, expected in (("Europe/Madrid", "hour"), ("Asia/Kathmandu", "minute"), ("Australia/Lord_Howe", "minute")):
        assert resolution(spans(since, until, ZoneInfo(zone))) == expected
    assert resolution(spans(since + timedelta(minutes=1), until, MADRID)) == "minute"
    assert resolution(spans(since, until - timedelta(minutes=1), MADRID)) == "minute"


def test_towns_of_odd_seconds_are_told_by_the_minute_and_a_lifetime_is_refused() -> None:
    since = datetime(1900, 1, 1, tzinfo=UTC)
    assert all(not span.offset % timedelta(minutes=1) for span in spans(since, since + LONGEST, MADRID))
    with pytest.raises(BadPeriod, match="shorter"):
        spans(since, since + LONGEST + timedelta(minutes=1), MADRID)

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from random import Random
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from relevo.kernel.business_time import (
    LONGEST,
    WEEKDAYS,
    Calendar,
    CalendarError,
    Interval,
    add_business_seconds,
    business_seconds,
    is_open,
    next_close,
    next_open,
)

MINUTE = timedelta(minutes=1)
# Changes at 2:00, at midnight (both ways), of half an hour, of a whole day (Apia 2011), backwards "winter time" (Dublin),
# by decree in Ramadan (Casablanca), and none.
ZONES = {
    "America/New_York": [datetime(2026, 3, 8, 7, tzinfo=UTC), datetime(2026, 11, 1, 6, tzinfo=UTC)],
    "Europe/Madrid": [datetime(2026, 3, 29, 1, tzinfo=UTC), datetime(2026, 10, 25, 1, tzinfo=UTC)],
    "America/Santiago": [datetime(2026, 4, 5, 3, tzinfo=UTC), datetime(2026, 9, 6, 4, tzinfo=UTC)],
    "Australia/Lord_Howe": [datetime(2026, 4, 4, 15, tzinfo=UTC), datetime(2026, 10, 3, 15, 30, tzinfo=UTC)],
    "Pacific/Apia": [datetime(2011, 12, 30, 10, tzinfo=UTC)],
    "Europe/Dublin": [datetime(2026, 3, 29, 1, tzinfo=UTC)],
    "Africa/Casablanca": [datetime(2026, 2, 15, 2, tzinfo=UTC), datetime(2026, 3, 22, 2, tzinfo=UTC)],
    "America/Bogota": [datetime(2026, 1, 1, 5, tzinfo=UTC)],
    "Asia/Kathmandu": [datetime(1985, 12, 31, 18, 30, tzinfo=UTC)],
}

EVERY_ZONE = sorted(available_timezones())
FIRST_YEAR, LAST_YEAR = 1970, 2040


def changes(name: str, year: int) -> list[datetime]:
    """Where a zone's wall clock jumps in a year, to the quarter of an hour, found by looking there."""
    zone, quarter = ZoneInfo(name), timedelta(minutes=15)
    begin = datetime(year, 1, 1, tzinfo=UTC)
    # By five days first: a jump that is undone within them is not found.
    looks = [(at, at.astimezone(zone).utcoffset()) for at in (begin + timedelta(days=n) for n in range(0, 371, 5))]
    return [
        next(t for t in (at + quarter * n for n in range(481)) if t.astimezone(zone).utcoffset() != before)
        for (at, before), (_, after) in pairwise(looks)
        if before != after
    ]


@pytest.fixture(scope="module")
def every_change() -> list[tuple[str, datetime]]:
    """Each zone with each change of its clock. Zones that are one under two names count once."""
    alike: dict[tuple, str] = {}
    for name in EVERY_ZONE:
        found = tuple(change for year in range(FIRST_YEAR, LAST_YEAR) for change in changes(name, year))
        alike.setdefault((found, *(change.astimezone(ZoneInfo(name)).utcoffset() for change in found)), name)
    return sorted((name, change) for key, name in alike.items() for change in key[0])


minutes = st.sampled_from([0, 1, 30, 60, 90, 119, 120, 150, 180, 540, 1080, 1320, 1380, 1439]) | st.integers(0, 1439)
lengths = st.sampled_from([1, 30, 60, 480, 1440]) | st.integers(1, 1440)
day_intervals = st.lists(st.builds(lambda a, n: Interval(a, a + n), minutes, lengths), max_size=3).map(tuple)


@st.composite
def calendars_and_times(draw, times: int):
    """A calendar and instants around a change of its zone's offset, in order."""
    if draw(st.booleans()):
        name = draw(st.sampled_from(sorted(ZONES)))
        change = draw(st.sampled_from(ZONES[name]))
    else:
        name, year = draw(st.sampled_from(EVERY_ZONE)), draw(st.integers(FIRST_YEAR, LAST_YEAR))
        change = draw(st.sampled_from(changes(name, year) or [datetime(year, 1, 1, tzinfo=UTC)]))
    days = [change.date() + timedelta(days=n) for n in range(-4, 5)]
    calendar = Calendar(
        name,
        tuple(draw(st.lists(day_intervals, min_size=7, max_size=7))),
        draw(st.dictionaries(st.sampled_from(days), day_intervals, max_size=3)),
    )
    found = [change + MINUTE * draw(st.integers(-3 * 1440, 3 * 1440)) for _ in range(times)]
    return calendar, *sorted(found)


def open_at(calendar: Calendar, at: datetime) -> bool:
    """The definition, written down as plainly as can be: read the wall clock, look at the intervals."""
    wall = at.astimezone(ZoneInfo(calendar.time_zone)).replace(tzinfo=None)
    for day in (wall.date(), wall.date() - timedelta(days=1)):
        midnight = datetime(day.year, day.month, day.day)  # noqa: DTZ001
        for item in calendar.overrides.get(day, calendar.weekly[day.weekday()]):
            if midnight + MINUTE * item.start <= wall < midnight + MINUTE * item.end:
                return True
    return False


def walk(calendar: Calendar, start: datetime, end: datetime) -> Iterator[bool]:
    return (open_at(calendar, start + MINUTE * n) for n in range((end - start) // MINUTE))


def nothing(calendar: Calendar) -> bool:
    return not any(calendar.weekly) and not any(calendar.overrides.values())


@settings(deadline=None)
@given(calendars_and_times(2))
def test_business_seconds_are_the_open_minutes_of_a_walk(case):
    calendar, start, end = case
    expected = None if nothing(calendar) else 60.0 * sum(walk(calendar, start, end))
    assert business_seconds(calendar, start, end) == expected


@pytest.mark.deep
@pytest.mark.timeout(900)
@pytest.mark.parametrize("part", range(16))
def test_every_change_of_every_zone_is_measured_right(every_change, part):
    """A random calendar over each change of each zone's clock, against the walk."""
    random, mine = Random(part), every_change[part::16]
    assert len(mine) > 500
    for name, change in mine:
        calendar = Calendar(
            name,
            tuple(
                tuple(
                    Interval(start, start + random.choice((30, 60, 90, 480, 1440)))
                    for start in random.sample(range(0, 1440, 15), random.randrange(3))
                )
                for _ in range(7)
            ),
            {change.date() + timedelta(days=random.randrange(-1, 2)): ()} if random.random() < 0.3 else {},
        )
        start, end = change - timedelta(hours=9), change + timedelta(hours=9)
        expected = None if nothing(calendar) else 60.0 * sum(walk(calendar, start, end))
        assert business_seconds(calendar, start, end) == expected, (name, change, calendar.to_json())


@settings(deadline=None, max_examples=300)
@given(calendars_and_times(1), st.integers(0, 59_999_999))
def test_open_is_what_the_wall_clock_says(case, microseconds):
    calendar, at = case
    at += timedelta(microseconds=microseconds)
    assert is_open(calendar, at) == (None if nothing(calendar) else open_at(calendar, at))


@settings(deadline=None)
@given(calendars_and_times(1))
def test_next_open_and_close_are_those_of_a_walk(case):
    calendar, at = case
    far = at + timedelta(days=16)
    steps = enumerate(walk(calendar, at, far))
    opens = next((n for n, now in steps if now), None)
    found = next_open(calendar, at)
    if opens is None:
        assert found is None or found >= far
        return
    assert found == at + MINUTE * opens
    closes = next((n for n, now in steps if not now), None)
    end = next_close(calendar, at)
    if closes is None:
        assert end is None or end >= far
    else:
        assert end == at + MINUTE * closes


@settings(deadline=None)
@given(calendars_and_times(1), st.integers(0, 5 * 86_400) | st.floats(0, 86_400))
def test_adding_is_the_inverse_of_measuring(case, seconds):
    calendar, start = case
    seconds = round(seconds, 6)
    end = add_business_seconds(calendar, start, seconds)
    if end is None:
        assert nothing(calendar) or business_seconds(calendar, start, start + LONGEST) < seconds
        return
    assert business_seconds(calendar, start, end) == pytest.approx(seconds, abs=1e-6)
    if seconds:  # and it is the earliest such instant: just before it, less time had passed
        assert business_seconds(calendar, start, end - timedelta(microseconds=1)) < seconds


@settings(deadline=None)
@given(calendars_and_times(3))
def test_business_seconds_add_up(case):
    calendar, start, middle, end = case
    parts = business_seconds(calendar, start, middle), business_seconds(calendar, middle, end)
    assert business_seconds(calendar, start, end) == (None if None in parts else sum(parts))


@given(calendars_and_times(0))
@example((Calendar("UTC", ((Interval(540, 1980), Interval(0, 1440)), *((),) * 6)),))
def test_json_gives_the_same_calendar_back(case):
    (calendar,) = case
    assert Calendar.parse(calendar.to_json()) == calendar


OFFICE = Calendar.parse(
    {
        "time_zone": "America/New_York",
        "weekly": {day: [["09:00", "13:00"], ["14:00", "18:00"]] for day in WEEKDAYS[:5]},
        "overrides": {"2026-12-25": [], "2026-12-24": [["09:00", "12:00"]]},
    }
)


def at(text: str, name: str = "America/New_York") -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(name))


def test_an_office_week():
    assert business_seconds(OFFICE, at("2026-06-01T08:00"), at("2026-06-01T15:30")) == 5.5 * 3600
    assert business_seconds(OFFICE, at("2026-06-05T17:00"), at("2026-06-08T10:00")) == 2 * 3600
    assert is_open(OFFICE, at("2026-06-01T13:00")) is False
    assert next_open(OFFICE, at("2026-06-05T18:00")) == at("2026-06-08T09:00")
    assert next_close(OFFICE, at("2026-06-05T18:00")) == at("2026-06-08T13:00")
    assert add_business_seconds(OFFICE, at("2026-06-05T17:00"), 2 * 3600) == at("2026-06-08T10:00")
    assert add_business_seconds(OFFICE, at("2026-06-05T17:00"), 3600) == at("2026-06-05T18:00")


def test_holidays_and_special_days():
    assert business_seconds(OFFICE, at("2026-12-24T00:00"), at("2026-12-28T00:00")) == 3 * 3600
    assert next_open(OFFICE, at("2026-12-24T12:00")) == at("2026-12-28T09:00")


@pytest.mark.parametrize(
    ("night", "hours"), [("2026-03-07", 7), ("2026-11-01", 8), ("2026-10-31", 9), ("2026-06-06", 8)]
)
def test_a_night_shift_has_the_hours_that_really_pass(night, hours):
    shift = Calendar("America/New_York", (((Interval(22 * 60, 30 * 60),),) * 7))
    start = at(f"{night}T22:00")
    assert business_seconds(shift, start, start + timedelta(hours=16)) == hours * 3600


def test_a_shift_begun_before_a_holiday_runs_to_its_end():
    shift = Calendar("UTC", (((Interval(22 * 60, 30 * 60),),) * 7), {date(2026, 12, 25): ()})
    opened = datetime(2026, 12, 24, 22, tzinfo=UTC)
    closed = datetime(2026, 12, 25, 6, tzinfo=UTC)
    assert is_open(shift, closed - timedelta(microseconds=1)) is True
    assert is_open(shift, closed) is False
    assert next_close(shift, opened) == datetime(2026, 12, 25, 6, tzinfo=UTC)
    assert next_open(shift, datetime(2026, 12, 25, 6, tzinfo=UTC)) == datetime(2026, 12, 26, 22, tzinfo=UTC)


def test_a_calendar_without_intervals_measures_nothing():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    for empty in (Calendar("UTC"), Calendar("UTC", overrides={date(2026, 1, 1): ()})):
        assert not empty.measures
        assert is_open(empty, now) is None
        assert business_seconds(empty, now, now) is None
        assert add_business_seconds(empty, now, 0) is None
        assert next_open(empty, now) is None
        assert next_close(empty, now) is None


def test_always_open_never_closes_and_once_open_never_opens_again():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    always = Calendar("Europe/Madrid", (((Interval(0, 1440),),) * 7))
    assert next_close(always, now) is None
    assert add_business_seconds(always, now, 20 * 366 * 86_400) == now + timedelta(days=20 * 366)
    once = Calendar("UTC", overrides={date(2026, 1, 2): (Interval(0, 60),)})
    assert add_business_seconds(once, now, 3600) == datetime(2026, 1, 2, 1, tzinfo=UTC)
    assert add_business_seconds(once, now, 3601) is None
    assert business_seconds(once, datetime(2026, 2, 1, tzinfo=UTC), datetime(2026, 3, 1, tzinfo=UTC)) == 0


def test_wrong_use_is_refused():
    now = datetime(2026, 1, 1, tzinfo=UTC)
    with pytest.raises(ValueError, match="end is before start"):
        business_seconds(OFFICE, now, now - MINUTE)
    with pytest.raises(ValueError, match="negative"):
        add_business_seconds(OFFICE, now, -1)
    with pytest.raises(ValueError, match="offset"):
        is_open(OFFICE, now.replace(tzinfo=None))
    with pytest.raises(ValueError, match="after 9000"):
        next_open(OFFICE, datetime(9999, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("raw", "path"),
    [
        ({}, "/time_zone"),
        ({"time_zone": "Mars/Base"}, "/time_zone"),
        ({"time_zone": "../etc/passwd"}, "/time_zone"),
        ({"time_zone": "UTC", "week": {}}, "/week"),
        ({"time_zone": "UTC", "weekly": []}, "/weekly"),
        ({"time_zone": "UTC", "weekly": {"lunes": []}}, "/weekly/lunes"),
        ({"time_zone": "UTC", "weekly": {"monday": "09:00"}}, "/weekly/monday"),
        ({"time_zone": "UTC", "weekly": {"monday": [["09:00"]]}}, "/weekly/monday/0"),
        ({"time_zone": "UTC", "weekly": {"monday": [["9", "10:00"]]}}, "/weekly/monday/0/0"),
        ({"time_zone": "UTC", "weekly": {"monday": [["09:00", "24:01"]]}}, "/weekly/monday/0/1"),
        ({"time_zone": "UTC", "weekly": {"monday": [["24:00", "01:00"]]}}, "/weekly/monday/0/0"),
        ({"time_zone": "UTC", "overrides": {"25-12": []}}, "/overrides/25-12"),
        ({"time_zone": "UTC", "overrides": {"2026-12-25": None}}, "/overrides/2026-12-25"),
    ],
)
def test_a_bad_calendar_is_refused_where_it_is_bad(raw, path):
    with pytest.raises(CalendarError) as refused:
        Calendar.parse(raw)
    assert refused.value.path == path
    assert refused.value.reason
    assert refused.value.mend

"""Business time: when a calendar is open, and how much open time lies between two instants.

A calendar is open at an instant when the clock on the wall, in its time zone, reads a time within one of its intervals.
Everything follows from that, daylight saving time too: an hour that the clock skips is not there, an hour that it shows
twice counts twice.

A calendar without any interval measures nothing: every function answers None ("not measured"), never 0 or False.
All instants are aware datetimes from 1900 to 9000; answers are in UTC, exact to the microsecond. Any other datetime,
a naive one among them, raises ValueError.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Final
from zoneinfo import ZoneInfo

_DAY: Final = timedelta(days=1)
_MICROSECOND: Final = timedelta(microseconds=1)
_MINUTES: Final = 24 * 60
# How far ahead an opening or a close is looked for, and the end of an amount of time.
_HORIZON: Final = timedelta(days=5 * 366)
LONGEST: Final = timedelta(days=25 * 366)
# Zone rules are read within these years; beyond them a calendar has no use.
_FIRST: Final = datetime(1900, 1, 1, tzinfo=UTC)
_LAST: Final = datetime(9000, 1, 1, tzinfo=UTC)

WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")

Span = tuple[datetime, datetime]


class CalendarError(ValueError):
    """A calendar was refused: `path` (a JSON pointer), `reason` and `mend`."""

    def __init__(self, path: str, reason: str, mend: str) -> None:
        self.path = path
        self.reason = reason
        self.mend = mend
        super().__init__(f"{path}: {reason} {mend}")


@dataclass(frozen=True, slots=True)
class Interval:
    """Open from `start` (inclusive) to `end` (exclusive), in minutes since midnight of the day on which it begins.

    An `end` past 1440 is on the next day; an interval is at most 24 hours long.
    """

    start: int
    end: int

    def __post_init__(self) -> None:
        if not (0 <= self.start < _MINUTES and self.start < self.end <= self.start + _MINUTES):
            raise CalendarError(
                "",
                f"The interval from minute {self.start} to minute {self.end} is none.",
                "Begin between 0 and 1439 and end later, at most 1440 minutes later.",
            )


@dataclass(frozen=True)
class Calendar:
    """Opening hours: intervals by weekday (Monday first, seven entries), and dates with intervals of their own.

    An override replaces the intervals that begin on its date, an empty one closes it (a holiday); what began the
    evening before still runs to its end. Intervals may overlap; time is never counted twice.
    """

    time_zone: str
    weekly: tuple[tuple[Interval, ...], ...] = ((),) * 7
    overrides: Mapping[date, tuple[Interval, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        zone(self.time_zone)
        if len(self.weekly) != len(WEEKDAYS):
            raise CalendarError("/weekly", "A week has seven days.", "Give one entry for each, Monday first.")
        object.__setattr__(self, "overrides", MappingProxyType(dict(self.overrides)))

    @property
    def measures(self) -> bool:
        """Whether there is any interval at all."""
        return any(self.weekly) or any(self.overrides.values())

    def starting_on(self, day: date) -> tuple[Interval, ...]:
        """The intervals that begin on this date."""
        return self.overrides.get(day, self.weekly[day.weekday()])

    @classmethod
    def parse(cls, raw: Mapping[str, Any]) -> "Calendar":
        """From JSON, as it is stored and published:

            {"time_zone": "America/Bogota",
             "weekly": {"monday": [["08:00", "12:00"], ["13:00", "18:00"]], "friday": [["22:00", "06:00"]]},
             "overrides": {"2026-12-25": [], "2026-12-24": [["08:00", "12:00"]]}}

        An end at or before its start is on the next day; "24:00" is the midnight at the end. Raises CalendarError.
        """
        for key in raw:
            if key not in ("time_zone", "weekly", "overrides"):
                raise CalendarError(f"/{key}", "This key is not known here.", "Remove it.")
        if not isinstance(raw.get("time_zone"), str):
            raise CalendarError("/time_zone", "It is missing.", "Name an IANA time zone such as America/Bogota.")
        weekly = _mapping(raw.get("weekly"), "/weekly")
        for name in weekly:
            if name not in WEEKDAYS:
                raise CalendarError(f"/weekly/{name}", "There is no such weekday.", f"Use {', '.join(WEEKDAYS)}.")
        overrides = {
            _date(name): _intervals(given, f"/overrides/{name}")
            for name, given in _mapping(raw.get("overrides"), "/overrides").items()
        }
        return cls(
            raw["time_zone"],
            tuple(_intervals(weekly.get(name, ()), f"/weekly/{name}") for name in WEEKDAYS),
            overrides,
        )

    def to_json(self) -> dict[str, Any]:
        """The form that `parse` reads."""
        return {
            "time_zone": self.time_zone,
            "weekly": {
                name: [_clock_pair(item) for item in given]
                for name, given in zip(WEEKDAYS, self.weekly, strict=True)
                if given
            },
            "overrides": {
                day.isoformat(): [_clock_pair(item) for item in given] for day, given in sorted(self.overrides.items())
            },
        }


def is_open(calendar: Calendar, at: datetime) -> bool | None:
    """Whether the calendar is open at this instant; None when it measures nothing."""
    if not calendar.measures:
        return None
    wall = _utc(at).astimezone(zone(calendar.time_zone))
    day = wall.date()
    minute = wall.hour * 60 + wall.minute
    return any(item.start <= minute < item.end for item in calendar.starting_on(day)) or any(
        minute + _MINUTES < item.end for item in calendar.starting_on(day - _DAY)
    )


def business_seconds(calendar: Calendar, start: datetime, end: datetime) -> float | None:
    """Seconds of open time from `start` to `end`; None when the calendar measures nothing.

    Additive: the seconds of two adjoining periods sum to those of both. Raises ValueError when `end` is before `start`.
    """
    begin, finish = _utc(start), _utc(end)
    if finish < begin:
        raise ValueError("end is before start")
    if not calendar.measures:
        return None
    total = sum((closes - opens for opens, closes in _spans(calendar, begin, finish)), timedelta())
    return total / timedelta(seconds=1)


def add_business_seconds(calendar: Calendar, start: datetime, seconds: float) -> datetime | None:
    """The earliest instant by which so much open time has passed since `start`.

    Zero seconds give `start`. None when the calendar measures nothing, or does not open for that long in 25 years.
    Raises ValueError for negative seconds.
    """
    at = _utc(start)
    left = timedelta(seconds=seconds)
    if left < timedelta():
        raise ValueError("seconds is negative")
    if not calendar.measures:
        return None
    if not left:
        return at
    for opens, closes in _spans(calendar, at, at + LONGEST):
        if closes - opens >= left:
            return opens + left
        left -= closes - opens
    return None


def next_open(calendar: Calendar, at: datetime) -> datetime | None:
    """The earliest instant, `at` or later, at which the calendar is open.

    None when it measures nothing or does not open within five years.
    """
    begin = _utc(at)
    return next((opens for opens, _ in _spans(calendar, begin, begin + _HORIZON)), None)


def next_close(calendar: Calendar, at: datetime) -> datetime | None:
    """When the opening that contains `at` ends, or else the next opening: the first closed instant after it.

    None when the calendar measures nothing, has no opening within five years, or one that does not end by then.
    """
    begin = _utc(at)
    limit = begin + _HORIZON
    closes = next((closes for _, closes in _spans(calendar, begin, limit)), limit)
    return closes if closes < limit else None


@lru_cache(maxsize=1_024)
def zone(name: str) -> ZoneInfo:
    """The IANA time zone of this name. Raises CalendarError when there is none."""
    try:
        return ZoneInfo(name)
    except (LookupError, ValueError, OSError):
        raise CalendarError(
            "/time_zone", f'There is no time zone "{name[:60]}".', "Name an IANA time zone such as America/Bogota."
        ) from None


def _utc(at: datetime) -> datetime:
    if at.tzinfo is None:
        raise ValueError("a time without its offset from UTC means nothing here")
    if not _FIRST <= at < _LAST:
        raise ValueError("a time before 1900 or after 9000 has no business hours")
    return at.astimezone(UTC)


def _spans(calendar: Calendar, start: datetime, end: datetime) -> Iterator[Span]:
    """The open spans within [start, end), in order, apart from each other, none empty; touching ones are one."""
    pending: Span | None = None
    for span in _raw_spans(calendar, start, min(end, _LAST)):
        if pending is None:
            pending = span
        elif span[0] == pending[1]:
            pending = (pending[0], span[1])
        else:
            yield pending
            pending = span
    if pending is not None:
        yield pending


def _raw_spans(calendar: Calendar, start: datetime, end: datetime) -> Iterator[Span]:
    # Between two changes of its offset a zone's wall clock runs evenly: there, wall times are instants plus the offset.
    for since, until, offset in _segments(calendar.time_zone, start, end):
        low, high = since + offset, until + offset  # what the wall reads, labelled UTC
        day = low.date()
        reached = low
        while (midnight := datetime(day.year, day.month, day.day, tzinfo=UTC)) < high:
            for opens, closes in _day_spans(calendar, midnight):
                first, last = max(opens, reached), min(closes, high)
                if first < last:
                    yield first - offset, last - offset
                    reached = last
            day += _DAY


def _day_spans(calendar: Calendar, midnight: datetime) -> list[Span]:
    # What of this date is open, also by intervals of the day before. Ends at midnight, so that the order of spans is
    # the order of days even where intervals overlap.
    day = midnight.date()
    minutes = [(item.start, min(item.end, _MINUTES)) for item in calendar.starting_on(day)]
    minutes += [(0, item.end - _MINUTES) for item in calendar.starting_on(day - _DAY) if item.end > _MINUTES]
    return [(midnight + timedelta(minutes=low), midnight + timedelta(minutes=high)) for low, high in sorted(minutes)]


def _segments(name: str, start: datetime, end: datetime) -> Iterator[tuple[datetime, datetime, timedelta]]:
    at = start
    while at < end:
        changes = _changes(name, at.year)
        after = bisect_right(changes, at)
        until = min(changes[after] if after < len(changes) else datetime(at.year + 1, 1, 1, tzinfo=UTC), end)
        yield at, until, _offset(name, at)
        at = until


def _offset(name: str, at: datetime) -> timedelta:
    offset = at.astimezone(zone(name)).utcoffset()
    assert offset is not None
    return offset


@lru_cache(maxsize=4_096)
def _changes(name: str, year: int) -> Sequence[datetime]:
    # The instants of a UTC year at which the zone's offset changes. Looked for in steps of six hours (no zone ever went
    # and came back within six hours), then narrowed down to the second.
    begin = datetime(year, 1, 1, tzinfo=UTC)
    end = datetime(year + 1, 1, 1, tzinfo=UTC)
    step = timedelta(hours=6)
    marks = [begin + step * count for count in range((end - begin) // step + 1)]
    found = []
    for low, high in pairwise(marks):
        before = _offset(name, low)
        if before == _offset(name, high):
            continue
        while high - low > timedelta(seconds=1):
            middle = low + (high - low) // 2
            middle -= _MICROSECOND * middle.microsecond
            if _offset(name, middle) == before:
                low = middle
            else:
                high = middle
        found.append(high)
    return tuple(found)


def _mapping(raw: Any, path: str) -> Mapping[str, Any]:
    if raw is None:
        return {}
    if not isinstance(raw, Mapping):
        raise CalendarError(path, "This is not an object.", "Give an object with lists of [start, end] pairs.")
    return raw


def _date(raw: str) -> date:
    try:
        return date.fromisoformat(raw)
    except ValueError:
        raise CalendarError(f"/overrides/{raw[:40]}", "This is not a date.", "Write it as 2026-12-25.") from None


def _intervals(raw: Any, path: str) -> tuple[Interval, ...]:
    if not isinstance(raw, list | tuple) or len(raw) > 24:
        raise CalendarError(
            path, "This is not a list of at most 24 intervals.", 'Give pairs such as ["09:00", "18:00"].'
        )
    found = []
    for at, pair in enumerate(raw):
        if not isinstance(pair, list | tuple) or len(pair) != 2:
            raise CalendarError(f"{path}/{at}", "This is not a pair of times.", 'Write it as ["09:00", "18:00"].')
        found.append(interval_of(pair[0], pair[1], f"{path}/{at}", ("0", "1")))
    return tuple(found)


def interval_of(opens: Any, closes: Any, path: str, names: tuple[str, str] = ("opens", "closes")) -> Interval:
    """The interval between two times of day such as 09:00; an end at or before its start is on the next day.

    Raises CalendarError, with the path of the one that is none: ``path`` and its name.
    """
    start, end = _clock(opens, f"{path}/{names[0]}"), _clock(closes, f"{path}/{names[1]}")
    if start == _MINUTES:
        raise CalendarError(f"{path}/{names[0]}", "24:00 is no start.", "Begin at 00:00 of the next day.")
    return Interval(start, end if end > start else end + _MINUTES)


def _clock(raw: Any, path: str) -> int:
    hours, colon, minutes = raw.partition(":") if isinstance(raw, str) else ("", "", "")
    if colon and len(hours) == len(minutes) == 2 and raw.isascii() and (hours + minutes).isdigit():
        found = int(hours) * 60 + int(minutes)
        if int(minutes) < 60 and found <= _MINUTES:
            return found
    raise CalendarError(path, "This is not a time of day.", "Write hours and minutes, 00:00 to 24:00.")


def _clock_pair(item: Interval) -> list[str]:
    end = item.end if item.end <= _MINUTES else item.end - _MINUTES
    return [f"{minute // 60:02}:{minute % 60:02}" for minute in (item.start, end)]

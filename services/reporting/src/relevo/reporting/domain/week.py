"""The hours of a week in a real time zone: which moments are whose, and how long each was. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

from relevo.reporting.domain.rollup import BadPeriod

CELLS: Final = 7 * 24
"""Monday at 0:00 is the first hour of a week, Sunday at 23:00 the last one."""

LONGEST: Final = timedelta(days=3660)

_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)
_WEEK: Final = timedelta(days=7)
_MINUTE: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class Span:
    """A part of a period, [since, until) in UTC, in which the zone's clocks are ahead of UTC by `offset`, whole minutes."""

    since: datetime
    until: datetime
    offset: timedelta


def spans(since: datetime, until: datetime, zone: ZoneInfo) -> list[Span]:
    """[since, until) without gap or overlap, cut where the clocks are changed. Raises BadPeriod over LONGEST."""
    if until - since > LONGEST:
        raise BadPeriod(f"longer than {LONGEST.days} days: ask for a shorter period")
    found: list[Span] = []
    begin = at = since.astimezone(UTC)
    offset = _offset(at, zone)
    end = until.astimezone(UTC)
    while at < end:
        following = min(at + _DAY, end)
        if (then := _offset(following, zone)) != offset and (changed := _change(at, following, zone)) < end:
            found.append(Span(begin, changed, offset))
            begin, offset = changed, then
        at = following
    return [*found, Span(begin, end, offset)]


def _change(before: datetime, after: datetime, zone: ZoneInfo) -> datetime:
    """The first minute of `after`'s offset. Nobody changes clocks twice a day."""
    earlier = _offset(before, zone)
    while after - before > _MINUTE:
        middle = before + (after - before) // _MINUTE // 2 * _MINUTE
        before, after = (middle, after) if _offset(middle, zone) == earlier else (before, middle)
    return after


def _offset(moment: datetime, zone: ZoneInfo) -> timedelta:
    # Before there was standard time, towns had odd seconds: nothing is counted that finely.
    return (moment.astimezone(zone).utcoffset() or timedelta()) // _MINUTE * _MINUTE


def resolution(found: Sequence[Span]) -> Literal["minute", "hour"]:
    """The coarser roll-up whose rows never lie in two hours of a week, nor in two of these spans."""
    edges = [moment for span in found for moment in (span.since, span.until)]
    odd = any(edge.minute for edge in edges) or any(span.offset % _HOUR for span in found)
    return "minute" if odd else "hour"


def hours(found: Sequence[Span]) -> list[float]:
    """Of each hour of the week, how many hours of the spans are of it.

    A clock change makes one of them come twice, or not at all.
    """
    total = [timedelta()] * CELLS
    for span in found:
        begin = (span.since + span.offset).replace(tzinfo=None)
        end = (span.until + span.offset).replace(tzinfo=None)
        weeks = (end - begin) // _WEEK
        for cell in range(CELLS) if weeks else ():
            total[cell] += weeks * _HOUR
        for cell, length in _parts(begin + weeks * _WEEK, end):
            total[cell] += length
    return [length / _HOUR for length in total]


def _parts(begin: datetime, end: datetime) -> Iterator[tuple[int, timedelta]]:
    """Each hour on the wall that [begin, end), less than a week, touches, and for how long."""
    while begin < end:
        following = min(begin.replace(minute=0, second=0, microsecond=0) + _HOUR, end)
        yield begin.weekday() * 24 + begin.hour, following - begin
        begin = following

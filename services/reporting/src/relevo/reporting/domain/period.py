"""The period before a period, and how much a figure changed since. Pure."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

from relevo.reporting.domain.rollup import first_edge

_MONTHS = 12


def before(since: datetime, until: datetime, zone: ZoneInfo) -> tuple[datetime, datetime]:
    """The period (UTC) of the same length that ends where [since, until) begins, in the calendar of the zone.

    Of whole months as many months, of whole days (the same time on the wall at both ends) as many days, however long
    clock changes make them; of anything else as many seconds.
    """
    since, until = since.astimezone(UTC), until.astimezone(UTC)
    start, end = _wall(since, zone), _wall(until, zone)
    begin = since - (until - since)
    if all(first_edge(moment, "month", zone) == moment for moment in (since, until)):
        months = start.year * _MONTHS + start.month - 1
        earlier = months - (end.year * _MONTHS + end.month - 1 - months)
        begin = _moment(start.replace(year=earlier // _MONTHS, month=earlier % _MONTHS + 1), zone)
    elif start.time() == end.time() and start.date() < end.date():
        begin = _moment(start - (end - start), zone)
    # A zone that moved across the date line skipped a whole day: there is no such day before.
    return (begin if begin < since else since - (until - since)), since


def change(now: float | None, earlier: float | None) -> float | None:
    """By which part of itself a figure grew; None where there is none, or where it was nothing before."""
    return round((now - earlier) / earlier, 6) if now is not None and earlier else None


def _wall(moment: datetime, zone: ZoneInfo) -> datetime:
    """What the clock on the wall shows; at the start of a day midnight, also where a clock change skipped it."""
    local = moment.astimezone(zone).replace(tzinfo=None)
    if first_edge(moment, "day", zone) == moment:
        return local.replace(hour=0, minute=0, second=0, microsecond=0)
    return local


def _moment(wall: datetime, zone: ZoneInfo) -> datetime:
    return wall.replace(tzinfo=zone, fold=0).astimezone(UTC)

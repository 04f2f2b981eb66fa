"""Totals by the minute, and the edges of a report's buckets in a real time zone."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, Literal
from zoneinfo import ZoneInfo

from relevo.contracts.metrics import METRICS, Fact, Metric, RollupDelta

Bucket = Literal["hour", "day", "week", "month"]
Resolution = Literal["minute", "hour", "day", "month"]

MAX_BUCKETS: Final = 1000
_MICROSECONDS: Final = 1_000_000


class BadPeriod(ValueError):
    """A period that cannot be cut into buckets; the message says why."""


def deltas(facts: Iterable[Fact]) -> list[RollupDelta]:
    """What each minute's total of each metric grows by, in the order of minute and metric.

    Summed exactly, in microseconds: the sum does not depend on the order of the facts.
    """
    totals: dict[tuple[datetime, Metric], list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for fact in facts:
        total = totals[fact.at.replace(second=0, microsecond=0), fact.metric]
        total[0] += fact.replaces is None
        total[1] += round((fact.value - (fact.replaced_value or 0.0)) * _MICROSECONDS)
        if fact.business_value is not None:
            total[2] += 1
            total[3] += round(fact.business_value * _MICROSECONDS)
    return [
        RollupDelta(
            metric=metric,
            minute=minute,
            count=count,
            sum=total / _MICROSECONDS,
            unit=METRICS[metric].unit,
            business_count=measured,
            business_sum=business / _MICROSECONDS,
        )
        for (minute, metric), (count, total, measured, business) in sorted(totals.items())
    ]


def starts(since: datetime, until: datetime, bucket: Bucket, zone: ZoneInfo) -> list[datetime]:
    """The starts (UTC) of the buckets that cut [since, until) at the local hours, days, Mondays or months of the zone.

    The first begins at `since`, the last ends at `until`; together they cover the period without gap or overlap.
    A day of a clock change has 23 or 25 hours. Raises BadPeriod when there would be more than MAX_BUCKETS.
    """
    found = [since.astimezone(UTC)]
    edge = first_edge(since, bucket, zone)
    while edge < until:
        if edge > found[-1]:
            found.append(edge)
            if len(found) > MAX_BUCKETS:
                raise BadPeriod(f"more than {MAX_BUCKETS} buckets of one {bucket}: ask for a shorter period")
        edge = _next_edge(edge, bucket, zone)
    return found


def resolution(edges: Sequence[datetime]) -> Resolution:
    """The coarsest roll-up whose rows never straddle one of these edges (whole minutes, UTC)."""
    if any(edge.minute for edge in edges):
        return "minute"
    if any(edge.hour for edge in edges):
        return "hour"
    return "day" if any(edge.day > 1 for edge in edges) else "month"


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a period, [since, until), that the roll-ups of one resolution cover; None: only facts do."""

    resolution: Resolution | None
    since: datetime
    until: datetime


_COARSEST_FIRST: Final[tuple[Resolution, ...]] = ("month", "day", "hour", "minute")


def pieces(since: datetime, until: datetime) -> list[Piece]:
    """[since, until) (UTC) in pieces without gap or overlap, in order: whole months, what is left in whole days, and so on.

    At most nine: whatever the period, few rows are added up.
    """
    return _pieces(since.astimezone(UTC), until.astimezone(UTC), _COARSEST_FIRST)


def _pieces(since: datetime, until: datetime, resolutions: Sequence[Resolution]) -> list[Piece]:
    if since >= until:
        return []
    if not resolutions:
        return [Piece(None, since, until)]
    coarsest, *finer = resolutions
    first, last = floor(since, coarsest), floor(until, coarsest)
    if first < since:
        first = _following(first, coarsest)
    if first >= last:
        return _pieces(since, until, finer)
    return [*_pieces(since, first, finer), Piece(coarsest, first, last), *_pieces(last, until, finer)]


def floor(moment: datetime, resolution: Resolution) -> datetime:
    """The start of the minute, hour, day or month, of UTC."""
    start = moment.replace(second=0, microsecond=0)
    if resolution != "minute":
        start = start.replace(minute=0)
    if resolution in ("day", "month"):
        start = start.replace(hour=0)
    return start.replace(day=1) if resolution == "month" else start


def _following(start: datetime, resolution: Resolution) -> datetime:
    if resolution == "month":
        return (start + timedelta(days=32)).replace(day=1)
    return start + {"minute": timedelta(minutes=1), "hour": timedelta(hours=1), "day": timedelta(days=1)}[resolution]


def first_edge(since: datetime, bucket: Bucket, zone: ZoneInfo) -> datetime:
    local = since.astimezone(zone)
    if bucket == "hour":
        # Hours are cut on the time line, not on the wall clock, which shows one of them twice in autumn.
        return (
            since - timedelta(minutes=local.minute, seconds=local.second, microseconds=local.microsecond)
        ).astimezone(UTC)
    day = local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0)
    if bucket == "week":
        day -= timedelta(days=day.weekday())
    if bucket == "month":
        day = day.replace(day=1)
    return day.astimezone(UTC)


def _next_edge(edge: datetime, bucket: Bucket, zone: ZoneInfo) -> datetime:
    if bucket == "hour":
        return edge + timedelta(hours=1)
    local = edge.astimezone(zone)
    # Where midnight does not exist (a clock change at 0:00) the edge reads 1:00 local: the date is what counts.
    day = local.replace(hour=0, minute=0, fold=0)
    if bucket == "month":
        day = (day.replace(day=1) + timedelta(days=32)).replace(day=1)
    else:
        day += timedelta(days=7 if bucket == "week" else 1)
    return day.astimezone(UTC)

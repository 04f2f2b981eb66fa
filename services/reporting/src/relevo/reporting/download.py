"""HTTP: every report as a file. CSV as RFC 4180 says, facts as Parquet, too; written while it is read, whatever its size."""

import csv
import io
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse
from sqlalchemy import text
from starlette.requests import Request

from relevo.chassis.database import Database, Tx
from relevo.chassis.http import Db
from relevo.chassis.labels import labels
from relevo.chassis.problems import Language, language_of
from relevo.contracts.metrics import METRICS, Metric
from relevo.reporting import store
from relevo.reporting.api import (
    Chosen,
    MetricSummary,
    SeriesPoint,
    edges_of,
    series_points,
    summarised,
    told_by,
    with_label,
    zone_of,
)
from relevo.reporting.domain.files import (
    FACT_COLUMNS,
    Cell,
    fact_row,
    harmless,
    headings,
    local,
    name_of,
    rate_name,
    read_out,
    share_unit,
    unit_of,
)
from relevo.reporting.domain.rollup import Bucket
from relevo.reporting.groups import grouped
from relevo.reporting.heat import HeatCell, heat_cells, spans_of
from relevo.reporting.rates import rates_of
from relevo.reporting.totals import By

router = APIRouter(prefix="/reports", tags=["reports"])

PAGE: Final = 1000
_CSV: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "CSV, UTF-8, with a line of headings.",
        "content": {"text/csv": {"schema": {"type": "string"}}},
    }
}
_PARQUET: Final = "application/vnd.apache.parquet"
_CSV_OR_PARQUET: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "CSV, UTF-8, with a line of headings; or Parquet.",
        "content": {
            **_CSV[200]["content"],
            _PARQUET: {"schema": {"type": "string", "contentMediaType": _PARQUET}},
        },
    }
}
_NAMES = text(
    """
    select id, state ->> 'name' as name from directory
    where account_id = :account and kind = any(array['agent', 'team', 'inbox']) and id = any(cast(:ids as text[]))
    """
)


@dataclass(frozen=True, slots=True)
class Written:
    """How a file is written: in which language, with which mark and separator."""

    language: Language
    bom: bool
    delimiter: str

    def answer(self, lines: AsyncIterator[Iterable[Cell]], name: str) -> StreamingResponse:
        """The lines as a CSV file that nobody holds in memory."""
        return StreamingResponse(
            self._chunks(lines),
            media_type="text/csv; charset=utf-8",
            headers={"Content-Disposition": f'attachment; filename="{name}.csv"'},
        )

    async def _chunks(self, lines: AsyncIterator[Iterable[Cell]]) -> AsyncIterator[bytes]:
        buffer = io.StringIO()
        writer = csv.writer(buffer, delimiter=self.delimiter, lineterminator="\r\n")
        if self.bom:
            buffer.write("\ufeff")
        async for line in lines:
            writer.writerow([harmless(cell) for cell in line])
            if buffer.tell() >= 64 * 1024:
                yield buffer.getvalue().encode()
                buffer.seek(0)
                buffer.truncate()
        yield buffer.getvalue().encode()


async def _written(
    request: Request,
    *,
    bom: Annotated[bool, Query(description="Begin with a byte-order mark, so that Excel reads the accents.")] = False,
    delimiter: Annotated[
        Literal["comma", "semicolon"], Query(description="Excel in Spanish reads `semicolon`.")
    ] = "comma",
) -> Written:
    return Written(language_of(request), bom, "," if delimiter == "comma" else ";")


Writing = Annotated[Written, Depends(_written)]
Zone = Annotated[ZoneInfo, Depends(zone_of)]


@router.get("/summary/file", response_class=StreamingResponse, responses=_CSV)
async def download_summary(chosen: Chosen, db: Db, writing: Writing) -> StreamingResponse:
    """The summary as CSV: a line a metric, seconds as numbers, the mean also as hours, minutes and seconds; and a line a rate, whose mean is the share."""
    async with db.begin() as tx:
        chosen, *_ = await with_label(tx, chosen)
        metrics = await summarised(tx, chosen, writing.language)
    names = ("metric", "code", "unit", "count", "sum", "mean", "mean_read", "median", "p90", "p95")

    async def lines() -> AsyncIterator[Iterable[Cell]]:
        yield headings(names, writing.language)
        for one in metrics:
            what = (name_of(one.metric, writing.language), one.metric, unit_of(one.metric, writing.language))
            yield (*what, one.count, _number(one, one.sum), *_mean(one), one.median, one.p90, one.p95)
        for rate in rates_of(metrics, writing.language):
            named = (rate_name(rate.rate, writing.language), rate.rate, share_unit(writing.language))
            yield (*named, rate.whole, rate.part, rate.share, None, None, None, None)

    return writing.answer(lines(), _named("summary", chosen))


@router.get("/series/file", response_class=StreamingResponse, responses=_CSV)
async def download_series(
    *, chosen: Chosen, db: Db, metric: Metric, bucket: Bucket, zone: Zone, writing: Writing
) -> StreamingResponse:
    """A series as CSV: a line a bucket, empty ones too; times in the zone that the heading names."""
    edges = edges_of(chosen, bucket, zone)
    told_by(chosen, metric)
    async with db.begin() as tx:
        chosen, *_ = await with_label(tx, chosen)
        points = await series_points(tx, chosen, metric, edges)

    async def lines() -> AsyncIterator[Iterable[Cell]]:
        first, *rest = headings(("start", "count", "sum", "mean", "mean_read"), writing.language, zone)
        yield first, name_of(metric, writing.language), *rest[1:]
        for point in points:
            yield local(point.start, zone), *_figures(metric, point)

    return writing.answer(lines(), _named(f"series-{metric}", chosen))


@router.get("/heatmap/file", response_class=StreamingResponse, responses=_CSV)
async def download_heatmap(
    *, chosen: Chosen, db: Db, metric: Metric, zone: Zone, writing: Writing
) -> StreamingResponse:
    """The heat map as CSV: a line an hour of the week, empty ones too; weekdays from 1, Monday, to 7."""
    found = spans_of(chosen, zone)
    told_by(chosen, metric)
    async with db.begin() as tx:
        chosen, *_ = await with_label(tx, chosen)
        cells = await heat_cells(tx, chosen, metric, found)

    async def lines() -> AsyncIterator[Iterable[Cell]]:
        weekday, hour, hours, *rest = headings(
            ("weekday", "hour", "hours", "sum", "mean", "mean_read"), writing.language, zone
        )
        yield weekday, hour, hours, name_of(metric, writing.language), *rest
        for cell in cells:
            yield cell.weekday, cell.hour, cell.hours, *_figures(metric, cell)

    return writing.answer(lines(), _named(f"heatmap-{metric}", chosen))


@router.get("/groups/file", response_class=StreamingResponse, responses=_CSV)
async def download_groups(
    *, chosen: Chosen, db: Db, by: Annotated[By, Query(description="What they are grouped by.")], writing: Writing
) -> StreamingResponse:
    """The groups as CSV: a line an agent, team, inbox, channel or label; of times how many, mean and median in seconds."""
    async with db.begin() as tx:
        groups, _ = await grouped(tx, chosen, by, writing.language)
    told = [one.metric for one in groups[0].metrics] if groups else []
    rated = [one.rate for one in groups[0].rates] if groups else []

    async def lines() -> AsyncIterator[Iterable[Cell]]:
        count, mean, median = headings(("count", "mean", "median"), writing.language)
        first: list[Cell] = [*headings(("name", "id"), writing.language)]
        for metric in told:
            name = name_of(metric, writing.language)
            measured = METRICS[metric].unit != "count"
            first += [f"{name}: {what}" for what in (count, mean, median)] if measured else [name]
        yield first + [rate_name(rate, writing.language) for rate in rated]
        for group in groups:
            line: list[Cell] = [group.name, group.key]
            for one in group.metrics:
                line += [one.count, one.mean, one.median] if one.unit != "count" else [one.count]
            yield line + [one.share for one in group.rates]

    return writing.answer(lines(), _named(f"by-{by}", chosen))


@router.get("/facts/file", response_class=StreamingResponse, responses=_CSV_OR_PARQUET)
async def download_facts(
    *,
    chosen: Chosen,
    db: Db,
    metric: Metric,
    zone: Zone,
    writing: Writing,
    written_as: Annotated[
        Literal["csv", "parquet"],
        Query(alias="format", description="`parquet`: columns with types, ids beside names, times in UTC."),
    ] = "csv",
) -> StreamingResponse:
    """All facts of a metric, in the order in which they happened, however many: some pages are in memory at a time."""
    told_by(chosen, metric)
    async with db.begin() as tx:
        chosen, *_ = await with_label(tx, chosen)
    if written_as == "parquet":
        from relevo.reporting import parquet  # noqa: PLC0415  (48 MB, for who asks for it)

        name = _named(f"facts-{metric}", chosen)
        return StreamingResponse(
            parquet.written(_facts(db, chosen, metric)),
            media_type=_PARQUET,
            headers={"Content-Disposition": f'attachment; filename="{name}.parquet"'},
        )

    async def lines() -> AsyncIterator[Iterable[Cell]]:
        yield headings(FACT_COLUMNS, writing.language, zone)
        async for fact, names in _facts(db, chosen, metric):
            yield fact_row(fact, names, zone, business_hours=chosen.business_hours)

    return writing.answer(lines(), _named(f"facts-{metric}", chosen))


async def _facts(db: Database, chosen: store.Selection, metric: Metric) -> AsyncIterator[tuple[Any, dict[str, str]]]:
    """A page at a time, each read in a transaction of its own: whoever reads slowly holds nothing."""
    place: tuple[datetime, str] | None = None
    while True:
        async with db.begin() as tx:
            facts = await store.page(tx, chosen, metric, after=place, limit=PAGE)
            names = await _names_in(tx, chosen.account_id, facts)
        for fact in facts:
            yield fact, names
        if len(facts) < PAGE:
            return
        place = facts[-1].at, facts[-1].fact_id


async def _names_in(tx: Tx, account_id: str, facts: list[Any]) -> dict[str, str]:
    ids = {
        id_ for fact in facts for id_ in (fact.dimensions.agent_id, fact.dimensions.team_id, fact.dimensions.inbox_id)
    }
    rows = await tx.execute(_NAMES, {"account": account_id, "ids": sorted(ids - {None})})
    names = {row.id: row.name for row in rows}
    keys = {key for fact in facts for key in fact.dimensions.labels}
    if keys:
        known = await labels(tx, account_id)
        names |= {f"label:{key}": known.name(key) for key in keys}
    return names


def _figures(metric: Metric, one: SeriesPoint | HeatCell) -> tuple[Cell, Cell, Cell, Cell]:
    """Count, sum, mean, and the mean read out."""
    unit = METRICS[metric].unit
    if unit == "count":
        return one.count, int(one.sum), None, None
    return one.count, one.sum, one.mean, read_out(one.mean) if unit == "seconds" else None


def _mean(one: MetricSummary) -> tuple[Cell, Cell]:
    return one.mean, read_out(one.mean) if one.unit == "seconds" else None


def _number(one: MetricSummary, value: float) -> Cell:
    return int(value) if one.unit == "count" else value


def _named(what: str, chosen: store.Selection) -> str:
    return f"{what}-{chosen.since:%Y%m%d}-{chosen.until:%Y%m%d}"

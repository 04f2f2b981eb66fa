"""HTTP: a metric by weekday and hour."""

from typing import Annotated
from zoneinfo import ZoneInfo

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from relevo.chassis.database import Tx
from relevo.chassis.http import Db
from relevo.contracts.base import Time
from relevo.contracts.metrics import METRICS, Metric, Unit
from relevo.reporting import store
from relevo.reporting.api import Chosen, bad_query, told_by, whole_minutes, with_label, zone_of
from relevo.reporting.domain.rollup import BadPeriod
from relevo.reporting.domain.week import CELLS, Span, hours, resolution, spans

router = APIRouter(prefix="/reports", tags=["reports"])


class HeatCell(BaseModel):
    """One hour of the week, on the clock on the wall: all of them in the period together. `mean` is null when nothing happened."""

    weekday: int = Field(ge=1, le=7, description="1 Monday to 7 Sunday.")
    hour: int = Field(ge=0, le=23)
    hours: float = Field(
        description="How many hours of the period these are: to tell a period's five Mondays from four, an hour that a "
        "clock change made twice, or left out, from any other. 0: the period has none, no data."
    )
    count: int
    sum: float
    mean: float | None = None


class HeatMap(BaseModel):
    """One metric over [since, until), by weekday and hour; all 168 are there, Monday at 0:00 first."""

    metric: Metric
    unit: Unit
    since: Time
    until: Time
    tz: str
    cells: list[HeatCell] = Field(min_length=CELLS, max_length=CELLS)


@router.get("/heatmap")
async def read_heatmap(chosen: Chosen, db: Db, metric: Metric, zone: Annotated[ZoneInfo, Depends(zone_of)]) -> HeatMap:
    """One metric by weekday and hour of a real time zone; since and until must be whole minutes, ten years apart at most."""
    found = spans_of(chosen, zone)
    told_by(chosen, metric)
    async with db.begin() as tx:
        chosen, *_ = await with_label(tx, chosen)
        cells = await heat_cells(tx, chosen, metric, found)
    return HeatMap(
        metric=metric,
        unit=METRICS[metric].unit,
        since=chosen.since,
        until=chosen.until,
        tz=zone.key,
        cells=cells,
    )


def spans_of(chosen: store.Selection, zone: ZoneInfo) -> list[Span]:
    """The period, cut where the zone's clocks are changed. Raises Problem 422."""
    whole_minutes(chosen)
    try:
        return spans(chosen.since, chosen.until, zone)
    except BadPeriod:
        raise bad_query(
            "until",
            es="El periodo es demasiado largo: diez años como mucho.",
            en="The period is too long: ten years at most.",
        ) from None


async def heat_cells(tx: Tx, chosen: store.Selection, metric: Metric, found: list[Span]) -> list[HeatCell]:
    """Each hour of the week, empty ones too."""
    filled = {row.number: row for row in await store.week(tx, chosen, metric, found, resolution(found))}
    return [
        HeatCell(
            weekday=cell // 24 + 1,
            hour=cell % 24,
            hours=length,
            count=row.count if (row := filled.get(cell)) else 0,
            sum=row.sum if row else 0.0,
            mean=row.sum / row.count if row else None,
        )
        for cell, length in enumerate(hours(found))
    ]

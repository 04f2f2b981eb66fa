"""HTTP: one metric by two things at once, such as labels across inboxes."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Annotated, Any, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlalchemy import ColumnElement, Select, func, select, true, union_all
from starlette.requests import Request

from relevo.chassis.database import Tx
from relevo.chassis.http import Db
from relevo.chassis.labels import labels
from relevo.chassis.problems import language_of
from relevo.contracts.base import Time
from relevo.contracts.metrics import BUSINESS_TIMES, METRICS, Metric, Unit
from relevo.reporting import tables
from relevo.reporting.api import Chosen, bad_query, definition_of, told_by, with_label
from relevo.reporting.domain.rollup import Piece, pieces
from relevo.reporting.groups import names_of
from relevo.reporting.labelled import labels_of_facts
from relevo.reporting.store import Selection, value_of, where
from relevo.reporting.totals import By, key_of

router = APIRouter(prefix="/reports", tags=["reports"])

MAX_PAIRS: Final = 5000


class Pair(BaseModel):
    """What both had, as they were when it happened. A key null: nobody's, or none; asked for as `none`."""

    by_key: str | None
    by_name: str
    across_key: str | None
    across_name: str
    count: int
    unmeasured: int = Field(description="With business hours only: how many of them no calendar measured.")
    sum: float
    mean: float | None


class Pairs(BaseModel):
    """By both names; pairs with nothing in the period are left out. With `more`, the five thousand that count most."""

    since: Time
    until: Time
    metric: Metric
    definition: str = Field(description="When there is one, in the reader's language.")
    unit: Unit
    by: By
    across: By
    pairs: list[Pair] = Field(max_length=MAX_PAIRS)
    more: bool = False


@dataclass(frozen=True, slots=True)
class _Row:
    by: str | None
    across: str | None
    happened: int
    n: int
    total: Decimal


@router.get("/pairs")
async def read_pairs(
    *,
    chosen: Chosen,
    db: Db,
    request: Request,
    metric: Metric,
    by: Annotated[By, Query(description="The rows.")],
    across: Annotated[By, Query(description="The columns: something else than the rows.")],
) -> Pairs:
    """One metric for each pair of agents, teams, inboxes, channels or labels, as they were when it happened.

    By label, what has several counts for each, and what has none is left out.
    """
    if by == across:
        raise bad_query("across", es="Elige otra cosa que en «by».", en="Choose something else than for `by`.")
    told_by(chosen, metric, by, across)
    language = language_of(request)
    async with db.begin() as tx:
        chosen, *_ = await with_label(tx, chosen)
        rows = await read(tx, chosen, metric, by, across)
        called = [
            await names_of(tx, chosen.account_id, one, {key for key in keys if key}, language)
            for one, keys in ((by, {row.by for row in rows}), (across, {row.across for row in rows}))
        ]
    rows.sort(key=lambda row: (-row.happened, row.by or "", row.across or ""))
    found = [
        Pair(
            by_key=row.by,
            by_name=called[0][row.by],
            across_key=row.across,
            across_name=called[1][row.across],
            count=row.n,
            unmeasured=row.happened - row.n,
            sum=float(row.total),
            mean=round(float(row.total / row.n), 6) if row.n and METRICS[metric].unit != "count" else None,
        )
        for row in rows[:MAX_PAIRS]
    ]
    found.sort(key=_place)
    return Pairs(
        since=chosen.since,
        until=chosen.until,
        metric=metric,
        definition=definition_of(metric, language),
        unit=METRICS[metric].unit,
        by=by,
        across=across,
        pairs=found,
        more=len(rows) > MAX_PAIRS,
    )


def _place(pair: Pair) -> tuple[Any, ...]:
    """By name, the nameless last."""
    rows = pair.by_key is None, pair.by_name.casefold(), pair.by_key or ""
    return *rows, pair.across_key is None, pair.across_name.casefold(), pair.across_key or ""


async def read(tx: Tx, chosen: Selection, metric: Metric, by: By, across: By) -> list[_Row]:
    """What every pair has of a metric; from the facts where labels are asked for, else from roll-ups."""
    if "label" in {by, across} or chosen.labels is not None:
        merged = (await labels(tx, chosen.account_id)).merged if "label" in {by, across} else {}
        statement = _of_facts(chosen, metric, (by, across), merged)
    else:
        statement = _of_rollups(chosen, metric, (by, across))
    return [
        _Row(row.by, row.across, row.happened, row.n, row.total or Decimal(0)) for row in await tx.execute(statement)
    ]


def _of_rollups(chosen: Selection, metric: Metric, keys: Iterable[By]) -> Select[Any]:
    keys = tuple(keys)
    each = [_piece(chosen, piece, metric, keys) for piece in pieces(chosen.since, chosen.until)]
    part = union_all(*each).subquery().c
    sums = [func.sum(part[name]).label(name) for name in ("happened", "n", "total")]
    return select(part.by, part.across, *sums).group_by(part.by, part.across).having(func.sum(part.happened) > 0)


def _piece(chosen: Selection, piece: Piece, metric: Metric, keys: tuple[By, ...]) -> Select[Any]:
    within = replace(chosen, since=piece.since, until=piece.until)
    business = chosen.business_hours and metric in BUSINESS_TIMES
    if piece.resolution is None:
        f = tables.facts.c
        value = value_of(chosen)
        return _counted(f, [*where(f, f.at, within), f.replaced.is_(False)], metric, keys, value)
    c = tables.rollups[piece.resolution].c
    by, across = (key_of(c, one) for one in keys)
    n, total = ("business_count", "business_sum") if business else ("count", "sum")
    return (
        select(
            by.label("by"),
            across.label("across"),
            func.sum(c["count"]).label("happened"),
            func.sum(c[n]).label("n"),
            func.sum(c[total]).label("total"),
        )
        .where(*where(c, c.bucket, within), c.metric == metric)
        .group_by(by, across)
    )


def _counted(
    c: Any, conditions: list[ColumnElement[bool]], metric: Metric, keys: tuple[By, ...], value: ColumnElement[Any]
) -> Select[Any]:
    by, across = (c.label if one == "label" else key_of(c, one) for one in keys)
    return (
        select(
            by.label("by"),
            across.label("across"),
            func.count().label("happened"),
            func.count(value).label("n"),
            func.sum(value).label("total"),
        )
        .where(*conditions, c.metric == metric)
        .group_by(by, across)
    )


def _of_facts(chosen: Selection, metric: Metric, keys: tuple[By, ...], merged: dict[str, str]) -> Select[Any]:
    f = tables.facts.c
    conditions = [*where(f, f.at, chosen), f.replaced.is_(False), f.metric == metric]
    if "label" not in keys:
        return _counted(f, conditions, metric, keys, value_of(chosen))
    also = [key_of(f, one).name for one in keys if one != "label"]
    c = labels_of_facts(conditions, chosen.since, merged, also).c
    return _counted(c, [true()], metric, keys, value_of(chosen, c))

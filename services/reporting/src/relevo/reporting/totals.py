"""How many, how much, and how spread: of an account, or of each agent, team, inbox, channel or label.

Numbers and sums are exact. They come from the coarsest roll-ups that fit into the period, from the facts only where a label
is asked for, which no roll-up knows. Percentiles are exact up to EXACT_UP_TO facts; of more they are told from some of them,
the same ones each time, and said to be estimated (docs/adr/0046).
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any, Final, Literal

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    Double,
    RowMapping,
    Select,
    and_,
    case,
    func,
    literal,
    literal_column,
    null,
    or_,
    select,
    true,
    tuple_,
    type_coerce,
    union_all,
)

from relevo.chassis.database import Tx
from relevo.contracts.metrics import BUSINESS_TIMES, METRICS, Metric
from relevo.reporting import tables
from relevo.reporting.domain.rollup import Piece, pieces
from relevo.reporting.labelled import labels_of_facts
from relevo.reporting.store import Selection, value_of, where

By = Literal["agent", "team", "inbox", "channel", "label"]
Quantiles = tuple[float, float, float] | tuple[None, None, None]

EXACT_UP_TO: Final = 250_000
"""Facts of which percentiles are exact; of more, about so many are looked at."""

_SAMPLED: Final = 64
_BYTES: Final = 256
_SHARE: Final = "get_byte(uuid_send(facts.fact_id), 15) < {}"
"""The last byte of a fact's id, which is of a digest. The index facts_sampled has those below 64."""

_QUANTILES: Final = (0.5, 0.9, 0.95)
_EVERY: Final = sorted(METRICS)
"""Said in so many words, since in every index the metric stands before the moment."""

_MEASURED: Final = sorted(metric for metric, definition in METRICS.items() if definition.unit != "count")


@dataclass(frozen=True, slots=True)
class MetricRow:
    """One metric, of one group where there are groups (`key` None: nobody's), or of one of its states."""

    metric: Metric
    state: str | None
    count: int
    unmeasured: int
    sum: float
    mean: float | None
    quantiles: Quantiles
    key: str | None = None
    estimated: bool = False


async def read(
    tx: Tx, selection: Selection, by: By | None = None, merged: dict[str, str] | None = None
) -> list[MetricRow]:
    """Count, sum, mean and quantiles (median, 90 %, 95 %) of each metric, in each group; without groups by state, too.

    ``merged``, by label: what labels that were merged have become.
    """
    if selection.labels is not None or by == "label":
        rows = (await tx.execute(_of_facts(selection, by, merged or {}))).mappings()
        return [_row(row, row["happened"], row["n"], row["total"], row["quantiles"]) for row in rows]
    found = (await tx.execute(_of_rollups(selection, by))).mappings().all()
    measured = sum(row["count"] for row in found if row["metric"] in _MEASURED)
    share = _share(int(measured))
    spread = {
        (row["key"], row["metric"]): row["quantiles"]
        for row in (await tx.execute(_spread(selection, by, share))).mappings()
        if row["quantiles"] is not None
    }
    return list(_added_up(found, selection, spread, by=by, estimated=share is not None))


def _share(measured: int) -> int | None:
    """How many of 256 facts percentiles are told from; None: from all."""
    if measured <= EXACT_UP_TO:
        return None
    return min(_SAMPLED, max(1, EXACT_UP_TO * _BYTES // measured))


def _key(columns: Any, by: By | None) -> ColumnElement[Any]:
    return null() if by is None else key_of(columns, by)


def key_of(columns: Any, by: By) -> ColumnElement[Any]:
    """The column, of facts or roll-ups, that says whose it was; labels have none."""
    found: ColumnElement[Any] = columns["channel" if by == "channel" else f"{by}_id"]
    return found


def _of_rollups(selection: Selection, by: By | None) -> Select[Any]:
    part = union_all(*(_piece(selection, piece, by) for piece in pieces(selection.since, selection.until))).subquery()
    totals = (func.sum(part.c[name]).label(name) for name in ("count", "sum", "business_count", "business_sum"))
    return (
        select(part.c.key, part.c.metric, part.c.state, *totals)
        .group_by(part.c.key, part.c.metric, part.c.state)
        .having(func.sum(part.c["count"]) > 0)
    )


def _piece(selection: Selection, piece: Piece, by: By | None) -> Select[Any]:
    """The totals of one piece. Each is added up by itself: only of a table does the planner know how few groups there are."""
    within = replace(selection, since=piece.since, until=piece.until)
    c: Any
    if piece.resolution is None:
        c = tables.facts.c
        conditions = [*where(c, c.at, within), c.replaced.is_(False)]
        sums = [func.count(), func.sum(c.value), func.count(c.business_value), func.sum(c.business_value)]
    else:
        c = tables.rollups[piece.resolution].c
        conditions = where(c, c.bucket, within)
        sums = [func.sum(c[name]) for name in ("count", "sum", "business_count", "business_sum")]
    named = (
        found.label(name) for found, name in zip(sums, ("count", "sum", "business_count", "business_sum"), strict=True)
    )
    key = _key(c, by)
    return (
        select(key.label("key"), c.metric, c.state, *named)
        .where(*conditions, c.metric.in_(_EVERY))
        .group_by(*(() if by is None else (key,)), c.metric, c.state)
    )


def _spread(selection: Selection, by: By | None, share: int | None) -> Select[Any]:
    f = tables.facts.c
    conditions = [*where(f, f.at, selection), f.replaced.is_(False), f.metric.in_(_MEASURED)]
    if share is not None:
        # Both: by the first the planner knows that the index serves.
        conditions += [literal_column(_SHARE.format(_SAMPLED)), literal_column(_SHARE.format(share))]
    key = _key(f, by).label("key")
    grouped = (f.metric,) if by is None else (key, f.metric)
    return select(key, f.metric, _quantiles(value_of(selection))).where(and_(*conditions)).group_by(*grouped)


def _quantiles(value: ColumnElement[Any]) -> ColumnElement[Any]:
    shares = literal(list(_QUANTILES), ARRAY(Double))
    found = type_coerce(func.percentile_cont(shares).within_group(value), ARRAY(Double))
    return found.label("quantiles")


def _added_up(
    rows: Iterable[RowMapping],
    selection: Selection,
    spread: dict[tuple[str | None, str], Sequence[float]],
    *,
    by: By | None,
    estimated: bool,
) -> Iterable[MetricRow]:
    totals: dict[tuple[str | None, str], tuple[int, int, Decimal]] = {}
    for row in rows:
        business = selection.business_hours and row["metric"] in BUSINESS_TIMES
        happened = int(row["count"])
        n, total = (
            (int(row["business_count"]), row["business_sum"] or Decimal(0)) if business else (happened, row["sum"])
        )
        if by is None and row["state"] is not None:
            yield _row(row, happened, n, total, None)
        before = totals.get((row["key"], row["metric"]), (0, 0, Decimal(0)))
        totals[row["key"], row["metric"]] = before[0] + happened, before[1] + n, before[2] + total
    for (key, metric), (happened, n, total) in totals.items():
        known = spread.get((key, metric))
        found = _row({"key": key, "metric": metric, "state": None}, happened, n, total, known)
        yield replace(found, estimated=estimated and METRICS[found.metric].unit != "count")


def _row(named: Any, happened: int, n: int, total: Decimal | None, quantiles: Sequence[float] | None) -> MetricRow:
    total = total or Decimal(0)
    return MetricRow(
        metric=named["metric"],
        state=named["state"],
        count=n,
        unmeasured=happened - n,
        sum=float(total),
        mean=round(float(total / n), 6) if n else None,
        quantiles=(round(quantiles[0], 6), round(quantiles[1], 6), round(quantiles[2], 6))
        if quantiles is not None and n
        else (None, None, None),
        key=named["key"],
    )


def _of_facts(selection: Selection, by: By | None, merged: dict[str, str]) -> Select[Any]:
    """All of it from the facts, for labels. Only of what is measured is anything sorted."""
    f = tables.facts.c
    conditions = [*where(f, f.at, selection), f.replaced.is_(False)]
    if by == "label":
        source: Any = labels_of_facts(conditions, selection.since, merged)
        c, key, conditions = source.c, source.c.label, [true()]
    else:
        source, c, key = tables.facts, f, _key(f, by)
    value = value_of(selection, c)
    statement = (
        select(
            key.label("key"),
            c.metric,
            (c.state if by is None else null()).label("state"),
            func.count().label("happened"),
            func.count(value).label("n"),
            func.sum(value).label("total"),
            _quantiles(case((c.metric.in_(_MEASURED), value))),
        )
        .select_from(source)
        .where(*conditions)
    )
    if by is not None:
        return statement.group_by(key, c.metric)
    sets = func.grouping_sets(tuple_(c.metric), tuple_(c.metric, c.state))
    return statement.group_by(sets).having(or_(func.grouping(c.state) == 1, c.state.is_not(None)))

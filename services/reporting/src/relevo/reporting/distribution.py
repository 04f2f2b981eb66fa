"""HTTP: how many of a time were how long, in spans of one's own."""

from collections import defaultdict
from itertools import pairwise
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlalchemy import ARRAY, Double, Select, func, literal, null, select
from starlette.requests import Request

from relevo.chassis.database import Tx
from relevo.chassis.http import Db
from relevo.chassis.problems import language_of
from relevo.contracts.base import Time
from relevo.contracts.metrics import METRICS, Metric
from relevo.reporting import tables
from relevo.reporting.api import Chosen, bad_query, definition_of, told_by, with_label
from relevo.reporting.groups import MAX_GROUPS, names_of
from relevo.reporting.store import Selection, value_of, where
from relevo.reporting.totals import key_of

router = APIRouter(prefix="/reports", tags=["reports"])

HOUR: Final = 3600
EDGES: Final = (HOUR, 4 * HOUR, 8 * HOUR, 24 * HOUR)
"""Up to an hour, four, eight, a day, and longer."""

Whose = Literal["agent", "team", "inbox", "channel"]


class Distributed(BaseModel):
    """How many fell into each span, in their order. `key` null: the whole account; or, by something, what was nobody's."""

    key: str | None
    name: str
    count: int
    counts: list[int]


class Distribution(BaseModel):
    """`edges` are seconds: the first span ends before the first of them, the last begins with the last of them."""

    since: Time
    until: Time
    metric: Metric
    definition: str = Field(description="When there is one, in the reader's language.")
    edges: list[float]
    groups: list[Distributed] = Field(max_length=MAX_GROUPS)
    more: bool = False


@router.get("/distribution")
async def read_distribution(
    *,
    chosen: Chosen,
    db: Db,
    request: Request,
    metric: Metric,
    edges: Annotated[
        list[float] | None,
        Query(max_length=20, description="Where spans meet, in seconds, rising; else 1, 4, 8 and 24 hours."),
    ] = None,
    by: Annotated[Whose | None, Query(description="For each of these; else of the whole.")] = None,
) -> Distribution:
    """How many of a time (first response, resolution, …) took how long. With business hours only, what no calendar measured is
    left out.
    """
    told_by(chosen, metric)
    spans = tuple(edges or EDGES)
    if METRICS[metric].unit != "seconds":
        raise bad_query("metric", es="No es un tiempo: elige uno.", en="This is no time: choose one that is.")
    if spans[0] <= 0 or any(later <= earlier for earlier, later in pairwise(spans)):
        raise bad_query(
            "edges",
            es="Indica segundos mayores que cero, cada uno mayor que el anterior.",
            en="Give seconds above zero, rising.",
        )
    language = language_of(request)
    async with db.begin() as tx:
        chosen, *_ = await with_label(tx, chosen)
        found = await read(tx, chosen, metric, spans, by)
        names: dict[str | None, str] = {None: ""}
        if by is not None:
            names = await names_of(tx, chosen.account_id, by, {key for key in found if key}, language)
        elif not found:
            found[None] = [0] * (len(spans) + 1)
    groups = [Distributed(key=key, name=names[key], count=sum(n), counts=n) for key, n in found.items()]
    groups.sort(key=lambda group: (group.key is None, group.name.casefold(), group.key or ""))
    return Distribution(
        since=chosen.since,
        until=chosen.until,
        metric=metric,
        definition=definition_of(metric, language),
        edges=list(spans),
        groups=groups[:MAX_GROUPS],
        more=len(groups) > MAX_GROUPS,
    )


async def read(
    tx: Tx, chosen: Selection, metric: Metric, edges: tuple[float, ...], by: Whose | None
) -> dict[str | None, list[int]]:
    """How many lie in each span, by whose they are."""
    found: dict[str | None, list[int]] = defaultdict(lambda: [0] * (len(edges) + 1))
    for row in await tx.execute(_statement(chosen, metric, edges, by)):
        found[row.key][row.span] = row.n
    return dict(found)


def _statement(chosen: Selection, metric: Metric, edges: tuple[float, ...], by: Whose | None) -> Select[Any]:
    f = tables.facts.c
    value = value_of(chosen)
    span = func.width_bucket(value.cast(Double), literal(list(edges), ARRAY(Double))).label("span")
    key = (null() if by is None else key_of(f, by)).label("key")
    conditions = [*where(f, f.at, chosen), f.replaced.is_(False), f.metric == metric, value.is_not(None)]
    grouped = (span,) if by is None else (key, span)
    return select(key, span, func.count().label("n")).where(*conditions).group_by(*grouped)

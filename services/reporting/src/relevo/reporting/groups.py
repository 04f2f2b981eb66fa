"""HTTP: every metric beside one another for each agent, team, inbox, channel or label."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated, Final

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field
from sqlalchemy import text
from starlette.requests import Request

from relevo.chassis.database import Tx
from relevo.chassis.http import Db
from relevo.chassis.labels import labels
from relevo.chassis.problems import Language, language_of
from relevo.contracts.base import Time
from relevo.contracts.metrics import METRICS, UNLABELLED
from relevo.reporting import store, totals
from relevo.reporting.api import Chosen, MetricSummary, metric_summary, with_label
from relevo.reporting.rates import RateShown, rates_of
from relevo.reporting.totals import By

router = APIRouter(prefix="/reports", tags=["reports"])

MAX_GROUPS: Final = 2000

_NAMES = text(
    """
    select id, state ->> 'name' as name from directory
    where account_id = :account and kind = :kind and id = any(cast(:ids as text[]))
    """
)


class Group(BaseModel):
    """One agent, team, inbox, channel or label, with its numbers. `key` null: what was nobody's, or had
    none; asked for as `none`.
    """

    key: str | None
    name: str
    metrics: list[MetricSummary]
    rates: list[RateShown]


class Groups(BaseModel):
    """By name; of those that have any number in the period. With `more`, the first two thousand."""

    since: Time
    until: Time
    by: By
    groups: list[Group] = Field(max_length=MAX_GROUPS)
    more: bool = False


@router.get("/groups")
async def read_groups(
    chosen: Chosen, db: Db, request: Request, by: Annotated[By, Query(description="What they are grouped by.")]
) -> Groups:
    """Every metric for each agent, team, inbox, channel or label, as they were when it happened.

    By label, what has several counts for each; what has none is left out, and so are metrics that are not told by label.
    """
    language = language_of(request)
    async with db.begin() as tx:
        found, more = await grouped(tx, chosen, by, language)
    return Groups(since=chosen.since, until=chosen.until, by=by, groups=found, more=more)


async def grouped(tx: Tx, chosen: store.Selection, by: By, language: Language) -> tuple[list[Group], bool]:
    """The groups by name, the nameless one last; whether there are more than MAX_GROUPS."""
    chosen, *_ = await with_label(tx, chosen)
    merged = (await labels(tx, chosen.account_id)).merged if by == "label" else {}
    rows = await totals.read(tx, chosen, by, merged)
    names = await names_of(tx, chosen.account_id, by, {row.key for row in rows if row.key}, language)
    metrics: dict[str | None, list[totals.MetricRow]] = defaultdict(list)
    for row in rows:
        metrics[row.key].append(row)
    groups = []
    for key, some in metrics.items():
        told = _shown(some, by, language)
        groups.append(Group(key=key, name=names[key], metrics=told, rates=rates_of(told, language)))
    groups.sort(key=lambda group: (group.key is None, group.name.casefold(), group.key or ""))
    return groups[:MAX_GROUPS], len(groups) > MAX_GROUPS


async def names_of(tx: Tx, account_id: str, by: By, keys: set[str], language: Language) -> dict[str | None, str]:
    """Names as they are now; of those who left, as they were."""
    nobody = {
        "agent": ("Sin agente", "No agent"),
        "team": ("Sin equipo", "No team"),
        "inbox": ("Sin bandeja", "No inbox"),
        "channel": ("Sin canal", "No channel"),
        "label": ("Sin etiqueta", "No label"),
    }[by][0 if language == "es" else 1]
    names: dict[str | None, str] = {None: nobody, **{key: key for key in keys}}
    if by == "label":
        known = await labels(tx, account_id)
        names.update({key: known.name(key) for key in keys})
    elif by != "channel":
        rows = await tx.execute(_NAMES, {"account": account_id, "kind": by, "ids": sorted(keys)})
        names.update({row.id: row.name for row in rows})
    return names


def _shown(rows: Sequence[totals.MetricRow], by: By, language: Language) -> list[MetricSummary]:
    by_metric = {row.metric: row for row in rows}
    wanted = [metric for metric in METRICS if by != "label" or metric not in UNLABELLED]
    return [metric_summary(metric, by_metric.get(metric), None, language) for metric in wanted]

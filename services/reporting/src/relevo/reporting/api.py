"""HTTP: summaries and series; what every report is asked with."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Final, Literal
from uuid import UUID
from zoneinfo import ZoneInfo, available_timezones

from fastapi import APIRouter, Depends, Query
from pydantic import AwareDatetime, BaseModel, Field
from starlette.requests import Request

from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Tx
from relevo.chassis.http import Db
from relevo.chassis.labels import labels
from relevo.chassis.problems import FieldError, Language, Problem, language_of
from relevo.contracts.base import Time
from relevo.contracts.metrics import BY_LABEL, METRICS, UNLABELLED, Metric, Unit
from relevo.contracts.permissions import Permission
from relevo.kernel.text import clean
from relevo.reporting import store, totals
from relevo.reporting.domain import period
from relevo.reporting.domain.rollup import BadPeriod, Bucket, resolution, starts
from relevo.reporting.rates import RateShown, rates_of

router = APIRouter(prefix="/reports", tags=["reports"])

_BY_STATE: Final[frozenset[Metric]] = frozenset({"presence_seconds", "satisfaction"})
_ZONES: Final = frozenset(available_timezones())
_EARLIEST: Final = datetime(1900, 1, 1, tzinfo=UTC)
_LATEST: Final = datetime(3000, 1, 1, tzinfo=UTC)
"""Far from where the calendar ends: in every zone, and one period earlier, moments can still be told."""


class MetricSummary(BaseModel):
    """One metric over the period. Means, of seconds or of ratings, are exact, and so are quantiles unless they are estimated; null when nothing happened, and for counts."""

    metric: Metric
    definition: str = Field(description="When there is one, in the reader's language.")
    unit: Unit
    count: int
    sum: float
    mean: float | None = None
    median: float | None = None
    p90: float | None = None
    p95: float | None = None
    unmeasured: int = Field(default=0, description="Left out: with `business_hours`, those that no calendar measured.")
    estimated: bool = Field(
        default=False, description="The median and the percentiles are told from some of very many facts."
    )
    states: dict[str, float] | None = Field(
        default=None, description="presence_seconds: seconds in each state. satisfaction: how many gave each rating."
    )


class LabelShown(BaseModel):
    """The label that numbers are of, and what counts for one, in the reader's language."""

    key: str
    name: str
    definition: str


class Change(BaseModel):
    """By which part of itself each figure grew since: 0.25 is a quarter more. Null: it was nothing before, or is nothing now."""

    count: float | None
    sum: float | None
    mean: float | None
    median: float | None
    p90: float | None
    p95: float | None


class EarlierMetric(MetricSummary):
    """One metric over the period before, and the change from there to the period asked for."""

    change: Change


class Earlier(BaseModel):
    """Every metric over the period before, [since, until), in the order of the summary."""

    since: Time
    until: Time
    metrics: list[EarlierMetric]
    rates: list[RateShown]


class Summary(BaseModel):
    """Every metric over [since, until), by when things happened."""

    since: Time
    until: Time
    label: LabelShown | None = None
    metrics: list[MetricSummary]
    rates: list[RateShown]
    previous: Earlier | None = Field(default=None, description="With `compare`.")


class SeriesPoint(BaseModel):
    """One bucket: from `start` up to the next one's (the last: up to `until`). `mean` is null when it is empty."""

    start: Time
    count: int
    sum: float
    mean: float | None = None


class Series(BaseModel):
    """One metric over [since, until), cut at local hours, days, weeks or months; empty buckets are there too."""

    metric: Metric
    unit: Unit
    since: Time
    until: Time
    bucket: Bucket
    tz: str
    points: list[SeriesPoint]


def _reach(principal: Principal) -> store.Reach:
    """Whose facts: everybody's, those of one's teams and oneself, or one's own. The permissions do not imply each other."""
    if principal.can(Permission.REPORTS_ALL):
        return store.Reach(everything=True)
    agent_id = principal.viewer.agent_id
    if principal.can(Permission.REPORTS_TEAM):
        return store.Reach(team_ids=principal.viewer.team_ids, agent_id=agent_id)
    return store.Reach(agent_id=agent_id)


async def selection(
    *,
    who: Annotated[
        Principal, Depends(require(Permission.REPORTS_OWN, Permission.REPORTS_TEAM, Permission.REPORTS_ALL))
    ],
    since: Annotated[AwareDatetime, Query(description="Begin, RFC 3339; included.")],
    until: Annotated[AwareDatetime, Query(description="End, RFC 3339; excluded.")],
    agent_id: Annotated[UUID | Literal["none"] | None, Query(description="An id; `none`: what was nobody's.")] = None,
    team_id: Annotated[UUID | Literal["none"] | None, Query(description="An id; `none`: what was no team's.")] = None,
    inbox_id: Annotated[
        UUID | Literal["none"] | None, Query(description="An id; `none`: what was of no inbox.")
    ] = None,
    channel: Annotated[str | None, Query(max_length=100, description="`none`: what came by no channel.")] = None,
    business_hours: Annotated[
        bool,
        Query(
            description="Times count business hours only, by the calendar that counted when they happened; what was "
            "not measured so is left out. Counts and presence are the same either way."
        ),
    ] = False,
    label: Annotated[
        str | None, Query(min_length=1, max_length=60, description="A label's name or key; what counts for it: docs.")
    ] = None,
) -> store.Selection:
    for name, moment in (("since", since), ("until", until)):
        if not _EARLIEST <= moment <= _LATEST:
            raise bad_query(
                name, es="Debe estar entre los años 1900 y 3000.", en="Must be between the years 1900 and 3000."
            )
    if since >= until:
        raise bad_query(
            "until",
            es="Debe ser posterior a «since»; el instante «until» ya no entra en el periodo.",
            en="Must be later than `since`; the moment `until` itself is outside the period.",
        )
    return store.Selection(
        account_id=who.account_id,
        since=since.astimezone(UTC),
        until=until.astimezone(UTC),
        reach=_reach(who),
        agent_id=str(agent_id) if agent_id else None,
        team_id=str(team_id) if team_id else None,
        inbox_id=str(inbox_id) if inbox_id else None,
        channel=channel,
        business_hours=business_hours,
        labels=None if label is None else (label,),
    )


Chosen = Annotated[store.Selection, Depends(selection)]


async def with_label(tx: Tx, chosen: store.Selection) -> tuple[store.Selection, str, str]:
    """The same with all keys of the label that it is of, its key, and its name now."""
    if chosen.labels is None:
        return chosen, "", ""
    known = await labels(tx, chosen.account_id)
    key = known.key(clean(chosen.labels[0]))
    return replace(chosen, labels=tuple(known.all_of(key))), key, known.name(key)


def definition_of(metric: Metric, language: Language) -> str:
    """When there is one of a metric, in the reader's language."""
    _, es, en = METRICS[metric]
    return es if language == "es" else en


def told_by(chosen: store.Selection, metric: Metric, *by: totals.By) -> None:
    """Raises Problem 422 for a metric that is not told by label, when it is asked for one, or by them."""
    if (chosen.labels is not None or "label" in by) and metric in UNLABELLED:
        raise bad_query(
            "metric",
            es="Esta métrica no se mide por etiqueta: quita «label» o elige otra.",
            en="This metric is not told by label: leave `label` out, or choose another one.",
        )


def bad_query(name: str, *, es: str, en: str) -> Problem:
    return Problem(
        422,
        "validation_failed",
        es="Hay campos que corregir.",
        en="Some fields must be mended.",
        errors=(FieldError(f"/query/{name}", es=es, en=en),),
    )


async def zone_of(
    tz: Annotated[str, Query(max_length=100, description="IANA time zone, such as Europe/Madrid.")] = "UTC",
) -> ZoneInfo:
    if tz not in _ZONES:
        raise bad_query(
            "tz",
            es="No existe esa zona horaria: usa un nombre IANA como Europe/Madrid.",
            en="There is no such time zone: use an IANA name such as Europe/Madrid.",
        )
    return ZoneInfo(tz)


@router.get("/summary")
async def read_summary(
    *,
    chosen: Chosen,
    db: Db,
    request: Request,
    compare: Annotated[
        bool,
        Query(
            description="Also the period of the same length before it, and the change: of whole months of `tz` as many "
            "months, of whole days as many days, of anything else as many seconds."
        ),
    ] = False,
    zone: Annotated[ZoneInfo, Depends(zone_of)],
) -> Summary:
    """Each metric's definition, count, sum, mean, median, 90th and 95th percentile over the facts of the period.

    What a number is made of: `/reports/facts` lists every fact with its conversation and the event that caused it,
    `/reports/conversations` the conversations.
    """
    language = language_of(request)
    async with db.begin() as tx:
        chosen, key, name = await with_label(tx, chosen)
        metrics = await summarised(tx, chosen, language)
        previous = await _earlier(tx, chosen, zone, metrics, language) if compare else None
    return Summary(
        since=chosen.since,
        until=chosen.until,
        label=LabelShown(key=key, name=name, definition=BY_LABEL[language]) if key else None,
        metrics=metrics,
        rates=rates_of(metrics, language),
        previous=previous,
    )


async def summarised(tx: Tx, chosen: store.Selection, language: Language) -> list[MetricSummary]:
    """Every metric that is told of the selection, whose label has all its keys."""
    rows = await totals.read(tx, chosen)
    whole = {row.metric: row for row in rows if row.state is None}
    states: dict[str, dict[str, float]] = {}
    for row in rows:
        if row.state is not None:
            states.setdefault(row.metric, {})[row.state] = row.count if row.metric == "satisfaction" else row.sum
    return [
        metric_summary(metric, whole.get(metric), states.get(metric), language)
        for metric in METRICS
        if not (chosen.labels is not None and metric in UNLABELLED)
    ]


async def _earlier(
    tx: Tx, chosen: store.Selection, zone: ZoneInfo, metrics: list[MetricSummary], language: Language
) -> Earlier:
    since, until = period.before(chosen.since, chosen.until, zone)
    earlier = await summarised(tx, replace(chosen, since=since, until=until), language)
    return Earlier(
        since=since,
        until=until,
        metrics=[
            EarlierMetric(
                **dict(then),
                change=Change(
                    **{name: period.change(getattr(now, name), getattr(then, name)) for name in Change.model_fields}
                ),
            )
            for now, then in zip(metrics, earlier, strict=True)
        ],
        rates=rates_of(earlier, language),
    )


def metric_summary(
    metric: Metric, row: totals.MetricRow | None, states: dict[str, float] | None, language: Language
) -> MetricSummary:
    unit, definition = METRICS[metric].unit, definition_of(metric, language)
    if metric in _BY_STATE:
        states = states or {}
    if row is None:
        return MetricSummary(metric=metric, definition=definition, unit=unit, count=0, sum=0.0, states=states)
    if unit == "count":
        return MetricSummary(metric=metric, definition=definition, unit=unit, count=row.count, sum=row.sum)
    median, p90, p95 = row.quantiles
    return MetricSummary(
        metric=metric,
        definition=definition,
        unit=unit,
        count=row.count,
        sum=row.sum,
        mean=row.mean,
        median=median,
        p90=p90,
        p95=p95,
        unmeasured=row.unmeasured,
        estimated=row.estimated,
        states=states,
    )


def whole_minutes(chosen: store.Selection) -> None:
    """Raises Problem 422 for a period that roll-ups by the minute cannot tell."""
    for name in ("since", "until"):
        moment: datetime = getattr(chosen, name)
        if moment.second or moment.microsecond:
            raise bad_query(name, es="Debe ser un minuto exacto.", en="Must be a whole minute.")


def edges_of(chosen: store.Selection, bucket: Bucket, zone: ZoneInfo) -> list[datetime]:
    """Where a series is cut. Raises Problem 422."""
    whole_minutes(chosen)
    try:
        return starts(chosen.since, chosen.until, bucket, zone)
    except BadPeriod:
        raise bad_query(
            "bucket",
            es="El periodo tiene demasiados tramos: acórtalo o elige tramos mayores.",
            en="The period has too many buckets: shorten it or choose larger ones.",
        ) from None


async def series_points(tx: Tx, chosen: store.Selection, metric: Metric, edges: list[datetime]) -> list[SeriesPoint]:
    """Each bucket, empty ones too."""
    rows = await store.series(tx, chosen, metric, edges, resolution([*edges, chosen.until]))
    filled = {row.number: row for row in rows}
    return [
        SeriesPoint(start=edge, count=row.count, sum=row.sum, mean=row.sum / row.count)
        if (row := filled.get(number))
        else SeriesPoint(start=edge, count=0, sum=0.0)
        for number, edge in enumerate(edges)
    ]


@router.get("/series")
async def read_series(
    chosen: Chosen, db: Db, metric: Metric, bucket: Bucket, zone: Annotated[ZoneInfo, Depends(zone_of)]
) -> Series:
    """One metric by hour, day, week or month of a real time zone; since and until must be whole minutes."""
    edges = edges_of(chosen, bucket, zone)
    told_by(chosen, metric)
    async with db.begin() as tx:
        chosen, *_ = await with_label(tx, chosen)
        points = await series_points(tx, chosen, metric, edges)
    return Series(
        metric=metric,
        unit=METRICS[metric].unit,
        since=chosen.since,
        until=chosen.until,
        bucket=bucket,
        tz=zone.key,
        points=points,
    )

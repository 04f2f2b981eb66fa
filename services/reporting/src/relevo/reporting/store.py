"""All SQL of reporting."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy import (
    ARRAY,
    ColumnElement,
    DateTime,
    Interval,
    Row,
    case,
    extract,
    false,
    func,
    literal,
    or_,
    select,
    text,
    tuple_,
)

from relevo.chassis.database import Tx
from relevo.contracts.metrics import BUSINESS_TIMES, METRICS, Dimensions, Fact, Metric
from relevo.reporting import tables
from relevo.reporting.domain.rollup import Resolution
from relevo.reporting.domain.week import Span
from relevo.reporting.labelled import labelled

_ROLLUP = """
    {name}s as (
        insert into rollup_{name} as r
            (account_id, metric, bucket, agent_id, team_id, inbox_id, channel, state, count, sum,
             business_count, business_sum)
        select account_id, metric, date_trunc('{name}', at, 'UTC'), agent_id, team_id, inbox_id, channel, state,
               count(*), sum(value), count(business_value), coalesce(sum(business_value), 0)
        from fresh group by 1, 2, 3, 4, 5, 6, 7, 8 order by 1, 2, 3, 4, 5, 6, 7, 8
        on conflict (account_id, metric, bucket, agent_id, team_id, inbox_id, channel, state)
        do update set count = r.count + excluded.count, sum = r.sum + excluded.sum,
            business_count = r.business_count + excluded.business_count,
            business_sum = r.business_sum + excluded.business_sum
    )
"""

# One statement: facts that are new, and the roll-ups grown by exactly those. The rows of the roll-ups are locked in
# one order, so that batches of different replicas wait for each other but never in a circle.
_RECORD = text(
    f"""
    with fresh as (
        insert into facts (fact_id, account_id, metric, value, business_value, calendar_id,
                           calendar_version, at, started_at, conversation_id, cause_event_id,
                           agent_id, team_id, inbox_id, channel, labels, priority, language, state, rule_id,
                           replaces, replaced_value)
        select fact_id, account_id, metric, value, business_value, calendar_id,
                           calendar_version, at, started_at, conversation_id, cause_event_id,
               agent_id, team_id, inbox_id, channel, cast(labels as jsonb), priority, language, state, rule_id,
               replaces, replaced_value
        from unnest(
            cast(:fact_id as uuid[]), cast(:account_id as uuid[]), cast(:metric as text[]),
            cast(:value as numeric[]), cast(:business_value as numeric[]), cast(:calendar_id as uuid[]),
            cast(:calendar_version as bigint[]), cast(:at as timestamptz[]), cast(:started_at as timestamptz[]),
            cast(:conversation_id as uuid[]), cast(:cause_event_id as uuid[]), cast(:agent_id as uuid[]),
            cast(:team_id as uuid[]), cast(:inbox_id as uuid[]), cast(:channel as text[]), cast(:labels as text[]),
            cast(:priority as text[]), cast(:language as text[]), cast(:state as text[]), cast(:rule_id as uuid[]),
            cast(:replaces as uuid[]), cast(:replaced_value as numeric[])
        ) as f(fact_id, account_id, metric, value, business_value, calendar_id,
                           calendar_version, at, started_at, conversation_id, cause_event_id,
               agent_id, team_id, inbox_id, channel, labels, priority, language, state, rule_id,
               replaces, replaced_value)
        on conflict (fact_id, at) do nothing
        returning *
    ),
    {", ".join(_ROLLUP.format(name=name) for name in tables.rollups)}
    select cast(fact_id as text) from fresh
    """
)

_REPLACED_ROLLUP = """
    {name}s as (
        insert into rollup_{name} as r
            (account_id, metric, bucket, agent_id, team_id, inbox_id, channel, state, count, sum)
        select account_id, metric, date_trunc('{name}', at, 'UTC'), agent_id, team_id, inbox_id, channel, state,
               sum(n), sum(n * value)
        from moved group by 1, 2, 3, 4, 5, 6, 7, 8 order by 1, 2, 3, 4, 5, 6, 7, 8
        on conflict (account_id, metric, bucket, agent_id, team_id, inbox_id, channel, state)
        do update set count = r.count + excluded.count, sum = r.sum + excluded.sum
    )
"""

# After the fact itself was recorded, and only then: the one whose place it takes leaves the roll-ups.
_REPLACE = text(
    f"""
    with moved as (
        update facts set replaced = true
        where account_id = cast(:account as uuid) and fact_id = cast(:replaces as uuid) and at = :at and not replaced
        returning *, -1 as n
    ),
    {", ".join(_REPLACED_ROLLUP.format(name=name) for name in tables.rollups)}
    select 1 from moved
    """
)

_MONTHS = text(
    "select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid "
    "where i.inhparent = cast('facts' as regclass)"
)
_MONTH_LOCK = text("select pg_advisory_xact_lock(hashtext('relevo.reporting.facts'))")


async def ensure_months(tx: Tx, months: set[tuple[int, int]]) -> set[tuple[int, int]]:
    """Make the partitions of these (year, month) that there are not yet; answers those that were there already.

    Attaching takes a lock that lets other sessions go on writing facts; replicas that come at once wait their turn.
    """
    await tx.execute(_MONTH_LOCK)
    names = set((await tx.execute(_MONTHS)).scalars())
    there = {(year, month) for year, month in months if f"facts_{year:04}_{month:02}" in names}
    for year, month in sorted(months - there):
        name = f"facts_{year:04}_{month:02}"
        first = datetime(year, month, 1, tzinfo=UTC)
        following = datetime(year + month // 12, month % 12 + 1, 1, tzinfo=UTC)
        # The names and bounds are numbers of our own; DDL takes no parameters.
        await tx.execute(text(f"create table {name} (like facts including defaults including constraints)"))
        # Reached through its parent only, whose policies hold then.
        await tx.execute(text(f"alter table {name} enable row level security, force row level security"))
        await tx.execute(
            text(
                f"alter table facts attach partition {name} "
                f"for values from ('{first.isoformat()}') to ('{following.isoformat()}')"
            )
        )
    return there


async def record(tx: Tx, facts: Sequence[tuple[str, Fact]]) -> set[str]:
    """Store facts (each with its account) and grow the roll-ups by those that are new; answers the new ids.

    The months of all of them must exist (`ensure_months`). A fact that is there already changes nothing.
    """
    columns: dict[str, list[Any]] = {
        "fact_id": [fact.fact_id for _, fact in facts],
        "account_id": [account for account, _ in facts],
        "metric": [fact.metric for _, fact in facts],
        "value": [fact.value for _, fact in facts],
        "business_value": [fact.business_value for _, fact in facts],
        "calendar_id": [fact.calendar_id for _, fact in facts],
        "calendar_version": [fact.calendar_version for _, fact in facts],
        "at": [fact.at for _, fact in facts],
        "started_at": [fact.start for _, fact in facts],
        "conversation_id": [fact.conversation_id for _, fact in facts],
        "cause_event_id": [fact.cause_event_id for _, fact in facts],
        "labels": [json.dumps(fact.dimensions.labels) for _, fact in facts],
        "replaces": [fact.replaces for _, fact in facts],
        "replaced_value": [fact.replaced_value for _, fact in facts],
    }
    for name in ("agent_id", "team_id", "inbox_id", "channel", "priority", "language", "state", "rule_id"):
        columns[name] = [getattr(fact.dimensions, name) for _, fact in facts]
    fresh = set((await tx.execute(_RECORD, columns)).scalars())
    for account, fact in facts:
        # One by one: few people change their mind, and an answer and its change may come together.
        if fact.replaces is not None and fact.fact_id in fresh:
            await tx.execute(_REPLACE, {"account": account, "replaces": fact.replaces, "at": fact.at})
    return fresh


@dataclass(frozen=True, slots=True)
class Reach:
    """Whose facts a reader of reports may see: all of the account, or those of these teams and of this agent."""

    everything: bool = False
    team_ids: frozenset[str] = frozenset()
    agent_id: str | None = None


NONE: Final = "none"
"""Instead of an id, or of a channel: what is of none."""


@dataclass(frozen=True, slots=True)
class Selection:
    """Which facts a report is about: an account, [since, until), and dimensions as they were then, or NONE of them."""

    account_id: str
    since: datetime
    until: datetime
    reach: Reach
    agent_id: str | None = None
    team_id: str | None = None
    inbox_id: str | None = None
    channel: str | None = None
    business_hours: bool = False
    """Times count business hours only: of the facts that are measured so, the others are left out."""
    labels: tuple[str, ...] | None = None
    """The keys of one label: its own, and those of the labels that were merged into it."""


def value_of(selection: Selection, f: Any = tables.facts.c) -> ColumnElement[Any]:
    """What is measured, of facts or what is like them: with the switch, business time of times that have it, null where
    it was not measured.
    """
    value: ColumnElement[Any] = f.value
    if not selection.business_hours:
        return value
    return case((f.metric.in_(sorted(BUSINESS_TIMES)), f.business_value), else_=value)


@dataclass(frozen=True, slots=True)
class BucketRow:
    number: int
    count: int
    sum: float


async def series(
    tx: Tx, selection: Selection, metric: Metric, edges: Sequence[datetime], resolution: Resolution
) -> list[BucketRow]:
    """Count and sum in each bucket of `edges` (0-based) that has any, from the roll-ups of this resolution."""
    cut = literal(list(edges), ARRAY(DateTime(timezone=True)))
    return await _numbered(tx, selection, metric, lambda moment: func.width_bucket(moment, cut) - 1, resolution)


async def week(
    tx: Tx, selection: Selection, metric: Metric, spans: Sequence[Span], resolution: Resolution
) -> list[BucketRow]:
    """Count and sum in each hour of the week (0-based) that has any, from the roll-ups of this resolution.

    The spans cover the selection: their offsets, not the database's idea of the zone, say what the clocks showed.
    """

    def cell(moment: ColumnElement[datetime]) -> ColumnElement[Any]:
        *changed, last = (literal(span.offset, Interval()) for span in spans)
        offset = (
            case(*((moment < span.until, ahead) for span, ahead in zip(spans, changed, strict=False)), else_=last)
            if changed
            else last
        )
        local = func.timezone("UTC", moment) + offset
        return (extract("isodow", local) - 1) * 24 + extract("hour", local)

    return await _numbered(tx, selection, metric, cell, resolution)


async def _numbered(
    tx: Tx,
    selection: Selection,
    metric: Metric,
    number_of: Callable[[ColumnElement[datetime]], ColumnElement[Any]],
    resolution: Resolution,
) -> list[BucketRow]:
    """Count and sum of each number that moments have: of the rows of a roll-up, or of facts where a label is asked for."""
    count: ColumnElement[Any]
    total: ColumnElement[Any]
    if selection.labels is not None:
        # Roll-ups know no labels: what counts for one is known only from the conversation's cycle.
        f = tables.facts.c
        value = value_of(selection)
        number, count, total = number_of(f.at), func.count(value), func.sum(value)
        conditions = _behind(selection, metric)
    else:
        r = tables.rollups[resolution].c
        business = selection.business_hours and metric in BUSINESS_TIMES
        counted, summed = (r.business_count, r.business_sum) if business else (r["count"], r["sum"])
        number, count, total = number_of(r.bucket), func.sum(counted), func.sum(summed)
        conditions = [*where(r, r.bucket, selection), r.metric == metric, counted > 0]
    statement = (
        select(number.label("number"), count.label("n"), total.label("total"))
        .where(*conditions)
        .group_by(number)
        .order_by(number)
    )
    return [BucketRow(int(row.number), int(row.n), float(row.total)) for row in await tx.execute(statement)]


def _behind(selection: Selection, metric: Metric) -> list[ColumnElement[bool]]:
    """The facts that a number of this metric is made of."""
    f = tables.facts.c
    conditions = [*where(f, f.at, selection), f.metric == metric, f.replaced.is_(False)]
    if selection.business_hours and metric in BUSINESS_TIMES:
        conditions.append(f.business_value.is_not(None))
    return conditions


async def page(
    tx: Tx, selection: Selection, metric: Metric, *, after: tuple[datetime, str] | None, limit: int
) -> list[Fact]:
    """Facts of one metric in the order of time and id, from after a position on."""
    f = tables.facts.c
    conditions = _behind(selection, metric)
    if after is not None:
        conditions.append(
            tuple_(f.at, f.fact_id) > tuple_(literal(after[0], f.at.type), literal(after[1], f.fact_id.type))
        )
    statement = select(tables.facts).where(*conditions).order_by(f.at, f.fact_id).limit(limit)
    return [_fact(row) for row in await tx.execute(statement)]


@dataclass(frozen=True, slots=True)
class ConversationRow:
    conversation_id: str
    last_at: datetime
    count: int
    sum: float


async def conversations(
    tx: Tx, selection: Selection, metric: Metric, *, before: tuple[datetime, str] | None, limit: int
) -> list[ConversationRow]:
    """The conversations whose facts a number is made of, by the last of those and id, latest first, from before a position on.

    Reads all facts of the number for every page: only they tell which one is a conversation's last.
    """
    f = tables.facts.c
    last = func.max(f.at)
    statement = (
        select(
            f.conversation_id,
            last.label("last_at"),
            func.count().label("n"),
            func.sum(value_of(selection)).label("total"),
        )
        .where(*_behind(selection, metric), f.conversation_id.is_not(None))
        .group_by(f.conversation_id)
        .order_by(last.desc(), f.conversation_id.desc())
        .limit(limit)
    )
    if before is not None:
        place = tuple_(literal(before[0], f.at.type), literal(before[1], f.conversation_id.type))
        statement = statement.having(tuple_(last, f.conversation_id) < place)
    return [
        ConversationRow(row.conversation_id, row.last_at, int(row.n), float(row.total))
        for row in await tx.execute(statement)
    ]


def where(columns: Any, moment: ColumnElement[datetime], selection: Selection) -> list[ColumnElement[bool]]:
    """The conditions of a selection on facts, or on roll-ups (which know no labels)."""
    conditions: list[ColumnElement[bool]] = [
        columns.account_id == selection.account_id,
        moment >= selection.since,
        moment < selection.until,
    ]
    for name in ("agent_id", "team_id", "inbox_id", "channel"):
        wanted = getattr(selection, name)
        if wanted is not None:
            conditions.append(columns[name].is_(None) if wanted == NONE else columns[name] == wanted)
    if selection.labels is not None:
        conditions.append(labelled(selection.account_id, selection.since, selection.labels))
    reach = selection.reach
    if not reach.everything:
        ways: list[ColumnElement[bool]] = [false()]
        if reach.agent_id is not None:
            ways.append(columns.agent_id == reach.agent_id)
        if reach.team_ids:
            ways.append(columns.team_id.in_(sorted(reach.team_ids)))
        conditions.append(or_(*ways))
    return conditions


def _fact(row: Row[Any]) -> Fact:
    return Fact(
        fact_id=row.fact_id,
        metric=row.metric,
        unit=METRICS[row.metric].unit,
        value=float(row.value),
        business_value=None if row.business_value is None else float(row.business_value),
        calendar_id=row.calendar_id,
        calendar_version=row.calendar_version,
        at=row.at,
        start=row.started_at,
        conversation_id=row.conversation_id,
        cause_event_id=row.cause_event_id,
        dimensions=Dimensions(
            agent_id=row.agent_id,
            team_id=row.team_id,
            inbox_id=row.inbox_id,
            channel=row.channel,
            labels=tuple(row.labels),
            priority=row.priority,
            language=row.language,
            state=row.state,
            rule_id=row.rule_id,
        ),
        replaces=row.replaces,
        replaced_value=None if row.replaced_value is None else float(row.replaced_value),
    )

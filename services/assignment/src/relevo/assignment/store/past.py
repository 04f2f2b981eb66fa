"""What is read of a past moment: who waited, in order, and whom an agent had."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Column, DateTime, SmallInteger, Text, Uuid, bindparam, func, select, text
from sqlalchemy.dialects.postgresql import UUID

from relevo.assignment.domain.stays import LEVELS
from relevo.assignment.store import places
from relevo.assignment.tables import conversation_facts, conversations_held
from relevo.chassis.database import Tx
from relevo.kernel.access import ConversationColumns, Viewer, visible

_ID = Uuid(as_uuid=False)
_TIME = DateTime(timezone=True)

# Of each length, only those that can hold the moment are looked at; and what has not ended yet.
_AT = f"""
    select s.conversation_id, s.inbox_id, s.channel, s.team_id, s.queued_at, s.rank, s.from_at
    from generate_series(0, {LEVELS - 1}) as l (level) cross join lateral (
        select * from stays s
        where s.account_id = cast(:account as uuid) and s.state = '{{state}}' and s.level = l.level {{whose}}
          and s.from_at > cast(:at as timestamptz) - make_interval(secs => 2 ^ l.level)
          and s.from_at <= cast(:at as timestamptz) and s.to_at > cast(:at as timestamptz)
        offset 0 -- so that each level is looked up by itself: joined, all that is older would be read
    ) s
    union all
    select h.conversation_id, h.inbox_id, h.channel, h.team_id, h.queued_at, h.rank, h.since
    from conversations_held h
    where h.account_id = cast(:account as uuid) and h.state = '{{state}}' {{whose_now}} and h.since <= cast(:at as timestamptz)
"""
_COLUMNS = (
    Column("conversation_id", _ID),
    Column("inbox_id", _ID),
    Column("channel", Text),
    Column("team_id", _ID),
    Column("queued_at", _TIME),
    Column("rank", SmallInteger),
    Column("from_at", _TIME),
)
_QUEUE = text(_AT.format(state="queued", whose="", whose_now=""))
_HOLDS = text(
    _AT.format(
        state="assigned",
        whose="and s.assignee_id = cast(:agent as uuid)",
        whose_now="and h.assignee_id = cast(:agent as uuid)",
    )
)
_LOAD = text(f"select count(*) from ({_HOLDS.text}) as held")
_KNOWN = text("select stays_since from pools where account_id = cast(:account as uuid)")

# The last decision until then tells where to look: what an agent became since is little.
_RUN = text("""
    select run from decisions where account_id = cast(:account as uuid) and created_at <= cast(:at as timestamptz)
    order by created_at desc, run desc limit 1
""")
_AGENT = text("""
    select t.active, t.state, t.in_shift, t.capacity, (t.load + t.offered) * 100 + t.extra as used, cast(t.team_ids as text[]) as team_ids, t.at
    from agents_then t
    where t.account_id = cast(:account as uuid) and t.agent_id = cast(:agent as uuid) and t.run <= :run
      and t.at <= cast(:at as timestamptz)
    order by t.run desc, t.step desc limit 1
""")
_SINCE = text("""
    select t.active, t.state, t.in_shift, t.capacity, (t.load + t.offered) * 100 + t.extra as used, cast(t.team_ids as text[]) as team_ids, t.at
    from agents_then t
    where t.account_id = cast(:account as uuid) and t.agent_id = cast(:agent as uuid) and t.run > :run
    order by t.run, t.step limit :limit offset :offset
""")
_POLICY = text("""
    select payload -> 'policy' as policy from journal
    where account_id = cast(:account as uuid) and kind = 'policy' and done_at is not null and error is null
      and created_at <= cast(:at as timestamptz)
    order by created_at desc limit 1
""")
_AT_ONCE = 50

Place = tuple[int, datetime, str]


async def known_since(tx: Tx, account_id: str) -> datetime | None:
    """From when on the past of an account's pool is known; None: it has none."""
    found: datetime | None = (await tx.execute(_KNOWN, {"account": account_id})).scalar()
    return found


async def queue(tx: Tx, viewer: Viewer, at: datetime, *, after: Place | None, limit: int) -> list[Mapping[str, Any]]:
    """Who waited at a moment, of those that the viewer may see today, in order, with the place in the account's queue."""
    then = _QUEUE.bindparams(account=viewer.account_id, at=at).columns(*_COLUMNS).cte("waited")
    order = places.parts(then.c, await _worth(tx, viewer.account_id, at))
    place = order[0].label("place_rank"), order[1].label("place_at")
    placed = select(then, *place, func.row_number().over(order_by=order).label("position")).cte("placed")
    p, known = placed.c, conversation_facts.c
    statement = (
        select(placed, known.number)
        .join(conversations_held, conversations_held.c.conversation_id == p.conversation_id)
        .join(conversation_facts, known.conversation_id == p.conversation_id)
        .where(visible(viewer, _FACTS))
        .order_by(p.place_rank, p.place_at, p.conversation_id)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(places.beyond((p.place_rank, p.place_at, p.conversation_id), after))
    return [dict(row) for row in (await tx.execute(statement)).mappings()]


async def load(tx: Tx, account_id: str, agent_id: str, at: datetime) -> int:
    """How many open conversations an agent had at a moment."""
    given = {"account": account_id, "agent": agent_id, "at": at}
    return int((await tx.execute(_LOAD, given)).scalar_one())


async def held(
    tx: Tx, viewer: Viewer, agent_id: str, at: datetime, *, after: str | None, limit: int
) -> list[Mapping[str, Any]]:
    """The conversations that an agent had at a moment, of those that the viewer may see today, by id."""
    then = _HOLDS.bindparams(account=viewer.account_id, agent=agent_id, at=at).columns(*_COLUMNS).cte("held")
    c, known = then.c, conversation_facts.c
    statement = (
        select(c.conversation_id, known.number, c.inbox_id, c.channel, c.team_id, c.from_at)
        .join(conversations_held, conversations_held.c.conversation_id == c.conversation_id)
        .join(conversation_facts, known.conversation_id == c.conversation_id)
        .where(visible(viewer, _FACTS))
        .order_by(c.conversation_id)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(c.conversation_id > bindparam(None, after, type_=UUID(as_uuid=False)))
    return [dict(row) for row in (await tx.execute(statement)).mappings()]


async def agent(tx: Tx, account_id: str, agent_id: str, at: datetime) -> Mapping[str, Any] | None:
    """What an agent was to the matcher at a moment; None: nobody knew of them yet."""
    run = (await tx.execute(_RUN, {"account": account_id, "at": at})).scalar() or 0
    given = {"account": account_id, "agent": agent_id, "run": run}
    found = (await tx.execute(_AGENT, given | {"at": at})).mappings().first()
    offset = 0
    while True:
        rows = (await tx.execute(_SINCE, given | {"limit": _AT_ONCE, "offset": offset})).mappings().all()
        for row in rows:
            if row["at"] is None or row["at"] > at:
                return None if found is None else dict(found)
            found = row
        if len(rows) < _AT_ONCE:
            return None if found is None else dict(found)
        offset += _AT_ONCE


async def default_capacity(tx: Tx, account_id: str, at: datetime) -> int | None:
    """What the policy of a moment gave to who has no capacity of their own; None: nobody had edited it."""
    row = (await tx.execute(_POLICY, {"account": account_id, "at": at})).first()
    return None if row is None else int(row.policy["default_capacity"])


async def _worth(tx: Tx, account_id: str, at: datetime) -> int | None:
    """How many seconds of waiting a step of priority was worth at a moment."""
    row = (await tx.execute(_POLICY, {"account": account_id, "at": at})).first()
    return None if row is None else row.policy.get("priority_worth_seconds")


_HELD, _KNOWN_FACTS = conversations_held.c, conversation_facts.c
_FACTS = ConversationColumns(
    _HELD.account_id,
    _HELD.inbox_id,
    _HELD.team_id,
    _HELD.assignee_id,
    _KNOWN_FACTS.participant_ids,
    _KNOWN_FACTS.owner_id,
)

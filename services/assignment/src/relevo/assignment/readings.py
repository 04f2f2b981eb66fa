"""What the HTTP interface reads: one conversation, its decisions, the queue, the agents."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, func, select, text

from relevo.assignment.domain.held import Place
from relevo.assignment.domain.units import told
from relevo.assignment.store import places, pools
from relevo.assignment.tables import conversation_facts, conversations_held
from relevo.chassis.database import Tx
from relevo.kernel.access import ConversationColumns, ConversationFacts, Viewer, visible

_ASSIGNMENT = """
    select cast(h.conversation_id as text) as conversation_id, h.channel, h.rule, h.needs, h.state, h.version, cast(h.team_id as text) as team_id,
           cast(h.assignee_id as text) as assignee_id, cast(h.inbox_id as text) as inbox_id, h.queued_at, h.reason,
           cast(h.decision_id as text) as decision_id, cast(h.offered_to as text) as offered_to, h.offered_until,
           cast(h.declined as text[]) as declined, cast(f.participant_ids as text[]) as participant_ids,
           cast(f.owner_id as text) as owner_id,
           case when h.state = 'queued' then (
               select count(*) from conversations_held q
               where q.account_id = h.account_id and q.state = 'queued'
                 and ({mine}) <= ({its})
           ) end as position
    from conversations_held h
    join conversation_facts f on f.conversation_id = h.conversation_id
    where h.account_id = cast(:account as uuid) and h.conversation_id = cast(:conversation as uuid)
"""

_FACTS = text("""
    select cast(f.inbox_id as text) as inbox_id, cast(f.participant_ids as text[]) as participant_ids,
           cast(f.owner_id as text) as owner_id, cast(h.team_id as text) as team_id,
           cast(h.assignee_id as text) as assignee_id
    from conversation_facts f
    left join conversations_held h on h.conversation_id = f.conversation_id
    where f.account_id = cast(:account as uuid) and f.conversation_id = cast(:conversation as uuid)
""")

_DECISIONS = text("""
    select cast(d.id as text) as id, d.version, d.kind, d.mode, d.actor, cast(d.assignee_id as text) as assignee_id,
           cast(d.team_id as text) as team_id, cast(d.from_assignee_id as text) as from_assignee_id,
           cast(d.from_team_id as text) as from_team_id, d.reason, d.candidates, d.excluded, d.policy_version, d.rule, d.needs,
           d.journal_id, d.waited_seconds, d.created_at, a.name as assignee_name, cast(d.offered_to as text) as offered_to, o.name as offered_to_name,
           d.offered_until, d.ended_offer,
           array(select n.name from unnest(d.runners_up) with ordinality as r (id, place)
                 join agents n on n.agent_id = r.id order by r.place) as runners_up
    from decisions d
    left join agents a on a.agent_id = d.assignee_id
    left join agents o on o.agent_id = d.offered_to
    where d.account_id = cast(:account as uuid) and d.conversation_id = cast(:conversation as uuid)
      and d.version < coalesce(cast(:before as bigint), 9223372036854775807)
    order by d.version desc limit :limit
""")

_AGENTS = text("""
    select cast(agent_id as text) as agent_id, name, state, state_since, load, offered, unanswered, (load + offered) * 100 + extra as used,
           coalesce(unanswered >= cast(p.policy ->> 'most_unanswered' as integer), false) as paused, a.capacity as own_capacity, a.skills,
           coalesce(a.capacity, cast(p.policy ->> 'default_capacity' as integer)) as capacity, last_assigned_at
    from agents a join pools p on p.account_id = a.account_id
    where a.account_id = cast(:account as uuid) and active order by lower(name), agent_id
""")

_CANDIDATES = text("""
    select cast(agent_id as text) as agent_id, name, state, load, (load + offered) * 100 + extra as used,
           coalesce(a.capacity, cast(p.policy ->> 'default_capacity' as integer)) as capacity,
           (inbox_ids is null or cast(:inbox as uuid) = any(inbox_ids))
               and (cast(:team as uuid) is null or cast(:team as uuid) = any(team_ids)) as reaches
    from agents a join pools p on p.account_id = a.account_id
    where a.account_id = cast(:account as uuid) and active
      and (cast(:within as uuid) is null or cast(:within as uuid) = any(team_ids))
      and (cast(:only as uuid) is null or agent_id = cast(:only as uuid))
""")

_ACTIVE = text("""
    select true from agents where account_id = cast(:account as uuid) and agent_id = cast(:agent as uuid) and active
""")


@dataclass(frozen=True, slots=True)
class Assignment:
    """Who holds a conversation, and the facts that say who may see it."""

    row: Mapping[str, Any]
    facts: ConversationFacts


async def facts(tx: Tx, account_id: str, conversation_id: str) -> ConversationFacts | None:
    """What the access rule needs; also of a conversation that the matcher has not reached yet. None: unknown here."""
    row = (await tx.execute(_FACTS, {"account": account_id, "conversation": conversation_id})).mappings().first()
    return None if row is None else _facts(account_id, row)


async def assignment(tx: Tx, account_id: str, conversation_id: str) -> Assignment | None:
    """The present assignment, None when there is none here (yet)."""
    worth = (await pools.policy(tx, account_id)).priority_worth_seconds
    statement = text(_ASSIGNMENT.format(mine=places.listed("q", worth), its=places.listed("h", worth)))
    given = {"account": account_id, "conversation": conversation_id} | ({} if worth is None else {"worth": worth})
    found = await tx.execute(statement, given)
    row = found.mappings().first()
    return None if row is None else Assignment(dict(row), _facts(account_id, row))


def _facts(account_id: str, row: Mapping[Any, Any]) -> ConversationFacts:
    return ConversationFacts(
        account_id=account_id,
        inbox_id=row["inbox_id"],
        team_id=row["team_id"],
        assignee_id=row["assignee_id"],
        participant_ids=frozenset(row["participant_ids"]),
        owner_id=row["owner_id"],
    )


async def decisions(
    tx: Tx, account_id: str, conversation_id: str, *, before: int | None, limit: int
) -> list[Mapping[str, Any]]:
    """The decisions on a conversation, the latest first, below a version."""
    given = {"account": account_id, "conversation": conversation_id, "before": before, "limit": limit}
    return [dict(row) for row in (await tx.execute(_DECISIONS, given)).mappings()]


async def agents(tx: Tx, account_id: str) -> list[Mapping[str, Any]]:
    """The agents with their load and capacity, by name."""
    return [_in_units(row) for row in (await tx.execute(_AGENTS, {"account": account_id})).mappings()]


def _in_units(row: Mapping[Any, Any]) -> Mapping[str, Any]:
    return {**row, "used": told(row["used"])}


async def candidates(
    tx: Tx, facts: ConversationFacts, *, within: str | None, only: str | None
) -> list[Mapping[str, Any]]:
    """Whom a conversation can be given to by hand: active agents, `within` a team, or `only` this one.

    `reaches`: whether they work on conversations of its inbox and of the team that it would have.
    """
    given = {"account": facts.account_id, "inbox": facts.inbox_id, "team": within or facts.team_id}
    rows = await tx.execute(_CANDIDATES, {**given, "within": within, "only": only})
    return [_in_units(row) for row in rows.mappings()]


async def is_active(tx: Tx, account_id: str, agent_id: str) -> bool:
    """Whether the account has this agent."""
    return (await tx.execute(_ACTIVE, {"account": account_id, "agent": agent_id})).first() is not None


async def queue(tx: Tx, viewer: Viewer, *, after: Place | None, limit: int) -> list[Mapping[str, Any]]:
    """The waiting conversations that the viewer may see, in order, each with its place in the whole account's queue."""
    held, known = conversations_held.c, conversation_facts.c
    order = places.parts(held, (await pools.policy(tx, viewer.account_id)).priority_worth_seconds)
    waiting = (
        select(held.conversation_id, func.row_number().over(order_by=order).label("position"))
        .where(
            held.account_id == bindparam(None, viewer.account_id, type_=held.account_id.type), held.state == "queued"
        )
        .cte("waiting")
    )
    columns = ConversationColumns(
        held.account_id, held.inbox_id, held.team_id, held.assignee_id, known.participant_ids, known.owner_id
    )
    statement = (
        select(
            held.conversation_id,
            known.number,
            held.inbox_id,
            held.channel,
            held.team_id,
            held.rank,
            held.queued_at,
            held.reason,
            waiting.c.position,
            order[0].label("place_rank"),
            order[1].label("place_at"),
        )
        .select_from(conversations_held)
        .join(conversation_facts, known.conversation_id == held.conversation_id)
        .join(waiting, waiting.c.conversation_id == held.conversation_id)
        .where(held.state == "queued", visible(viewer, columns))
        .order_by(*order)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(places.beyond(order, after))
    return [dict(row) for row in (await tx.execute(statement)).mappings()]


def place_of(row: Mapping[str, Any]) -> tuple[int, str, str]:
    """Where a row of the queue stands, for a cursor."""
    moment: datetime = row["place_at"]
    return row["place_rank"], moment.isoformat(), str(row["conversation_id"])

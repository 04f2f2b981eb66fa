"""SQL of a pool's agents and teams, as assignment knows them, and of what agents were in each run."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Row, text

from relevo.assignment.domain.held import Team
from relevo.assignment.domain.roster import Agent
from relevo.chassis.database import Tx

_AGENTS_OF = """
    select cast(agent_id as text) as agent_id, name, active, state, state_since, in_shift, capacity, load, extra, turn, last_assigned_at,
           cast(team_ids as text[]) as team_ids, cast(inbox_ids as text[]) as inbox_ids, presence_sequence,
           directory_sequence, left_at, off_shift_at, released_at, given, skills, offered, unanswered
    from agents where account_id = cast(:account as uuid) {some} order by agent_id
"""
_AGENTS = text(_AGENTS_OF.format(some=""))
# Whatever a run changes of an agent, it keeps what the agent became. As an array: they are few, and looked up by their ids.
_CHANGED_AGENTS = text(
    _AGENTS_OF.format(
        some="""
        and agent_id = any(array(
            select agent_id from agents_then where account_id = cast(:account as uuid) and run > :after_run))
        """
    )
)

_TEAMS = text("""
    select cast(team_id as text) as team_id, name, auto_assign, deleted, sequence
    from teams where account_id = cast(:account as uuid)
""")

_SAVE_AGENTS = text("""
    insert into agents as a (agent_id, account_id, name, active, state, state_since, in_shift, capacity, load, extra, turn,
        last_assigned_at, team_ids, inbox_ids, presence_sequence, directory_sequence, left_at, off_shift_at, released_at, given, skills, offered,
        unanswered)
    select agent_id, cast(:account as uuid), name, active, state, state_since, in_shift, capacity, load, extra, turn, last_assigned_at,
        team_ids, inbox_ids, presence_sequence, directory_sequence, left_at, off_shift_at, released_at, given, skills, offered, unanswered
    from jsonb_to_recordset(cast(:rows as jsonb)) as n (agent_id uuid, name text, active boolean, state text,
        state_since timestamptz, in_shift boolean, capacity integer, load integer, extra integer, turn bigint, last_assigned_at timestamptz,
        team_ids uuid[], inbox_ids uuid[], presence_sequence bigint, directory_sequence bigint, left_at timestamptz,
        off_shift_at timestamptz, released_at timestamptz, given timestamptz[], skills jsonb, offered integer,
        unanswered integer)
    on conflict (agent_id) do update set name = excluded.name, active = excluded.active, state = excluded.state,
        state_since = excluded.state_since, in_shift = excluded.in_shift, capacity = excluded.capacity, load = excluded.load, extra = excluded.extra, turn = excluded.turn,
        last_assigned_at = excluded.last_assigned_at, team_ids = excluded.team_ids, inbox_ids = excluded.inbox_ids,
        presence_sequence = excluded.presence_sequence, directory_sequence = excluded.directory_sequence,
        left_at = excluded.left_at, off_shift_at = excluded.off_shift_at, released_at = excluded.released_at,
        given = excluded.given, skills = excluded.skills, offered = excluded.offered, unanswered = excluded.unanswered
        where a.account_id = excluded.account_id
""")

_SAVE_TEAMS = text("""
    insert into teams as t (team_id, account_id, name, auto_assign, deleted, sequence)
    select team_id, cast(:account as uuid), name, auto_assign, deleted, sequence
    from jsonb_to_recordset(cast(:rows as jsonb)) as n (team_id uuid, name text, auto_assign boolean, deleted boolean,
        sequence bigint)
    on conflict (team_id) do update set name = excluded.name, auto_assign = excluded.auto_assign,
        deleted = excluded.deleted, sequence = excluded.sequence
        where t.account_id = excluded.account_id
""")

_SAVE_AGENTS_THEN = text("""
    insert into agents_then (agent_id, account_id, run, step, at, active, state, in_shift, capacity, load, extra, team_ids,
        inbox_ids, given, skills, offered, unanswered)
    select agent_id, cast(:account as uuid), :run, step, at, active, state, in_shift, capacity, load, extra, team_ids, inbox_ids,
        given, skills, offered, unanswered
    from jsonb_to_recordset(cast(:rows as jsonb)) as n (agent_id uuid, step integer, at timestamptz, active boolean, state text,
        in_shift boolean, capacity integer, load integer, extra integer, team_ids uuid[], inbox_ids uuid[], given timestamptz[], skills jsonb,
        offered integer, unanswered integer)
""")

_WRONG_LOADS = text("""
    select cast(a.agent_id as text) as agent_id, (a.load + a.offered) * 100 + a.extra as used, coalesce(sum(h.weight), 0) as held
    from agents a
    left join conversations_held h on h.account_id = a.account_id and (
        (h.state = 'assigned' and h.assignee_id = a.agent_id) or (h.state = 'offered' and h.offered_to = a.agent_id))
    group by a.agent_id
    having a.load <> count(h.conversation_id) filter (where h.state = 'assigned')
        or a.offered <> count(h.conversation_id) filter (where h.state = 'offered')
        or (a.load + a.offered) * 100 + a.extra <> coalesce(sum(h.weight), 0)
""")


async def agents(tx: Tx, account_id: str) -> list[Agent]:
    """Every agent of the account, also those that are gone."""
    return [_agent(row) for row in await tx.execute(_AGENTS, {"account": account_id})]


async def changed_agents(tx: Tx, account_id: str, *, after_run: int) -> list[Agent]:
    """The agents of a locked pool that any run after this one changed."""
    return [_agent(row) for row in await tx.execute(_CHANGED_AGENTS, {"account": account_id, "after_run": after_run})]


def _agent(row: Row[Any]) -> Agent:
    return Agent(
        id=row.agent_id,
        name=row.name,
        active=row.active,
        state=row.state,
        state_since=row.state_since,
        in_shift=row.in_shift,
        capacity=row.capacity,
        load=row.load,
        extra=row.extra,
        turn=row.turn,
        last_assigned_at=row.last_assigned_at,
        team_ids=frozenset(row.team_ids),
        inbox_ids=None if row.inbox_ids is None else frozenset(row.inbox_ids),
        presence_sequence=row.presence_sequence,
        directory_sequence=row.directory_sequence,
        left_at=row.left_at,
        off_shift_at=row.off_shift_at,
        released_at=row.released_at,
        given=tuple(row.given),
        skills=row.skills,
        offered=row.offered,
        unanswered=row.unanswered,
    )


async def teams(tx: Tx, account_id: str) -> dict[str, Team]:
    """Every team of the account, also deleted ones, by id."""
    rows = (await tx.execute(_TEAMS, {"account": account_id})).all()
    return {row.team_id: Team(row.team_id, row.name, row.auto_assign, row.deleted, row.sequence) for row in rows}


async def save_agents(tx: Tx, account_id: str, changed: Iterable[Agent]) -> None:
    """Write agents of a locked pool."""
    rows = [
        {
            "agent_id": one.id,
            "name": one.name,
            "active": one.active,
            "state": one.state,
            "state_since": one.state_since,
            "in_shift": one.in_shift,
            "capacity": one.capacity,
            "load": one.load,
            "extra": one.extra,
            "turn": one.turn,
            "last_assigned_at": one.last_assigned_at,
            "team_ids": sorted(one.team_ids),
            "inbox_ids": None if one.inbox_ids is None else sorted(one.inbox_ids),
            "presence_sequence": one.presence_sequence,
            "directory_sequence": one.directory_sequence,
            "left_at": one.left_at,
            "off_shift_at": one.off_shift_at,
            "released_at": one.released_at,
            "given": one.given,
            "skills": dict(one.skills),
            "offered": one.offered,
            "unanswered": one.unanswered,
        }
        for one in changed
    ]
    if rows:
        await tx.execute(_SAVE_AGENTS, {"account": account_id, "rows": json.dumps(rows, default=datetime.isoformat)})


async def save_agents_then(
    tx: Tx,
    account_id: str,
    run: int,
    changed: Mapping[tuple[str, int], Agent],
    at: Mapping[tuple[str, int], datetime],
) -> None:
    """Keep what agents became in a run of a locked pool, each by how many of its decisions had been made before, and when."""
    rows = [
        {
            "agent_id": agent_id,
            "step": step,
            "at": at[agent_id, step],
            "active": one.active,
            "state": one.state,
            "in_shift": one.in_shift,
            "capacity": one.capacity,
            "load": one.load,
            "extra": one.extra,
            "team_ids": sorted(one.team_ids),
            "inbox_ids": None if one.inbox_ids is None else sorted(one.inbox_ids),
            "given": one.given or None,
            "skills": dict(one.skills) or None,
            "offered": one.offered,
            "unanswered": one.unanswered,
        }
        for (agent_id, step), one in changed.items()
    ]
    if rows:
        await tx.execute(
            _SAVE_AGENTS_THEN, {"account": account_id, "run": run, "rows": json.dumps(rows, default=datetime.isoformat)}
        )


async def save_teams(tx: Tx, account_id: str, changed: Iterable[Team]) -> None:
    """Write teams of a locked pool."""
    rows = [
        {
            "team_id": one.id,
            "name": one.name,
            "auto_assign": one.auto_assign,
            "deleted": one.deleted,
            "sequence": one.sequence,
        }
        for one in changed
    ]
    if rows:
        await tx.execute(_SAVE_TEAMS, {"account": account_id, "rows": json.dumps(rows)})


async def wrong_loads(tx: Tx) -> list[tuple[str, int, int]]:
    """The consistency check: agents whose load is not what they hold, or are offered: in number, or by weight (used, held: hundredths)."""
    return [(row.agent_id, row.used, row.held) for row in (await tx.execute(_WRONG_LOADS)).all()]

"""The matcher's SQL: journal, pool, agents, teams, who holds what, decisions. Every statement works on a batch.

Each statement names the account, so that nothing of one reaches another's pool.
"""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text

from relevo.assignment.domain import inputs
from relevo.assignment.domain.inputs import Entry, Input, Policy
from relevo.assignment.domain.pool import Decision, Held, Place, Team
from relevo.assignment.domain.roster import Agent, GroupKey
from relevo.chassis.database import Tx
from relevo.contracts.assignment import Reason
from relevo.contracts.envelope import Envelope

_MAKE_POOLS = text("""
    insert into pools (account_id) select unnest(cast(:accounts as uuid[])) on conflict (account_id) do nothing
""")

_APPEND = text("""
    insert into journal (account_id, kind, payload, cause)
    select account_id, kind, payload, cause
    from unnest(cast(:accounts as uuid[]), cast(:kinds as text[]), cast(:payloads as jsonb[]), cast(:causes as jsonb[]))
        with ordinality as j (account_id, kind, payload, cause, place)
    order by place
    returning id
""")

_PENDING = text("""
    with recursive waiting as (
        (select account_id from journal where done_at is null and waiting_for is null order by account_id limit 1)
        union all
        select (select j.account_id from journal j
                where j.done_at is null and j.waiting_for is null and j.account_id > w.account_id
                order by j.account_id limit 1)
        from waiting w where w.account_id is not null
    )
    select cast(account_id as text) from waiting where account_id is not null
""")

_LOCK = """
    select cast(account_id as text) as account_id, strategy, default_capacity, busy_as_fallback, out_of_shift,
           owner_first, owner_absent, policy_version, turn, runs, tells_loads
    from pools where account_id = cast(:account as uuid) for update
"""
_LOCK_WAITING = text(_LOCK)
_WATCH_LOADS = text("""
    update pools set tells_loads = :watched where account_id = cast(:account as uuid)
    returning cast(account_id as text) as account_id, strategy, default_capacity, busy_as_fallback, out_of_shift,
              owner_first, owner_absent, policy_version, turn, runs, tells_loads
""")
_LOCK_OR_SKIP = text(_LOCK + " skip locked")

_POLICY = text("""
    select strategy, default_capacity, busy_as_fallback, out_of_shift, owner_first, owner_absent, policy_version from pools
    where account_id = cast(:account as uuid)
""")

_TAKE = text("""
    select id, kind, payload, cause, created_at from journal
    where account_id = cast(:account as uuid) and done_at is null and waiting_for is null
    order by id limit :limit
""")

_DONE = text("""
    update journal j set done_at = now(), run = :run, error = d.error
    from unnest(cast(:ids as bigint[]), cast(:errors as text[])) as d (id, error)
    where j.id = d.id
""")

_WITHDRAW = text("delete from journal where account_id = cast(:account as uuid) and id = :id")

_WAIT = text("""
    update journal j set waiting_for = w.conversation_id
    from unnest(cast(:ids as bigint[]), cast(:conversations as uuid[])) as w (id, conversation_id)
    where j.id = w.id
""")

_WAIT_NO_MORE = text("""
    update journal set waiting_for = null
    where waiting_for = any(cast(:conversations as uuid[])) and account_id = cast(:account as uuid)
      and done_at is null
""")

_AGENTS = text("""
    select cast(agent_id as text) as agent_id, name, active, state, state_since, in_shift, capacity, load, turn, last_assigned_at,
           cast(team_ids as text[]) as team_ids, cast(inbox_ids as text[]) as inbox_ids, presence_sequence,
           directory_sequence
    from agents where account_id = cast(:account as uuid) order by agent_id
""")

_TEAMS = text("""
    select cast(team_id as text) as team_id, name, auto_assign, deleted, sequence
    from teams where account_id = cast(:account as uuid)
""")

_HELD_COLUMNS = """
    cast(conversation_id as text) as conversation_id, cast(inbox_id as text) as inbox_id, channel, state, version,
    cast(team_id as text) as team_id, cast(assignee_id as text) as assignee_id, opened_at, queued_at, rank, sequence,
    by_hand, cast(kept_for as text) as kept_for, hand_version, reason
"""
_HELD = text(f"""
    select {_HELD_COLUMNS} from conversations_held
    where account_id = cast(:account as uuid) and conversation_id = any(cast(:ids as uuid[]))
""")
_HELD_OF_AGENTS = text(f"""
    select {_HELD_COLUMNS} from conversations_held
    where account_id = cast(:account as uuid) and assignee_id = any(cast(:ids as uuid[])) and state = 'assigned'
""")
_KEPT_FOR = text(f"""
    select {_HELD_COLUMNS} from conversations_held
    where account_id = cast(:account as uuid) and kept_for = any(cast(:ids as uuid[])) and state = 'unassigned'
""")
_HELD_OF_TEAMS = text(f"""
    select {_HELD_COLUMNS} from conversations_held
    where account_id = cast(:account as uuid) and team_id = any(cast(:ids as uuid[])) and state <> 'closed'
""")

# No team, as the index of the queues has it: null would not be found by it.
_TEAM_OR_NONE = "coalesce(team_id, cast('00000000-0000-0000-0000-000000000000' as uuid))"

# Hops from key to key through the index, however many conversations wait under each.
_WAITING_KEYS = text(f"""
    with recursive keys as (
        (select inbox_id, team_id, {_TEAM_OR_NONE} as team from conversations_held
         where account_id = cast(:account as uuid) and state = 'queued'
         order by inbox_id, {_TEAM_OR_NONE} limit 1)
        union all
        select next.* from keys cross join lateral (
            select inbox_id, team_id, {_TEAM_OR_NONE} as team from conversations_held
            where account_id = cast(:account as uuid) and state = 'queued'
              and (inbox_id, {_TEAM_OR_NONE}) > (keys.inbox_id, keys.team)
            order by inbox_id, {_TEAM_OR_NONE} limit 1
        ) next
    )
    select cast(inbox_id as text) as inbox_id, cast(team_id as text) as team_id from keys
""")

_HEADS = text(f"""
    select q.place, h.* from unnest(
        cast(:inboxes as uuid[]), cast(:teams as uuid[]), cast(:ranks as smallint[]), cast(:times as timestamptz[]),
        cast(:lasts as uuid[])) with ordinality as q (inbox, team, last_rank, last_at, last_id, place)
    cross join lateral (
        select {_HELD_COLUMNS} from conversations_held c
        where c.account_id = cast(:account as uuid) and c.state = 'queued' and c.inbox_id = q.inbox
          and {_TEAM_OR_NONE} = coalesce(q.team, cast('00000000-0000-0000-0000-000000000000' as uuid))
          and (q.last_id is null or (-c.rank, c.queued_at, c.conversation_id) > (q.last_rank, q.last_at, q.last_id))
        order by -c.rank, c.queued_at, c.conversation_id limit :limit
    ) h
    order by q.place
""")

_SAVE_POOL = text("""
    update pools set strategy = :strategy, default_capacity = :default_capacity, busy_as_fallback = :busy_as_fallback,
        out_of_shift = :out_of_shift, owner_first = :owner_first, owner_absent = :owner_absent,
        policy_version = :policy_version, turn = :turn, runs = :runs
    where account_id = cast(:account as uuid)
""")

_SAVE_AGENTS = text("""
    insert into agents as a (agent_id, account_id, name, active, state, state_since, in_shift, capacity, load, turn,
        last_assigned_at, team_ids, inbox_ids, presence_sequence, directory_sequence)
    select agent_id, cast(:account as uuid), name, active, state, state_since, in_shift, capacity, load, turn, last_assigned_at,
        team_ids, inbox_ids, presence_sequence, directory_sequence
    from jsonb_to_recordset(cast(:rows as jsonb)) as n (agent_id uuid, name text, active boolean, state text,
        state_since timestamptz, in_shift boolean, capacity integer, load integer, turn bigint, last_assigned_at timestamptz,
        team_ids uuid[], inbox_ids uuid[], presence_sequence bigint, directory_sequence bigint)
    on conflict (agent_id) do update set name = excluded.name, active = excluded.active, state = excluded.state,
        state_since = excluded.state_since, in_shift = excluded.in_shift, capacity = excluded.capacity, load = excluded.load, turn = excluded.turn,
        last_assigned_at = excluded.last_assigned_at, team_ids = excluded.team_ids, inbox_ids = excluded.inbox_ids,
        presence_sequence = excluded.presence_sequence, directory_sequence = excluded.directory_sequence
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

_SAVE_HELD = text("""
    insert into conversations_held as h (conversation_id, account_id, inbox_id, channel, state, version, team_id,
        assignee_id, opened_at, queued_at, rank, sequence, by_hand, kept_for, hand_version, reason, decision_id)
    select conversation_id, cast(:account as uuid), inbox_id, channel, state, version, team_id, assignee_id, opened_at,
        queued_at, rank, sequence, by_hand, kept_for, hand_version, reason, decision_id
    from jsonb_to_recordset(cast(:rows as jsonb)) as n (conversation_id uuid, inbox_id uuid, channel text, state text,
        version bigint, team_id uuid, assignee_id uuid, opened_at timestamptz, queued_at timestamptz, rank smallint,
        sequence bigint, by_hand boolean, kept_for uuid, hand_version bigint, reason jsonb, decision_id uuid)
    on conflict (conversation_id) do update set state = excluded.state, version = excluded.version,
        team_id = excluded.team_id, assignee_id = excluded.assignee_id, opened_at = excluded.opened_at,
        queued_at = excluded.queued_at, rank = excluded.rank, sequence = excluded.sequence, by_hand = excluded.by_hand,
        kept_for = excluded.kept_for, hand_version = excluded.hand_version, reason = excluded.reason,
        decision_id = coalesce(excluded.decision_id, h.decision_id)
        where h.account_id = excluded.account_id
""")

_SAVE_AGENTS_THEN = text("""
    insert into agents_then (agent_id, account_id, run, step, active, state, in_shift, capacity, load, team_ids,
        inbox_ids)
    select agent_id, cast(:account as uuid), :run, step, active, state, in_shift, capacity, load, team_ids, inbox_ids
    from jsonb_to_recordset(cast(:rows as jsonb)) as n (agent_id uuid, step integer, active boolean, state text,
        in_shift boolean, capacity integer, load integer, team_ids uuid[], inbox_ids uuid[])
""")

_SAVE_DECISIONS = text("""
    insert into decisions (id, account_id, conversation_id, version, journal_id, run, step, policy_version, kind, mode,
        actor, assignee_id, team_id, from_assignee_id, from_team_id, reason, candidates, excluded, runners_up, queued_at,
        waited_seconds, created_at)
    select id, cast(:account as uuid), conversation_id, version, journal_id, :run, step, policy_version, kind, mode,
        actor, assignee_id, team_id, from_assignee_id, from_team_id, reason, candidates, excluded, runners_up, queued_at,
        waited_seconds, created_at
    from jsonb_to_recordset(cast(:rows as jsonb)) as n (id uuid, conversation_id uuid, version bigint, step integer,
        journal_id bigint, policy_version bigint, kind text, mode text, actor text, assignee_id uuid, team_id uuid,
        from_assignee_id uuid, from_team_id uuid, reason jsonb, candidates integer, excluded jsonb, runners_up uuid[],
        queued_at timestamptz, waited_seconds double precision, created_at timestamptz)
""")

_SAVE_FACTS = text("""
    insert into conversation_facts as f (conversation_id, account_id, inbox_id, number, participant_ids, owner_id,
        sequence)
    select * from jsonb_to_recordset(cast(:rows as jsonb)) as n (conversation_id uuid, account_id uuid, inbox_id uuid,
        number bigint, participant_ids uuid[], owner_id uuid, sequence bigint)
    on conflict (conversation_id) do update set participant_ids = excluded.participant_ids,
        owner_id = excluded.owner_id, sequence = excluded.sequence
        where f.account_id = excluded.account_id and f.sequence < excluded.sequence
""")

_WRONG_LOADS = text("""
    select cast(a.agent_id as text) as agent_id, a.load, count(h.conversation_id) as held
    from agents a
    left join conversations_held h on h.assignee_id = a.agent_id and h.state = 'assigned' and h.account_id = a.account_id
    group by a.agent_id having a.load <> count(h.conversation_id)
""")


@dataclass(frozen=True, slots=True)
class PoolRow:
    """A pool as locked."""

    account_id: str
    policy: Policy
    turn: int
    runs: int
    tells_loads: bool


@dataclass(frozen=True, slots=True)
class Note:
    """An input to write into an account's journal, with the event that brought it."""

    account_id: str
    given: Input
    cause: Envelope | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A row of a journal that cannot be understood."""

    id: int
    error: str


async def append(tx: Tx, notes: Sequence[Note]) -> list[int]:
    """Write inputs into the journals of their accounts, in this order; answers their ids."""
    await tx.execute(_MAKE_POOLS, {"accounts": sorted({note.account_id for note in notes})})
    encoded = [inputs.encode(note.given) for note in notes]
    rows = await tx.execute(
        _APPEND,
        {
            "accounts": [note.account_id for note in notes],
            "kinds": [kind for kind, _ in encoded],
            "payloads": [payload for _, payload in encoded],
            "causes": [None if note.cause is None else json.dumps(note.cause.headers()) for note in notes],
        },
    )
    return sorted(rows.scalars())


async def make_pool(tx: Tx, account_id: str) -> None:
    """Make the account's pool if there is none yet."""
    await tx.execute(_MAKE_POOLS, {"accounts": [account_id]})


async def pending(tx: Tx) -> list[str]:
    """The accounts whose journals hold inputs that nobody has decided on."""
    return list((await tx.execute(_PENDING)).scalars())


async def lock_pool(tx: Tx, account_id: str, *, wait: bool) -> PoolRow | None:
    """Become the matcher of a pool until the transaction ends; None when another one is, or there is no such pool."""
    statement = _LOCK_WAITING if wait else _LOCK_OR_SKIP
    row = (await tx.execute(statement, {"account": account_id})).first()
    return None if row is None else PoolRow(row.account_id, _policy(row), row.turn, row.runs, row.tells_loads)


async def watch_loads(tx: Tx, account_id: str, *, watched: bool) -> PoolRow:
    """Have the loads of an account's agents told from now on, or not any more; the pool is locked then."""
    await tx.execute(_MAKE_POOLS, {"accounts": [account_id]})
    row = (await tx.execute(_WATCH_LOADS, {"account": account_id, "watched": watched})).one()
    return PoolRow(row.account_id, _policy(row), row.turn, row.runs, row.tells_loads)


async def policy(tx: Tx, account_id: str) -> Policy:
    """The account's policy; the default one before anything happened."""
    row = (await tx.execute(_POLICY, {"account": account_id})).first()
    return Policy() if row is None else _policy(row)


def _policy(row: Any) -> Policy:
    return Policy(
        row.strategy,
        row.default_capacity,
        row.busy_as_fallback,
        row.out_of_shift,
        row.owner_first,
        row.owner_absent,
        row.policy_version,
    )


async def take(tx: Tx, account_id: str, limit: int) -> list[Entry | Unreadable]:
    """What waits in the journal, in order. Rows of slower transactions turn up later, with smaller ids."""
    found: list[Entry | Unreadable] = []
    for row in (await tx.execute(_TAKE, {"account": account_id, "limit": limit})).all():
        try:
            given = inputs.decode(row.kind, row.payload)
            cause = None if row.cause is None else Envelope.from_headers(row.cause)
            found.append(Entry(row.id, row.created_at, given, cause))
        except (KeyError, ValueError) as error:
            found.append(Unreadable(row.id, f"{type(error).__name__}: {error}"[:1000]))
    return found


async def done(tx: Tx, run: int, rows: Mapping[int, str | None]) -> None:
    """Mark rows of the journal as decided, with why not where that failed."""
    await tx.execute(_DONE, {"ids": list(rows), "errors": list(rows.values()), "run": run})


async def withdraw(tx: Tx, account_id: str, journal_id: int) -> None:
    """Take an input back that was refused, and so changed nothing; what was decided before it stays."""
    await tx.execute(_WITHDRAW, {"account": account_id, "id": journal_id})


async def wait_for(tx: Tx, rows: Mapping[int, str]) -> None:
    """Put rows aside until the conversation that they name is known."""
    if rows:
        await tx.execute(_WAIT, {"ids": list(rows), "conversations": list(rows.values())})


async def wait_no_more(tx: Tx, account_id: str, conversations: Collection[str]) -> None:
    """These conversations are known now."""
    if conversations:
        await tx.execute(_WAIT_NO_MORE, {"conversations": sorted(conversations), "account": account_id})


async def agents(tx: Tx, account_id: str) -> list[Agent]:
    """Every agent of the account, also those that are gone."""
    return [
        Agent(
            id=row.agent_id,
            name=row.name,
            active=row.active,
            state=row.state,
            state_since=row.state_since,
            in_shift=row.in_shift,
            capacity=row.capacity,
            load=row.load,
            turn=row.turn,
            last_assigned_at=row.last_assigned_at,
            team_ids=frozenset(row.team_ids),
            inbox_ids=None if row.inbox_ids is None else frozenset(row.inbox_ids),
            presence_sequence=row.presence_sequence,
            directory_sequence=row.directory_sequence,
        )
        for row in (await tx.execute(_AGENTS, {"account": account_id})).all()
    ]


async def teams(tx: Tx, account_id: str) -> dict[str, Team]:
    """Every team of the account, also deleted ones, by id."""
    rows = (await tx.execute(_TEAMS, {"account": account_id})).all()
    return {row.team_id: Team(row.team_id, row.name, row.auto_assign, row.deleted, row.sequence) for row in rows}


async def held(tx: Tx, account_id: str, ids: Collection[str]) -> list[Held]:
    """These conversations, those that are known."""
    return await _held(tx, _HELD, account_id, ids)


async def held_of_agents(tx: Tx, account_id: str, ids: Collection[str]) -> list[Held]:
    """The open conversations that these agents hold."""
    return await _held(tx, _HELD_OF_AGENTS, account_id, ids)


async def kept_for(tx: Tx, account_id: str, ids: Collection[str]) -> list[Held]:
    """The conversations that wait for these agents, whose customers they are of."""
    return await _held(tx, _KEPT_FOR, account_id, ids)


async def held_of_teams(tx: Tx, account_id: str, ids: Collection[str]) -> list[Held]:
    """The open conversations of these teams."""
    return await _held(tx, _HELD_OF_TEAMS, account_id, ids)


async def _held(tx: Tx, statement: Any, account_id: str, ids: Collection[str]) -> list[Held]:
    if not ids:
        return []
    rows = await tx.execute(statement, {"account": account_id, "ids": sorted(ids)})
    return [_held_of(row) for row in rows.all()]


def _held_of(row: Any) -> Held:
    return Held(
        id=row.conversation_id,
        inbox_id=row.inbox_id,
        channel=row.channel,
        state=row.state,
        opened_at=row.opened_at,
        version=row.version,
        team_id=row.team_id,
        assignee_id=row.assignee_id,
        queued_at=row.queued_at,
        rank=row.rank,
        sequence=row.sequence,
        by_hand=row.by_hand,
        kept_for=row.kept_for,
        hand_version=row.hand_version,
        reason=None if row.reason is None else Reason.model_construct(**row.reason),
    )


async def waiting_keys(tx: Tx, account_id: str) -> list[GroupKey]:
    """The inboxes and teams that have conversations waiting."""
    rows = await tx.execute(_WAITING_KEYS, {"account": account_id})
    return [(row.inbox_id, row.team_id) for row in rows.all()]


async def heads(
    tx: Tx, account_id: str, wanted: Mapping[GroupKey, Place | None], limit: int
) -> dict[GroupKey, list[Held]]:
    """The next that wait in each of these queues, beyond the given places, at most `limit` each."""
    keys = list(wanted)
    places = list(wanted.values())
    rows = await tx.execute(
        _HEADS,
        {
            "account": account_id,
            "inboxes": [inbox for inbox, _ in keys],
            "teams": [team for _, team in keys],
            "ranks": [place and place[0] for place in places],
            "times": [place and place[1] for place in places],
            "lasts": [place and place[2] for place in places],
            "limit": limit,
        },
    )
    found: dict[GroupKey, list[Held]] = {key: [] for key in keys}
    for row in rows.all():
        found[keys[row.place - 1]].append(_held_of(row))
    return found


async def save_pool(tx: Tx, account_id: str, *, policy: Policy, turn: int, runs: int) -> None:
    """Write the locked pool."""
    await tx.execute(
        _SAVE_POOL,
        {
            "account": account_id,
            "strategy": policy.strategy,
            "default_capacity": policy.default_capacity,
            "busy_as_fallback": policy.busy_as_fallback,
            "out_of_shift": policy.out_of_shift,
            "owner_first": policy.owner_first,
            "owner_absent": policy.owner_absent,
            "policy_version": policy.version,
            "turn": turn,
            "runs": runs,
        },
    )


async def save_agents(tx: Tx, account_id: str, changed: Iterable[Agent]) -> None:
    """Write agents of a locked pool."""
    rows = [
        {
            "agent_id": one.id,
            "name": one.name,
            "active": one.active,
            "state": one.state,
            "state_since": _text(one.state_since),
            "in_shift": one.in_shift,
            "capacity": one.capacity,
            "load": one.load,
            "turn": one.turn,
            "last_assigned_at": _text(one.last_assigned_at),
            "team_ids": sorted(one.team_ids),
            "inbox_ids": None if one.inbox_ids is None else sorted(one.inbox_ids),
            "presence_sequence": one.presence_sequence,
            "directory_sequence": one.directory_sequence,
        }
        for one in changed
    ]
    if rows:
        await tx.execute(_SAVE_AGENTS, {"account": account_id, "rows": json.dumps(rows)})


async def save_agents_then(tx: Tx, account_id: str, run: int, changed: Mapping[tuple[str, int], Agent]) -> None:
    """Keep what agents became in a run of a locked pool, each by how many of its decisions had been made before."""
    rows = [
        {
            "agent_id": agent_id,
            "step": step,
            "active": one.active,
            "state": one.state,
            "in_shift": one.in_shift,
            "capacity": one.capacity,
            "load": one.load,
            "team_ids": sorted(one.team_ids),
            "inbox_ids": None if one.inbox_ids is None else sorted(one.inbox_ids),
        }
        for (agent_id, step), one in changed.items()
    ]
    if rows:
        await tx.execute(_SAVE_AGENTS_THEN, {"account": account_id, "run": run, "rows": json.dumps(rows)})


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


async def save_held(tx: Tx, account_id: str, changed: Iterable[Held], decision_of: Mapping[str, str]) -> None:
    """Write who holds what in a locked pool; `decision_of` gives the last decision of each conversation."""
    rows = [
        {
            "conversation_id": one.id,
            "inbox_id": one.inbox_id,
            "channel": one.channel,
            "state": one.state,
            "version": one.version,
            "team_id": one.team_id,
            "assignee_id": one.assignee_id,
            "opened_at": _text(one.opened_at),
            "queued_at": _text(one.queued_at),
            "rank": one.rank,
            "sequence": one.sequence,
            "by_hand": one.by_hand,
            "kept_for": one.kept_for,
            "hand_version": one.hand_version,
            "reason": None if one.reason is None else _reason(one.reason),
            "decision_id": decision_of.get(one.id),
        }
        for one in changed
    ]
    if rows:
        await tx.execute(_SAVE_HELD, {"account": account_id, "rows": json.dumps(rows)})


async def save_decisions(tx: Tx, account_id: str, run: int, made: Sequence[tuple[str, Decision]]) -> None:
    """Keep decisions, each with its id."""
    rows = [
        {
            "id": decision_id,
            "conversation_id": one.conversation_id,
            "version": one.version,
            "step": step,
            "journal_id": one.entry.id,
            "policy_version": one.policy_version,
            "kind": one.kind,
            "mode": one.mode,
            "actor": one.actor,
            "assignee_id": one.assignee_id,
            "team_id": one.team_id,
            "from_assignee_id": one.from_assignee_id,
            "from_team_id": one.from_team_id,
            "reason": _reason(one.reason),
            "candidates": one.candidates,
            "excluded": dict(one.excluded),
            "runners_up": list(one.runners_up),
            "queued_at": _text(one.queued_at),
            "waited_seconds": one.waited_seconds,
            "created_at": _text(one.entry.at),
        }
        for step, (decision_id, one) in enumerate(made)
    ]
    if rows:
        await tx.execute(_SAVE_DECISIONS, {"account": account_id, "run": run, "rows": json.dumps(rows)})


async def save_facts(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write what the access rule needs of conversations; an older sequence changes nothing."""
    if rows:
        ordered = sorted(rows, key=lambda row: str(row["conversation_id"]))
        await tx.execute(_SAVE_FACTS, {"rows": json.dumps(ordered)})


async def wrong_loads(tx: Tx) -> list[tuple[str, int, int]]:
    """The consistency check: agents whose load is not the number of open conversations they hold (load, held)."""
    return [(row.agent_id, row.load, row.held) for row in (await tx.execute(_WRONG_LOADS)).all()]


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat()


def _reason(reason: Reason) -> dict[str, str]:
    return {"code": reason.code, "es": reason.es, "en": reason.en}

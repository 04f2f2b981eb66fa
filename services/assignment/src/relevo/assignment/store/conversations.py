"""SQL of conversations: who holds them, which wait, and what the access rule needs of them."""

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from sqlalchemy import text

from relevo.assignment.domain.held import Had, Held, Place
from relevo.assignment.domain.roster import GroupKey
from relevo.assignment.domain.skills import needs_of
from relevo.chassis.database import Tx
from relevo.contracts.assignment import Reason

_ABOVE_ALL = 4
"""A rank that no conversation has: the highest is 3."""

_HELD_COLUMNS = """
    cast(conversation_id as text) as conversation_id, cast(inbox_id as text) as inbox_id, channel, state, version,
    cast(team_id as text) as team_id, cast(assignee_id as text) as assignee_id, opened_at, queued_at, rank, sequence,
    by_hand, cast(kept_for as text) as kept_for, hand_version, reason, held_since, customer_since, since,
    answered_at, weight, facts, rule, cast(contact_id as text) as contact_id, cast(had_by as text) as had_by, had_at,
    cast(passed as text[]) as passed, cast(declined as text[]) as declined, needs, cast(offered_to as text) as offered_to,
    offered_at, offered_until, notices, noticed_at
"""
_HELD = text(f"""
    select {_HELD_COLUMNS} from conversations_held
    where account_id = cast(:account as uuid) and conversation_id = any(cast(:ids as uuid[]))
""")
_HELD_OF_AGENTS = text(f"""
    select {_HELD_COLUMNS} from conversations_held
    where account_id = cast(:account as uuid) and assignee_id = any(cast(:ids as uuid[])) and state = 'assigned'
""")
_OFFERED_TO = text(f"""
    select {_HELD_COLUMNS} from conversations_held
    where account_id = cast(:account as uuid) and offered_to = any(cast(:ids as uuid[])) and state = 'offered'
""")
_KEPT_FOR = text(f"""
    select {_HELD_COLUMNS} from conversations_held
    where account_id = cast(:account as uuid) and kept_for = any(cast(:ids as uuid[])) and state = 'unassigned'
""")
_QUEUED = text(f"""
    select {_HELD_COLUMNS} from conversations_held where account_id = cast(:account as uuid) and state = 'queued'
""")
# Apart from those that wait, so that each goes by an index of its own.
_LYING = text(f"""
    select {_HELD_COLUMNS} from conversations_held where account_id = cast(:account as uuid) and state = 'unassigned'
""")
_HELD_OF_TEAMS = text(f"""
    select {_HELD_COLUMNS} from conversations_held
    where account_id = cast(:account as uuid) and team_id = any(cast(:ids as uuid[])) and state <> 'closed'
""")

# Hops from key to key through the index, however many conversations wait under each.
_WAITING_KEYS = text("""
    with recursive keys as (
        (select inbox_id, team_id, passed, declined, channel, rule, needs, queue_key from conversations_held
         where account_id = cast(:account as uuid) and state = 'queued'
         order by inbox_id, queue_key limit 1)
        union all
        select next.* from keys cross join lateral (
            select inbox_id, team_id, passed, declined, channel, rule, needs, queue_key from conversations_held
            where account_id = cast(:account as uuid) and state = 'queued'
              and (inbox_id, queue_key) > (keys.inbox_id, keys.queue_key)
            order by inbox_id, queue_key limit 1
        ) next
    )
    select cast(inbox_id as text) as inbox_id, cast(team_id as text) as team_id, cast(passed || declined as text[]) as passed,
           channel, rule, needs
    from keys
""")

# The first of each queue: what a drain asks for mostly. In the order of the places, which two indexes have: whichever is
# taken, nothing is sorted, also while the database has no statistics of a new account yet.
_FIRST = text(f"""
    select q.place, h.* from unnest(cast(:inboxes as uuid[]), cast(:keys as uuid[])) with ordinality as q (inbox, key, place)
    cross join lateral (
        select {_HELD_COLUMNS} from conversations_held c
        where c.account_id = cast(:account as uuid) and c.state = 'queued' and c.inbox_id = q.inbox
          and c.queue_key = q.key
        order by -c.rank, c.queued_at, c.conversation_id limit :limit
    ) h
    order by q.place
""")

# What stands behind a place in two steps, the rest of its rank and the lower ranks: the index answers each from where it
# begins. Comparing minus a rank, or with what is computed from another table, is not leakproof: it would be a filter.
_HEADS = text(f"""
    select q.place, h.* from unnest(
        cast(:inboxes as uuid[]), cast(:keys as uuid[]), cast(:ranks as smallint[]), cast(:times as timestamptz[]),
        cast(:lasts as uuid[])) with ordinality as q (inbox, key, last_rank, last_at, last_id, place)
    cross join lateral (
        select one.* from (
            (select {_HELD_COLUMNS} from conversations_held c
             where c.account_id = cast(:account as uuid) and c.state = 'queued' and c.inbox_id = q.inbox
               and c.queue_key = q.key and c.rank = q.last_rank
               and (c.queued_at, c.conversation_id) > (q.last_at, q.last_id)
             order by c.queued_at, c.conversation_id limit :limit)
            union all
            (select {_HELD_COLUMNS} from conversations_held c
             where c.account_id = cast(:account as uuid) and c.state = 'queued' and c.inbox_id = q.inbox
               and c.queue_key = q.key and c.rank < q.last_rank
             order by c.rank desc, c.queued_at, c.conversation_id limit :limit)
        ) one
        order by one.rank desc, one.queued_at, one.conversation_id collate "C" limit :limit
    ) h
    order by q.place
""")

# One step in the index for each contact, however many conversations they have had.
_HAD = text("""
    select cast(c.id as text) as contact_id, h.* from unnest(cast(:contacts as uuid[])) as c (id)
    cross join lateral (
        select had_at, cast(conversation_id as text) as conversation_id, cast(had_by as text) as had_by,
               state = 'assigned' as still
        from conversations_held o
        where account_id = cast(:account as uuid) and contact_id = c.id and had_at is not null
        order by o.had_at desc, o.conversation_id desc limit 1
    ) h
""")

# Where waiting weighs against priority: from the index the next ones of each rank, and of these the first.
_HEADS_WEIGHED = text(f"""
    with begins as materialized (
        select q.place, q.inbox, q.key, cast(r.rank as smallint) as rank, coalesce(q.last_id, cast(:least as uuid)) as last_id,
               coalesce(q.last_at + make_interval(secs => cast(:worth as double precision) * r.rank), '-infinity') as last_at
        from unnest(cast(:inboxes as uuid[]), cast(:keys as uuid[]), cast(:times as timestamptz[]), cast(:lasts as uuid[]))
            with ordinality as q (inbox, key, last_at, last_id, place)
        cross join generate_series(0, 3) as r (rank)
    ), next as (
        select q.place, h.*, row_number() over (
            partition by q.place
            order by h.queued_at - make_interval(secs => cast(:worth as double precision) * h.rank), h.conversation_id collate "C"
        ) as turn
        from begins q cross join lateral (
            select {_HELD_COLUMNS} from conversations_held c
            where c.account_id = cast(:account as uuid) and c.state = 'queued' and c.inbox_id = q.inbox
              and c.queue_key = q.key and c.rank = q.rank
              and (c.queued_at, c.conversation_id) > (q.last_at, q.last_id)
            order by c.queued_at, c.conversation_id limit :limit
        ) h
    )
    select * from next where turn <= :limit order by place, turn
""")

_SAVE_HELD = text("""
    insert into conversations_held as h (conversation_id, account_id, inbox_id, channel, state, version, team_id,
        assignee_id, opened_at, queued_at, rank, sequence, by_hand, kept_for, hand_version, reason, decision_id,
        held_since, customer_since, passed, queue_key, since, answered_at, weight, facts, rule, contact_id, had_by, had_at, needs,
        declined, offered_to, offered_at, offered_until, notices, noticed_at)
    select conversation_id, cast(:account as uuid), inbox_id, channel, state, version, team_id, assignee_id, opened_at,
        queued_at, rank, sequence, by_hand, kept_for, hand_version, reason, decision_id,
        held_since, customer_since, passed, queue_key, since, answered_at, weight, facts, rule, contact_id, had_by, had_at, needs,
        declined, offered_to, offered_at, offered_until, notices, noticed_at
    from jsonb_to_recordset(cast(:rows as jsonb)) as n (conversation_id uuid, inbox_id uuid, channel text, state text,
        version bigint, team_id uuid, assignee_id uuid, opened_at timestamptz, queued_at timestamptz, rank smallint,
        sequence bigint, by_hand boolean, kept_for uuid, hand_version bigint, reason jsonb, decision_id uuid,
        held_since timestamptz, customer_since timestamptz, passed uuid[],
        declined uuid[], offered_to uuid, offered_at timestamptz, offered_until timestamptz, notices smallint,
        noticed_at timestamptz, queue_key uuid, since timestamptz, answered_at timestamptz, weight integer, facts jsonb, rule text,
        contact_id uuid, had_by uuid, had_at timestamptz, needs jsonb)
    on conflict (conversation_id) do update set state = excluded.state, version = excluded.version,
        team_id = excluded.team_id, assignee_id = excluded.assignee_id, opened_at = excluded.opened_at,
        since = excluded.since, queued_at = excluded.queued_at, rank = excluded.rank, sequence = excluded.sequence, by_hand = excluded.by_hand,
        kept_for = excluded.kept_for, hand_version = excluded.hand_version, reason = excluded.reason,
        held_since = excluded.held_since, customer_since = excluded.customer_since, passed = excluded.passed,
        queue_key = excluded.queue_key, answered_at = excluded.answered_at, weight = excluded.weight,
        facts = excluded.facts, rule = excluded.rule, contact_id = excluded.contact_id, had_by = excluded.had_by,
        had_at = excluded.had_at, needs = excluded.needs, declined = excluded.declined, offered_to = excluded.offered_to,
        offered_at = excluded.offered_at, offered_until = excluded.offered_until,
        notices = excluded.notices, noticed_at = excluded.noticed_at,
        decision_id = coalesce(excluded.decision_id, h.decision_id)
        where h.account_id = excluded.account_id
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


async def held(tx: Tx, account_id: str, ids: Collection[str]) -> list[Held]:
    """These conversations, those that are known."""
    return await _held(tx, _HELD, account_id, ids)


async def held_of_agents(tx: Tx, account_id: str, ids: Collection[str]) -> list[Held]:
    """The open conversations that these agents hold."""
    return await _held(tx, _HELD_OF_AGENTS, account_id, ids)


async def offered_to(tx: Tx, account_id: str, ids: Collection[str]) -> list[Held]:
    """The conversations that are offered to these agents."""
    return await _held(tx, _OFFERED_TO, account_id, ids)


async def kept_for(tx: Tx, account_id: str, ids: Collection[str]) -> list[Held]:
    """The conversations that wait for these agents, whose customers they are of."""
    return await _held(tx, _KEPT_FOR, account_id, ids)


async def held_of_teams(tx: Tx, account_id: str, ids: Collection[str]) -> list[Held]:
    """The open conversations of these teams."""
    return await _held(tx, _HELD_OF_TEAMS, account_id, ids)


async def queued(tx: Tx, account_id: str) -> list[Held]:
    """All that wait: for what concerns them all, which is seldom."""
    return [_held_of(row) for row in (await tx.execute(_QUEUED, {"account": account_id})).all()]


async def lying(tx: Tx, account_id: str) -> list[Held]:
    """All that are open and neither wait nor have an agent; likewise."""
    return [_held_of(row) for row in (await tx.execute(_LYING, {"account": account_id})).all()]


async def _held(tx: Tx, statement: Any, account_id: str, ids: Collection[str]) -> list[Held]:
    if not ids:
        return []
    rows = await tx.execute(statement, {"account": account_id, "ids": sorted(ids)})
    return [_held_of(row) for row in rows.all()]


def _queue_key(key: GroupKey) -> str:
    """What stands for team, passed over, rule and needs in the index: comparing nulls and arrays is not leakproof, and so uses none."""
    if not key.passed and not key.rule:
        return key.team_id or str(UUID(int=0))
    rule = (f"rule {key.rule}",) if key.rule else ()
    needs = (f"needs {json.dumps(key.needs)}",) if key.needs else ()
    return str(uuid5(NAMESPACE_OID, ",".join((key.team_id or "", *key.passed, *rule, *needs))))


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
        since=row.since,
        held_since=row.held_since,
        customer_since=row.customer_since,
        answered_at=row.answered_at,
        weight=row.weight,
        facts=row.facts,
        rule=row.rule,
        contact_id=row.contact_id,
        had_by=row.had_by,
        had_at=row.had_at,
        passed=tuple(row.passed),
        declined=tuple(row.declined),
        offered_to=row.offered_to,
        offered_at=row.offered_at,
        offered_until=row.offered_until,
        notices=row.notices,
        noticed_at=row.noticed_at,
        needs=needs_of(row.needs),
    )


async def waiting_keys(tx: Tx, account_id: str) -> list[GroupKey]:
    """The inboxes and teams that have conversations waiting."""
    rows = await tx.execute(_WAITING_KEYS, {"account": account_id})
    return [
        GroupKey(row.inbox_id, row.team_id, tuple(sorted(set(row.passed))), row.channel, row.rule, needs_of(row.needs))
        for row in rows.all()
    ]


async def heads(
    tx: Tx, account_id: str, wanted: Mapping[GroupKey, Place | None], limit: int, *, worth: int | None
) -> dict[GroupKey, list[Held]]:
    """The next that wait in each of these queues, beyond the given places, at most `limit` each. `worth`: as `Held.place`."""
    keys = list(wanted)
    places = list(wanted.values())
    given = {
        "account": account_id,
        "inboxes": [key.inbox_id for key in keys],
        "keys": [_queue_key(key) for key in keys],
        "limit": limit,
    }
    begins = {"times": [place and place[1] for place in places], "lasts": [place and place[2] for place in places]}
    if worth is not None:
        rows = await tx.execute(_HEADS_WEIGHED, given | begins | {"worth": worth, "least": str(UUID(int=0))})
    elif any(places):
        ranks = [_ABOVE_ALL if place is None else -place[0] for place in places]
        rows = await tx.execute(_HEADS, given | begins | {"ranks": ranks})
    else:
        rows = await tx.execute(_FIRST, given)
    found: dict[GroupKey, list[Held]] = {key: [] for key in keys}
    for row in rows.all():
        found[keys[row.place - 1]].append(_held_of(row))
    return found


async def had(tx: Tx, account_id: str, contacts: Collection[str]) -> dict[str, Had]:
    """Who had the last conversation of each of these contacts, where anybody had one."""
    if not contacts:
        return {}
    rows = await tx.execute(_HAD, {"account": account_id, "contacts": sorted(contacts)})
    return {row.contact_id: Had(row.had_at, row.conversation_id, row.had_by, row.still) for row in rows.all()}


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
            "opened_at": one.opened_at,
            "queued_at": one.queued_at,
            "rank": one.rank,
            "sequence": one.sequence,
            "by_hand": one.by_hand,
            "kept_for": one.kept_for,
            "hand_version": one.hand_version,
            "reason": None if one.reason is None else dict(one.reason),
            "decision_id": decision_of.get(one.id),
            "since": one.since,
            "held_since": one.held_since,
            "customer_since": one.customer_since,
            "answered_at": one.answered_at,
            "weight": one.weight,
            "facts": dict(one.facts),
            "rule": one.rule,
            "contact_id": one.contact_id,
            "had_by": one.had_by,
            "had_at": one.had_at,
            "passed": list(one.passed),
            "declined": list(one.declined),
            "offered_to": one.offered_to,
            "offered_at": one.offered_at,
            "offered_until": one.offered_until,
            "notices": one.notices,
            "noticed_at": one.noticed_at,
            "needs": dict(one.needs),
            "queue_key": _queue_key(one.key),
        }
        for one in changed
    ]
    if rows:
        await tx.execute(_SAVE_HELD, {"account": account_id, "rows": json.dumps(rows, default=datetime.isoformat)})


async def save_facts(tx: Tx, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write what the access rule needs of conversations; an older sequence changes nothing."""
    if rows:
        ordered = sorted(rows, key=lambda row: str(row["conversation_id"]))
        await tx.execute(_SAVE_FACTS, {"rows": json.dumps(ordered)})

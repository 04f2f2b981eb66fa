"""People's notifications: told once until they are read, new ones fold the older; reading, snoozing, and forgetting."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import ColumnElement, Select, and_, func, or_, select, text

from relevo.chassis.conversation_facts import conversation_facts as facts
from relevo.chassis.database import Tx
from relevo.kernel.access import ConversationColumns, Viewer, visible
from relevo.notification.tables import notifications

State = Literal["all", "unread", "snoozed"]


@dataclass(frozen=True, slots=True)
class NewNotification:
    """A row of somebody's list, or more of what it says; ``folds``: how many it stands for."""

    id: str
    account_id: str
    agent_id: str
    kind: str
    dedup_key: str
    conversation_id: str | None
    title: str
    body: str
    created_at: datetime
    folds: int = 1


@dataclass(frozen=True, slots=True)
class Seen:
    """An agent saw a conversation at a moment: what they were told of it until then is read."""

    account_id: str
    agent_id: str
    conversation_id: str
    at: datetime


# No index has a column that this changes, so that it costs the row alone (HOT); one that is snoozed is told anew.
_COUNT = text("""
    update notifications o
    set folds = o.folds + n.folds, title = n.title, body = n.body, created_at = greatest(o.created_at, n.created_at)
    from unnest(
        cast(:accounts as uuid[]), cast(:agents as uuid[]), cast(:conversations as uuid[]), cast(:kinds as text[]),
        cast(:titles as text[]), cast(:bodies as text[]), cast(:created as timestamptz[]), cast(:folds as integer[]))
        as n(account_id, agent_id, conversation_id, kind, title, body, created_at, folds)
    cross join lateral (
        select m.id from notifications m
        where m.conversation_id = n.conversation_id and m.agent_id = n.agent_id and m.account_id = n.account_id
          and m.read_at is null and m.folded_into is null
        order by m.id desc limit 1) newest
    where o.id = newest.id and o.kind = n.kind and o.snoozed_until is null and o.read_at is null
      and o.folded_into is null
    returning cast(o.id as text) as id, cast(o.agent_id as text) as agent_id,
              cast(o.conversation_id as text) as conversation_id
""")
_ADD = text("""
    insert into notifications
        (id, account_id, agent_id, kind, dedup_key, conversation_id, title, body, created_at, folds)
    select * from unnest(
        cast(:ids as uuid[]), cast(:accounts as uuid[]), cast(:agents as uuid[]), cast(:kinds as text[]),
        cast(:dedup_keys as text[]), cast(:conversations as uuid[]), cast(:titles as text[]), cast(:bodies as text[]),
        cast(:created as timestamptz[]), cast(:folds as integer[]))
    on conflict (account_id, dedup_key) do nothing
    returning cast(id as text) as id
""")
_FOLD = text("""
    with newest as (
        select * from unnest(cast(:ids as uuid[]), cast(:accounts as uuid[]), cast(:agents as uuid[]),
                             cast(:conversations as uuid[])) as n(id, account_id, agent_id, conversation_id)
    ), folded as (
        update notifications o set folded_into = n.id from newest n
        where o.account_id = n.account_id and o.agent_id = n.agent_id and o.conversation_id = n.conversation_id
          and o.id <> n.id and o.read_at is null and o.folded_into is null
        returning n.id as into_id, o.folds
    )
    update notifications k set folds = k.folds + f.folds
    from (select into_id, sum(folds) as folds from folded group by into_id) f where k.id = f.into_id
""")
_SEE = text("""
    update notifications o set read_at = s.at
    from unnest(cast(:accounts as uuid[]), cast(:agents as uuid[]), cast(:conversations as uuid[]),
                cast(:ats as timestamptz[])) as s(account_id, agent_id, conversation_id, at)
    where o.account_id = s.account_id and o.agent_id = s.agent_id and o.conversation_id = s.conversation_id
      and o.read_at is null and o.folded_into is null and o.created_at <= s.at
    returning cast(o.id as text) as id, cast(o.account_id as text) as account_id, cast(o.agent_id as text) as agent_id,
              cast(o.conversation_id as text) as conversation_id, s.at
""")
_SET = """
    update notifications set {change}
    where account_id = cast(:account as uuid) and agent_id = cast(:agent as uuid) and id = cast(:id as uuid)
    returning cast(id as text) as id, kind, cast(conversation_id as text) as conversation_id, title, body, created_at,
              read_at, snoozed_until, folds
"""
_READ = text(_SET.format(change="read_at = coalesce(read_at, :now), snoozed_until = null"))
_UNREAD = text(_SET.format(change="read_at = null"))
_SNOOZE = text(_SET.format(change="read_at = null, snoozed_until = :until"))
_READ_ALL = text("""
    update notifications set read_at = :now
    where account_id = cast(:account as uuid) and agent_id = cast(:agent as uuid) and read_at is null
      and (snoozed_until is null or snoozed_until <= :now)
""")
_WAKE = text("""
    update notifications set snoozed_until = null
    from unnest(cast(:ids as uuid[]), cast(:dues as timestamptz[])) as d(id, due)
    where notifications.id = d.id and snoozed_until = d.due and read_at is null and folded_into is null
    returning cast(notifications.id as text) as id, cast(account_id as text) as account_id,
              cast(agent_id as text) as agent_id, kind, cast(conversation_id as text) as conversation_id, title, body,
              created_at
""")
_FORGET_BATCH: Final = 5000
# By ids, which are in the order of time: an index of the time itself would make counting dear.
_FORGET = text("""
    delete from notifications where id in (
        select id from notifications
        where id < cast(:bound as uuid)
          and (created_at < :before or (folded_into is not null and created_at < :folded_before))
        order by id limit :limit)
""")


async def count(tx: Tx, rows: Sequence[NewNotification]) -> dict[tuple[str, str], str]:
    """Have what is told and not read yet of the same kind and conversation say these, too, and stand for them.

    One row an agent and conversation; answers by them which they were counted in. What is not there must be added.
    """
    if not rows:
        return {}
    counted = await tx.execute(
        _COUNT,
        {
            "accounts": [row.account_id for row in rows],
            "agents": [row.agent_id for row in rows],
            "conversations": [row.conversation_id for row in rows],
            "kinds": [row.kind for row in rows],
            "titles": [row.title for row in rows],
            "bodies": [row.body for row in rows],
            "created": [row.created_at for row in rows],
            "folds": [row.folds for row in rows],
        },
    )
    return {(row.agent_id, row.conversation_id): row.id for row in counted}


async def add(tx: Tx, rows: Sequence[NewNotification]) -> set[str]:
    """Add those whose dedup key is new, each folding what is unread of the same conversation; answers the added ids."""
    if not rows:
        return set()
    added = await tx.execute(
        _ADD,
        {
            "ids": [row.id for row in rows],
            "accounts": [row.account_id for row in rows],
            "agents": [row.agent_id for row in rows],
            "kinds": [row.kind for row in rows],
            "dedup_keys": [row.dedup_key for row in rows],
            "conversations": [row.conversation_id for row in rows],
            "titles": [row.title for row in rows],
            "bodies": [row.body for row in rows],
            "created": [row.created_at for row in rows],
            "folds": [row.folds for row in rows],
        },
    )
    ids = set(added.scalars())
    newest = {(row.agent_id, row.conversation_id): row for row in rows if row.id in ids and row.conversation_id}
    if newest:
        await tx.execute(
            _FOLD,
            {
                "ids": [row.id for row in newest.values()],
                "accounts": [row.account_id for row in newest.values()],
                "agents": [row.agent_id for row in newest.values()],
                "conversations": [row.conversation_id for row in newest.values()],
            },
        )
    return ids


async def see(tx: Tx, seen: Sequence[Seen]) -> Sequence[Any]:
    """Mark as read what these agents were told of conversations until they saw them; answers what that was."""
    if not seen:
        return ()
    latest: dict[tuple[str, str], Seen] = {}
    for one in seen:
        before = latest.get((one.agent_id, one.conversation_id))
        if before is None or one.at > before.at:
            latest[one.agent_id, one.conversation_id] = one
    rows = await tx.execute(
        _SEE,
        {
            "accounts": [one.account_id for one in latest.values()],
            "agents": [one.agent_id for one in latest.values()],
            "conversations": [one.conversation_id for one in latest.values()],
            "ats": [one.at for one in latest.values()],
        },
    )
    return rows.all()


async def listed(  # noqa: PLR0917
    tx: Tx, viewer: Viewer, state: State, after: tuple[bool, str] | None, limit: int, now: datetime
) -> Sequence[Any]:
    """An agent's notifications, unread first, the newest first among each.

    Of conversations that the agent may not see any more, and of those folded into newer ones, none.
    """
    n = notifications.c
    was_read = n.read_at.is_not(None)
    chosen = select(
        n.id, n.kind, n.conversation_id, n.title, n.body, n.created_at, n.read_at, n.snoozed_until, n.folds
    ).order_by(was_read, n.id.desc())
    query = _of(chosen, viewer).where(_in_state(state, now)).limit(limit)
    if after is not None:
        read, id_ = after
        later = and_(was_read.is_(read), n.id < UUID(id_))
        query = query.where(later if read else or_(was_read, later))
    return (await tx.execute(query)).mappings().all()


async def unread(tx: Tx, viewer: Viewer, now: datetime) -> int:
    """How many an agent has not read, snoozed ones apart."""
    query = _of(select(func.count()), viewer).where(_in_state("unread", now))
    found: int = (await tx.execute(query)).scalar_one()
    return found


async def is_shown(tx: Tx, viewer: Viewer, id_: str) -> bool:
    """Whether this is a notification of the agent's that is not about a conversation which they may not see any more."""
    query = _shown_to(select(notifications.c.id), viewer).where(notifications.c.id == UUID(id_))
    return (await tx.execute(query)).first() is not None


def _of(query: Select[Any], viewer: Viewer) -> Select[Any]:
    return _shown_to(query, viewer).where(notifications.c.folded_into.is_(None))


def _shown_to(query: Select[Any], viewer: Viewer) -> Select[Any]:
    n = notifications.c
    seen = visible(viewer, ConversationColumns.of(dict(facts.c.items())))
    joined = notifications.outerjoin(facts, and_(facts.c.id == n.conversation_id, facts.c.account_id == n.account_id))
    assert viewer.agent_id is not None
    return query.select_from(joined).where(
        n.account_id == UUID(viewer.account_id),
        n.agent_id == UUID(viewer.agent_id),
        or_(n.conversation_id.is_(None), seen),
    )


def _in_state(state: State, now: datetime) -> ColumnElement[bool]:
    n = notifications.c
    awake = or_(n.snoozed_until.is_(None), n.snoozed_until <= now)
    match state:
        case "all":
            return awake
        case "unread":
            return and_(n.read_at.is_(None), awake)
        case "snoozed":
            return and_(n.read_at.is_(None), n.snoozed_until > now)


async def read(tx: Tx, account_id: str, agent_id: str, id_: str, now: datetime) -> Any:
    """Mark one as read; its row, None when the agent has no such one."""
    where = {"account": account_id, "agent": agent_id, "id": id_, "now": now}
    return (await tx.execute(_READ, where)).mappings().first()


async def not_read(tx: Tx, account_id: str, agent_id: str, id_: str) -> Any:
    """Mark one as unread again; its row, None when the agent has no such one."""
    where = {"account": account_id, "agent": agent_id, "id": id_}
    return (await tx.execute(_UNREAD, where)).mappings().first()


async def snooze(tx: Tx, account_id: str, agent_id: str, id_: str, until: datetime) -> Any:
    """Put one away until then, as unread; its row, None when the agent has no such one."""
    where = {"account": account_id, "agent": agent_id, "id": id_, "until": until}
    return (await tx.execute(_SNOOZE, where)).mappings().first()


async def wake(tx: Tx, due: Sequence[tuple[str, datetime]]) -> Sequence[Any]:
    """Bring back those that are snoozed until exactly then; what was read, moved or folded meanwhile is left alone."""
    values = {"ids": [id_ for id_, _ in due], "dues": [at for _, at in due]}
    return (await tx.execute(_WAKE, values)).all()


async def read_all(tx: Tx, account_id: str, agent_id: str, now: datetime) -> int:
    """Mark all of an agent's as read, those apart that are snoozed; answers how many that were."""
    return (await tx.execute(_READ_ALL, {"account": account_id, "agent": agent_id, "now": now})).rowcount


async def forget(tx: Tx, before: datetime, folded_before: datetime) -> bool:
    """Delete what is older, a batch at most; tells whether more may be left."""
    bound = UUID(int=int(max(before, folded_before).timestamp() * 1000) << 80)
    values = {"before": before, "folded_before": folded_before, "bound": bound, "limit": _FORGET_BATCH}
    return (await tx.execute(_FORGET, values)).rowcount == _FORGET_BATCH

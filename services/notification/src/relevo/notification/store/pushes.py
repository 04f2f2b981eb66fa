"""Devices that subscribed to web push, and the pushes that wait."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import text

from relevo.chassis.database import Tx

DEVICES: Final = 20
"""Of one agent; the oldest makes room."""


@dataclass(frozen=True, slots=True)
class NewPush:
    """Something for all devices of an agent."""

    account_id: str
    agent_id: str
    dedup_key: str
    payload: str
    topic: str | None
    conversation_id: str | None
    notification_id: str | None
    created_at: datetime
    useless_after: datetime | None


_SUBSCRIBE = text("""
    insert into push_subscriptions (id, account_id, agent_id, endpoint, point, secret, device, created_at)
    values (cast(:id as uuid), cast(:account as uuid), cast(:agent as uuid), :endpoint, :point, :secret, :device, :now)
    on conflict (endpoint) do update
        set account_id = excluded.account_id, agent_id = excluded.agent_id, point = excluded.point,
            secret = excluded.secret, device = excluded.device
    returning cast(id as text) as id, endpoint, device, created_at
""")
_MAKE_ROOM = text("""
    delete from push_subscriptions where account_id = cast(:account as uuid) and id in (
        select id from push_subscriptions where account_id = cast(:account as uuid) and agent_id = cast(:agent as uuid)
        order by created_at desc, id desc offset :most)
""")
_OWNERS = text("""
    select distinct cast(agent_id as text) from push_subscriptions
    where account_id = any(cast(:accounts as uuid[])) and agent_id = any(cast(:agents as uuid[]))
""")
_LIST = text("""
    select cast(id as text) as id, endpoint, device, created_at from push_subscriptions
    where account_id = cast(:account as uuid) and agent_id = cast(:agent as uuid) order by created_at desc, id desc
""")
_UNSUBSCRIBE = text("""
    delete from push_subscriptions
    where account_id = cast(:account as uuid) and agent_id = cast(:agent as uuid) and id = cast(:id as uuid)
""")
_GONE = text("delete from push_subscriptions where id = cast(:id as uuid)")
_ADD = text("""
    insert into pushes (account_id, agent_id, subscription_id, dedup_key, payload, topic, conversation_id,
                        notification_id, created_at, next_at, useless_after)
    select n.account_id, n.agent_id, s.id, n.dedup_key, n.payload, n.topic, n.conversation_id, n.notification_id,
           n.created_at, n.created_at, n.useless_after
    from unnest(
        cast(:accounts as uuid[]), cast(:agents as uuid[]), cast(:dedup_keys as text[]), cast(:payloads as text[]),
        cast(:topics as text[]), cast(:conversations as uuid[]), cast(:notifications as uuid[]),
        cast(:created as timestamptz[]), cast(:useless as timestamptz[]))
        as n(account_id, agent_id, dedup_key, payload, topic, conversation_id, notification_id, created_at, useless_after)
    join push_subscriptions s on s.account_id = n.account_id and s.agent_id = n.agent_id
    on conflict (subscription_id, dedup_key) do nothing
""")
# The claim: an attempt that dies with its process is made again when the claim runs out.
_CLAIM = text("""
    with due as (
        update pushes set attempts = attempts + 1, next_at = now() + make_interval(secs => :claim)
        where id in (
            select id from pushes where state = 'waiting' and next_at <= now() order by next_at limit :limit
            for update skip locked)
        returning *
    )
    select due.id, cast(due.account_id as text) as account_id, cast(due.agent_id as text) as agent_id, payload, topic,
           cast(due.conversation_id as text) as conversation_id, attempts, useless_after,
           n.read_at is not null as seen, cast(s.id as text) as subscription_id, s.endpoint, s.point, s.secret
    from due
    join push_subscriptions s on s.id = due.subscription_id
    left join notifications n on n.id = due.notification_id
""")
# What was told is kept no longer than the dedup key needs; its text is not kept at all.
_DONE = text("""
    update pushes set state = :state, next_at = null, error = :error, payload = '' where id = :id
""")
_AGAIN = text("""
    update pushes set next_at = now() + make_interval(secs => :delay), error = :error where id = :id
""")
_FORGET_BATCH: Final = 5000
_FORGET = text("""
    delete from pushes where id in (
        select id from pushes where created_at < :before and state <> 'waiting' order by created_at limit :limit)
""")


async def subscribe(
    tx: Tx,
    account_id: str,
    agent_id: str,
    id_: str,
    endpoint: str,
    *,
    point: bytes,
    secret: bytes,
    device: str,
    now: datetime,
) -> Any:
    """Keep a device; one that is known already is whoever's subscribed last. Answers its row."""
    # It may have been another account's until now.
    async with tx.through("device", endpoint):
        row = await tx.execute(
            _SUBSCRIBE,
            {
                "id": id_,
                "account": account_id,
                "agent": agent_id,
                "endpoint": endpoint,
                "point": point,
                "secret": secret,
                "device": device,
                "now": now,
            },
        )
    await tx.execute(_MAKE_ROOM, {"account": account_id, "agent": agent_id, "most": DEVICES})
    return row.mappings().one()


async def owners(tx: Tx, accounts: Collection[str], agents: Collection[str]) -> set[str]:
    """Those of these agents who have devices."""
    rows = await tx.execute(_OWNERS, {"accounts": sorted(accounts), "agents": sorted(agents)})
    return set(rows.scalars())


async def devices(tx: Tx, account_id: str, agent_id: str) -> Sequence[Any]:
    """An agent's devices, the newest first."""
    return (await tx.execute(_LIST, {"account": account_id, "agent": agent_id})).mappings().all()


async def unsubscribe(tx: Tx, account_id: str, agent_id: str, id_: str) -> bool:
    """Forget a device and what waits for it; tells whether the agent had it."""
    where = {"account": account_id, "agent": agent_id, "id": id_}
    return (await tx.execute(_UNSUBSCRIBE, where)).rowcount == 1


async def gone(tx: Tx, subscription_id: str) -> None:
    """The push service knows the device no more."""
    await tx.execute(_GONE, {"id": subscription_id})


async def add(tx: Tx, rows: Sequence[NewPush]) -> None:
    """Have these told on all devices of their agents, once per dedup key; of several of one conversation the last."""
    last: dict[tuple[str, str], NewPush] = {}
    for row in rows:
        last[row.agent_id, row.conversation_id or row.dedup_key] = row
    pushes = list(last.values())
    if not pushes:
        return
    await tx.execute(
        _ADD,
        {
            "accounts": [row.account_id for row in pushes],
            "agents": [row.agent_id for row in pushes],
            "dedup_keys": [row.dedup_key for row in pushes],
            "payloads": [row.payload for row in pushes],
            "topics": [row.topic for row in pushes],
            "conversations": [row.conversation_id for row in pushes],
            "notifications": [row.notification_id for row in pushes],
            "created": [row.created_at for row in pushes],
            "useless": [row.useless_after for row in pushes],
        },
    )


async def claim(tx: Tx, limit: int, lease: timedelta) -> Sequence[Any]:
    """Due pushes, which nobody else tries until the lease runs out; `attempts` counts this one."""
    return (await tx.execute(_CLAIM, {"limit": limit, "claim": lease.total_seconds()})).all()


async def done(tx: Tx, id_: int, state: str, error: str | None = None) -> None:
    """It will not be tried again: `sent`, `failed`, or `dropped` when it came to be worth nothing."""
    await tx.execute(_DONE, {"id": id_, "state": state, "error": error})


async def again(tx: Tx, id_: int, delay: timedelta, error: str) -> None:
    """It is tried again after this while."""
    await tx.execute(_AGAIN, {"id": id_, "delay": delay.total_seconds(), "error": error})


async def forget(tx: Tx, before: datetime) -> bool:
    """Delete what is done and older, a batch at most; tells whether more may be left."""
    return (await tx.execute(_FORGET, {"before": before, "limit": _FORGET_BATCH})).rowcount == _FORGET_BATCH

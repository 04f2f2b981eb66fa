"""Statuses: what is known of agents, their devices, and the history."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text

from relevo.chassis.database import Tx
from relevo.presence.domain.precedence import Choice
from relevo.presence.domain.shifts import Shift
from relevo.presence.domain.status import PLAIN, Agent, Change, Setting

_CREATE = text("""
    with new as (
        insert into agent_status (agent_id, account_id, state, cause, actor, since)
        select agent_id, account_id, 'offline', 'initial', 'system', :now
        from unnest(cast(:agents as uuid[]), cast(:accounts as uuid[])) as a (agent_id, account_id)
        order by agent_id
        on conflict (agent_id) do nothing
        returning agent_id, account_id
    )
    insert into status_history (agent_id, account_id, state, cause, actor, from_at)
    select agent_id, account_id, 'offline', 'initial', 'system', :now from new
""")

_COLUMNS = """
    cast(agent_id as text) as agent_id, cast(account_id as text) as account_id, state, cause, actor, since,
    cast(label as text) as label, chosen, chosen_until, chosen_actor, chosen_cause, chosen_at,
    cast(chosen_label as text) as chosen_label, gone, signed_out_at, removed, open, capacity, crowded, acted_at,
    working_since, received, warned_at, put_off, resting, shift_open, shift_since, shift_until, in_shift, sequence,
    check_at
"""

_LOCK = text(f"""
    select {_COLUMNS}
    from agent_status where agent_id = any(cast(:agents as uuid[])) order by agent_id for update
""")

_DEVICES = text("""
    select cast(agent_id as text) as agent_id, device_id, expires_at, closing
    from devices where agent_id = any(cast(:agents as uuid[])) order by agent_id, device_id
""")

_SAVED = {
    "state": "text",
    "cause": "text",
    "actor": "text",
    "since": "timestamptz",
    "label": "uuid",
    "chosen": "text",
    "chosen_until": "timestamptz",
    "chosen_actor": "text",
    "chosen_cause": "text",
    "chosen_at": "timestamptz",
    "chosen_label": "uuid",
    "gone": "text",
    "signed_out_at": "timestamptz",
    "removed": "boolean",
    "open": "integer",
    "capacity": "integer",
    "crowded": "boolean",
    "acted_at": "timestamptz",
    "working_since": "timestamptz",
    "received": "integer",
    "warned_at": "timestamptz",
    "put_off": "boolean",
    "resting": "boolean",
    "shift_open": "boolean",
    "shift_since": "timestamptz",
    "shift_until": "timestamptz",
    "in_shift": "boolean",
    "sequence": "bigint",
    "check_at": "timestamptz",
}
"""Columns that change, with their types."""

_SAVE = text(f"""
    update agent_status s set {", ".join(f"{name} = n.{name}" for name in _SAVED)}
    from jsonb_to_recordset(cast(:rows as jsonb)) as n (
        agent_id uuid, {", ".join(f"{name} {kind}" for name, kind in _SAVED.items())})
    where s.agent_id = n.agent_id
""")

_DROP_DEVICES = text("""
    delete from devices d
    where d.agent_id = any(cast(:agents as uuid[])) and not exists (
        select 1 from unnest(cast(:owners as uuid[]), cast(:devices as text[])) as k (agent_id, device_id)
        where k.agent_id = d.agent_id and k.device_id = d.device_id)
""")

_SAVE_DEVICES = text("""
    insert into devices (agent_id, device_id, account_id, expires_at, closing)
    select * from jsonb_to_recordset(cast(:rows as jsonb)) as n (
        agent_id uuid, device_id text, account_id uuid, expires_at timestamptz, closing boolean)
    on conflict (agent_id, device_id) do update set expires_at = excluded.expires_at, closing = excluded.closing
    where (devices.expires_at, devices.closing) is distinct from (excluded.expires_at, excluded.closing)
""")

_END_INTERVALS = text("""
    update status_history h set to_at = e.to_at
    from unnest(cast(:agents as uuid[]), cast(:ends as timestamptz[])) as e (agent_id, to_at)
    where h.agent_id = e.agent_id and h.to_at is null
""")

_BEGIN_INTERVALS = text("""
    insert into status_history (agent_id, account_id, state, cause, actor, from_at, to_at, label, in_shift)
    select * from jsonb_to_recordset(cast(:rows as jsonb)) as n (
        agent_id uuid, account_id uuid, state text, cause text, actor text, from_at timestamptz, to_at timestamptz,
        label uuid, in_shift boolean)
""")

_ONE = text(f"""
    select {_COLUMNS}
    from agent_status where account_id = cast(:account as uuid) and agent_id = cast(:agent as uuid)
""")

_ROSTER = text("""
    select cast(agent_id as text) as agent_id, state, since, cause, chosen, chosen_until as until, in_shift,
           cast(label as text) as label_id,
           exists (select 1 from devices d where d.agent_id = s.agent_id and d.expires_at > :now) as connected
    from agent_status s where account_id = cast(:account as uuid) and not removed
""")

_HISTORY = text("""
    select cast(agent_id as text) as agent_id, state, cause, actor, from_at, to_at, cast(label as text) as label_id, in_shift
    from status_history
    where account_id = cast(:account as uuid) and agent_id = cast(:agent as uuid)
      and from_at < :until and (to_at is null or to_at > :since)
      and from_at > coalesce(cast(:after as timestamptz), '-infinity')
    order by from_at limit :limit
""")


_SECONDS = text("""
    select cast(agent_id as text) as agent_id, state, cast(label as text) as label_id, coalesce(in_shift, false) as in_shift,
           cast(sum(extract(epoch from least(coalesce(to_at, :until), :until) - greatest(from_at, :since))) as float8) as seconds
    from status_history
    where account_id = cast(:account as uuid) and agent_id = any(cast(:agents as uuid[]))
      and from_at < :until and (to_at is null or to_at > :since)
    group by 1, 2, 3, 4
""")


@dataclass(slots=True)
class Watched:
    """An agent as stored, with the moment at which a timer will look again (None: no timer is set)."""

    agent: Agent
    check_at: datetime | None
    setting: Setting = PLAIN
    warned_at: datetime | None = None
    """Of the break that was announced already."""


async def create_missing(tx: Tx, agents: Mapping[str, str], now: datetime) -> None:
    """Make those of `agents` (id → account) that are not known yet: offline from now on."""
    await tx.execute(_CREATE, {"agents": list(agents), "accounts": list(agents.values()), "now": now})


async def lock(tx: Tx, ids: Iterable[str]) -> dict[str, Watched]:
    """Lock and read agents; unknown ids are left out. Locks are taken in the order of ids."""
    wanted = sorted(ids)
    found = (await tx.execute(_LOCK, {"agents": wanted})).mappings().all()
    devices: dict[str, list[tuple[str, datetime, bool]]] = {}
    for row in (await tx.execute(_DEVICES, {"agents": wanted})).all():
        devices.setdefault(row.agent_id, []).append((row.device_id, row.expires_at, row.closing))
    return {row["agent_id"]: Watched(_agent(row, devices.get(row["agent_id"], ())), row["check_at"]) for row in found}


async def read(tx: Tx, account_id: str, agent_id: str) -> Agent | None:
    """One agent of this account without a lock, or None."""
    row = (await tx.execute(_ONE, {"account": account_id, "agent": agent_id})).mappings().first()
    if row is None:
        return None
    devices = (await tx.execute(_DEVICES, {"agents": [agent_id]})).all()
    return _agent(row, [(one.device_id, one.expires_at, one.closing) for one in devices])


def _agent(row: Mapping[Any, Any], devices: Sequence[tuple[str, datetime, bool]]) -> Agent:
    choice = None
    if row["chosen"] is not None:
        choice = Choice(
            row["chosen"],
            row["chosen_until"],
            row["chosen_actor"],
            row["chosen_cause"],
            row["chosen_at"],
            row["chosen_label"],
        )
    shift = None
    if row["shift_until"] is not None:
        shift = Shift(row["shift_open"], row["shift_since"], row["shift_until"])
    return Agent(
        id=row["agent_id"],
        account_id=row["account_id"],
        state=row["state"],
        cause=row["cause"],
        actor=row["actor"],
        since=row["since"],
        label=row["label"],
        choice=choice,
        devices=tuple((device, expires) for device, expires, _ in devices),
        closing=frozenset(device for device, _, closing in devices if closing),
        gone=row["gone"],
        signed_out_at=row["signed_out_at"],
        removed=row["removed"],
        open=row["open"],
        capacity=row["capacity"],
        crowded=row["crowded"],
        acted_at=row["acted_at"],
        working_since=row["working_since"],
        received=row["received"],
        warned_at=row["warned_at"],
        put_off=row["put_off"],
        resting=row["resting"],
        shift=shift,
        in_shift=row["in_shift"],
        sequence=row["sequence"],
    )


async def save(tx: Tx, watched: Sequence[Watched]) -> None:
    """Write agents that `lock` gave, and their devices."""
    rows = [_row(one.agent) | {"check_at": one.check_at} for one in watched]
    await tx.execute(_SAVE, {"rows": json.dumps(rows, default=datetime.isoformat)})
    devices = [
        {
            "agent_id": one.agent.id,
            "device_id": device,
            "account_id": one.agent.account_id,
            "expires_at": expires.isoformat(),
            "closing": device in one.agent.closing,
        }
        for one in watched
        for device, expires in one.agent.devices
    ]
    await tx.execute(
        _DROP_DEVICES,
        {
            "agents": [one.agent.id for one in watched],
            "owners": [row["agent_id"] for row in devices],
            "devices": [row["device_id"] for row in devices],
        },
    )
    if devices:
        await tx.execute(_SAVE_DEVICES, {"rows": json.dumps(devices)})


def _row(agent: Agent) -> dict[str, Any]:
    choice, shift = agent.choice, agent.shift
    return {
        "agent_id": agent.id,
        "state": agent.state,
        "cause": agent.cause,
        "actor": agent.actor,
        "since": agent.since,
        "label": agent.label,
        "chosen": choice and choice.state,
        "chosen_until": choice and choice.until,
        "chosen_actor": choice and choice.actor,
        "chosen_cause": choice and choice.cause,
        "chosen_at": choice and choice.at,
        "chosen_label": choice and choice.label,
        "gone": agent.gone,
        "signed_out_at": agent.signed_out_at,
        "removed": agent.removed,
        "open": agent.open,
        "capacity": agent.capacity,
        "crowded": agent.crowded,
        "acted_at": agent.acted_at,
        "working_since": agent.working_since,
        "received": agent.received,
        "warned_at": agent.warned_at,
        "put_off": agent.put_off,
        "resting": agent.resting,
        "shift_open": shift and shift.open,
        "shift_since": shift and shift.since,
        "shift_until": shift and shift.until,
        "in_shift": agent.in_shift,
        "sequence": agent.sequence,
    }


async def record(tx: Tx, changes: Sequence[Change]) -> None:
    """Write the history: end the open intervals, begin the new ones. Changes of one agent are in order."""
    first: dict[str, datetime] = {}
    rows: list[dict[str, Any]] = []
    open_row: dict[str, dict[str, Any]] = {}
    for change in changes:
        after = change.after
        begins = after.since.isoformat()
        if after.id in open_row:
            open_row[after.id]["to_at"] = begins
        first.setdefault(after.id, after.since)
        row = {
            "agent_id": after.id,
            "account_id": after.account_id,
            "state": after.state,
            "cause": after.cause,
            "actor": after.actor,
            "from_at": begins,
            "to_at": None,
            "label": after.label,
            "in_shift": after.in_shift,
        }
        open_row[after.id] = row
        rows.append(row)
    await tx.execute(_END_INTERVALS, {"agents": list(first), "ends": list(first.values())})
    await tx.execute(_BEGIN_INTERVALS, {"rows": json.dumps(rows)})


async def roster(tx: Tx, account_id: str, now: datetime) -> dict[str, Mapping[str, Any]]:
    """Status now of every agent of the account that presence has heard of, by id."""
    rows = (await tx.execute(_ROSTER, {"account": account_id, "now": now})).mappings()
    return {row["agent_id"]: dict(row) for row in rows}


async def history(
    tx: Tx, account_id: str, agent_id: str, *, since: datetime, until: datetime, after: datetime | None, limit: int
) -> list[Mapping[str, Any]]:
    """The intervals that touch [since, until), oldest first, from the one that begins after `after` on."""
    given = {"account": account_id, "agent": agent_id, "since": since, "until": until, "after": after, "limit": limit}
    return [dict(row) for row in (await tx.execute(_HISTORY, given)).mappings()]


async def seconds(
    tx: Tx, account_id: str, agents: Sequence[str], since: datetime, until: datetime
) -> list[Mapping[str, Any]]:
    """How long these agents were in which status within [since, until), in and out of their shifts, as recorded."""
    given = {"account": account_id, "agents": list(agents), "since": since, "until": until}
    return [dict(row) for row in (await tx.execute(_SECONDS, given)).mappings()]

"""The audit log: one row for each administrative act; append-only, which the database enforces."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text

from relevo.chassis.database import Tx
from relevo.contracts.base import new_id


@dataclass(frozen=True, slots=True)
class By:
    """Who acts, and from where. ``actor`` as in the envelope: agent:ID, key:ID or system."""

    actor: str
    name: str
    ip: str = ""
    user_agent: str = ""


SYSTEM = By("system", "Relevo")


@dataclass(frozen=True, slots=True)
class Record:
    """One act. ``before`` and ``after`` are states, without secrets; None: there was, or is, nothing."""

    action: str
    entity_kind: str
    entity_id: str
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None


_APPEND = text(
    """
    insert into audit_log (id, account_id, at, actor, actor_name, action, entity_kind, entity_id, before, after,
        ip, user_agent)
    select id, cast(:account as uuid), cast(:at as timestamptz), cast(:actor as text), cast(:actor_name as text), action,
        entity_kind, entity_id,
        cast(before as jsonb), cast(after as jsonb), cast(:ip as text), cast(:user_agent as text)
    from unnest(
        cast(:ids as uuid[]), cast(:actions as text[]), cast(:kinds as text[]), cast(:entities as text[]),
        cast(:befores as text[]), cast(:afters as text[])
    ) with ordinality as row(id, action, entity_kind, entity_id, before, after, n)
    order by n
    """
)
_LIST = text(
    """
    select seq, cast(id as text) as id, at, actor, actor_name, action, entity_kind, entity_id, before, after,
        ip, user_agent
    from audit_log
    where account_id = :account
      and (cast(:before as bigint) is null or seq < :before)
      and (cast(:actor as text) is null or actor = :actor)
      and (cast(:action as text) is null or action = :action)
      and (cast(:kind as text) is null or entity_kind = :kind)
      and (cast(:entity as text) is null or entity_id = :entity)
      and (cast(:since as timestamptz) is null or at >= :since)
      and (cast(:until as timestamptz) is null or at < :until)
    order by seq desc limit :limit
    """
)


async def append(tx: Tx, account: str, by: By, records: Sequence[Record], *, at: datetime) -> None:
    """Add to the account's log. The account's lock is held."""
    if not records:
        return
    await tx.execute(
        _APPEND,
        {
            "account": account,
            "at": at,
            "actor": by.actor,
            "actor_name": by.name,
            "ip": by.ip,
            "user_agent": by.user_agent[:300],
            "ids": [new_id() for _ in records],
            "actions": [record.action for record in records],
            "kinds": [record.entity_kind for record in records],
            "entities": [record.entity_id for record in records],
            "befores": [_json(record.before) for record in records],
            "afters": [_json(record.after) for record in records],
        },
    )


async def page(
    tx: Tx,
    account: str,
    *,
    before: int | None,
    limit: int,
    actor: str | None = None,
    action: str | None = None,
    kind: str | None = None,
    entity: str | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> list[dict[str, Any]]:
    """The newest first, of those older than the sequence ``before``."""
    found = await tx.execute(
        _LIST,
        {
            "account": account,
            "before": before,
            "limit": limit,
            "actor": actor,
            "action": action,
            "kind": kind,
            "entity": entity,
            "since": since,
            "until": until,
        },
    )
    return [dict(row) for row in found.mappings()]


def _json(state: Mapping[str, Any] | None) -> str | None:
    return None if state is None else json.dumps(state, ensure_ascii=False, sort_keys=True)

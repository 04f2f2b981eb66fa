"""The audit log: one row for each administrative act; append-only, which the database enforces."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
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
_COLUMNS = """
    select seq, cast(id as text) as id, at, actor, actor_name, action, entity_kind, entity_id, before, after,
        ip, user_agent
    from audit_log where account_id = :account
"""
# Only what is asked for stands in the statement: "or is null" would keep a prepared plan from the index.
_CLAUSES = {
    "before": "seq < :before",
    "actor": "actor = :actor",
    "action": "action = :action",
    "kind": "entity_kind = :kind",
    "entity": "entity_id = :entity",
    "since": "at >= :since",
    "until": "at < :until",
}


@dataclass(frozen=True, slots=True)
class Filters:
    """What of the log is wanted; None: whatever it is. ``since`` inclusive, ``until`` exclusive."""

    actor: str | None = None
    action: str | None = None
    kind: str | None = None
    entity: str | None = None
    since: datetime | None = None
    until: datetime | None = None

    def given(self) -> dict[str, Any]:
        """Those that there are."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: value for name, value in values.items() if value is not None}


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


async def page(tx: Tx, account: str, filters: Filters, *, before: int | None, limit: int) -> list[dict[str, Any]]:
    """The newest first, of those older than the sequence ``before``."""
    given = filters.given() | ({} if before is None else {"before": before})
    where = "".join(f" and {_CLAUSES[name]}" for name in sorted(given))
    statement = text(f"{_COLUMNS}{where} order by seq desc limit :limit")
    found = await tx.execute(statement, {"account": account, "limit": limit, **given})
    return [dict(row) for row in found.mappings()]


def _json(state: Mapping[str, Any] | None) -> str | None:
    return None if state is None else json.dumps(state, ensure_ascii=False, sort_keys=True)

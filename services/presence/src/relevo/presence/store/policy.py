"""SQL of an account's rules of availability as a text, and of who has read it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text

from relevo.chassis.database import Tx

_READ = text("""
    select text_es, text_en, version, updated_at from availability_policy where account_id = cast(:account as uuid)
""")
_SAVE = text("""
    insert into availability_policy (account_id, text_es, text_en, version, updated_at, updated_by)
    values (cast(:account as uuid), :text_es, :text_en, :version, :at, :by)
    on conflict (account_id) do update set text_es = excluded.text_es, text_en = excluded.text_en,
        version = excluded.version, updated_at = excluded.updated_at, updated_by = excluded.updated_by
""")
_MINE = text("""
    select version, acknowledged_at from policy_acknowledged
    where account_id = cast(:account as uuid) and agent_id = cast(:agent as uuid)
""")
# Said again it stays as it was said first.
_ACKNOWLEDGE = text("""
    insert into policy_acknowledged as p (account_id, agent_id, version, acknowledged_at)
    values (cast(:account as uuid), cast(:agent as uuid), :version, :at)
    on conflict (account_id, agent_id) do update
        set version = excluded.version, acknowledged_at = excluded.acknowledged_at where p.version < excluded.version
""")
# People are the directory's.
_WHO = text("""
    select d.id as agent_id, d.state ->> 'name' as name,
           case when p.version = :version then p.acknowledged_at end as acknowledged_at
    from directory d
    left join policy_acknowledged p
        on p.account_id = cast(d.account_id as uuid) and p.agent_id = cast(d.id as uuid)
    where d.account_id = :account and d.kind = 'agent' and not d.deleted and cast(d.state ->> 'active' as boolean)
      and d.id > :after
    order by d.id limit :limit
""")


@dataclass(frozen=True, slots=True)
class Policy:
    """The text in both languages; version 0: none was ever written."""

    text_es: str = ""
    text_en: str = ""
    version: int = 0
    updated_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """Which version somebody has acknowledged, and when."""

    version: int = 0
    at: datetime | None = None


async def read(tx: Tx, account_id: str) -> Policy:
    """The account's text."""
    row = (await tx.execute(_READ, {"account": account_id})).first()
    return Policy() if row is None else Policy(**row._asdict())


async def save(tx: Tx, account_id: str, policy: Policy, *, by: str) -> None:
    """Keep a text; the account's settings are locked (`rules.lock`)."""
    given = {"account": account_id, "text_es": policy.text_es, "text_en": policy.text_en, "version": policy.version}
    await tx.execute(_SAVE, {**given, "at": policy.updated_at, "by": by})


async def acknowledged(tx: Tx, account_id: str, agent_id: str) -> Acknowledged:
    """What an agent has acknowledged."""
    row = (await tx.execute(_MINE, {"account": account_id, "agent": agent_id})).first()
    return Acknowledged() if row is None else Acknowledged(row.version, row.acknowledged_at)


async def acknowledge(tx: Tx, account_id: str, agent_id: str, version: int, at: datetime) -> None:
    """Note that an agent has read a version; an older one changes nothing."""
    await tx.execute(_ACKNOWLEDGE, {"account": account_id, "agent": agent_id, "version": version, "at": at})


async def who(tx: Tx, account_id: str, version: int, *, after: str, limit: int) -> Sequence[Mapping[str, Any]]:
    """The account's people beyond `after`, by id, each with when they acknowledged this version (None: not yet)."""
    given = {"account": account_id, "version": version, "after": after, "limit": limit}
    return [dict(row) for row in (await tx.execute(_WHO, given)).mappings()]

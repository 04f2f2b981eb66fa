"""Deletions of whole accounts that were asked for, and the certificates of those that are done."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import text

from relevo.chassis.database import Tx

State = Literal["closed", "dropping", "sweeping", "own", "done"]


@dataclass(frozen=True, slots=True)
class Deletion:
    """A deletion that was asked for, and can be called off until ``due_at``. ``asked_by`` as events name their actors."""

    id: str
    account_id: str
    asked_at: datetime
    due_at: datetime
    asked_by: str
    asked_by_name: str
    reminded: bool = False


@dataclass(frozen=True, slots=True)
class Certificate:
    """What becomes, or became, of an account after its time of grace. ``parts`` by service; no personal data is in it."""

    id: str
    account_id: str
    state: State
    asked_at: datetime
    closed_at: datetime
    parts: Mapping[str, dict[str, Any]]
    done_at: datetime | None


_DELETION = "cast(id as text) as id, cast(account_id as text) as account_id, asked_at, due_at, asked_by, asked_by_name, reminded"
_ADD = text(
    """
    insert into account_deletions (id, account_id, asked_at, due_at, asked_by, asked_by_name)
    values (cast(:id as uuid), cast(:account_id as uuid), :asked_at, :due_at, :asked_by, :asked_by_name)
    """
)
_FIND = text(f"select {_DELETION} from account_deletions where account_id = cast(:account as uuid)")
_REMOVE = text("delete from account_deletions where account_id = cast(:account as uuid)")
_DUE = text(
    """
    select cast(account_id as text) as account_id from account_deletions
    where due_at <= :now or (due_at <= :soon and not reminded) order by due_at limit 100
    """
)
_REMINDED = text("update account_deletions set reminded = true where account_id = cast(:account as uuid)")
_CLOSE_ACCOUNT = text("update accounts set deleted_at = :at, version = version + 1 where id = cast(:account as uuid)")
_CLOSE_AGENTS = text(
    """
    update agents set active = false, deleted_at = :at, version = version + 1
    where account_id = cast(:account as uuid) and deleted_at is null
    """
)
_PROJECTED = text(
    """
    select kind, id, state, sequence from directory
    where account_id = :account and kind in ('account', 'agent', 'key') and not deleted order by kind desc, id
    """
)
_KEEP_REVOKED = text(
    """
    insert into revoked_users (user_key, revoked_at)
    select user_key, coalesce(revoked_at, now()) from bus_credentials
    where account_id = cast(:account as uuid) and state = 'revoked'
    on conflict do nothing
    """
)
_UNSETTLED = text(
    "select exists (select from bus_credentials where account_id = cast(:account as uuid) and not settled)"
)
_CERTIFICATE = "cast(id as text) as id, cast(account as text) as account_id, state, asked_at, closed_at, parts, done_at"
_BEGIN = text(
    """
    insert into account_certificates (id, account, state, asked_at, closed_at)
    values (cast(:id as uuid), cast(:account as uuid), 'closed', :asked_at, :closed_at)
    """
)
_AT_WORK = text(f"select {_CERTIFICATE} from account_certificates where done_at is null order by id limit 100")
_GO = text(
    """
    update account_certificates set state = :state, done_at = case when :state = 'done' then :at end
    where id = cast(:id as uuid) and state = :before
    """
)
_PART = text(
    """
    update account_certificates
    set parts = jsonb_set(parts, array[cast(:service as text)], coalesce(parts -> :service, '{}') || cast(:part as jsonb))
    where id = cast(:id as uuid)
    """
)
_OF = text(f"select {_CERTIFICATE} from account_certificates where account = cast(:account as uuid)")
_LIST = text(
    f"""
    select {_CERTIFICATE} from account_certificates
    where cast(:before as uuid) is null or id < :before order by id desc limit :limit
    """
)


async def add(tx: Tx, deletion: Deletion) -> None:
    """Note it. The account is locked, and has none."""
    await tx.execute(
        _ADD,
        {
            "id": deletion.id,
            "account_id": deletion.account_id,
            "asked_at": deletion.asked_at,
            "due_at": deletion.due_at,
            "asked_by": deletion.asked_by,
            "asked_by_name": deletion.asked_by_name,
        },
    )


async def find(tx: Tx, account: str) -> Deletion | None:
    """The deletion that was asked for."""
    row = (await tx.execute(_FIND, {"account": account})).mappings().first()
    return None if row is None else Deletion(**row)


async def remove(tx: Tx, account: str) -> None:
    await tx.execute(_REMOVE, {"account": account})


async def due(tx: Tx, now: datetime, soon: datetime) -> list[str]:
    """The accounts whose deletion is due, or whose people are to be reminded of it; through the door."""
    return [row.account_id for row in await tx.execute(_DUE, {"now": now, "soon": soon})]


async def reminded(tx: Tx, account: str) -> None:
    await tx.execute(_REMINDED, {"account": account})


async def projected(tx: Tx, account: str) -> list[tuple[str, str, dict[str, Any], int]]:
    """Kind, id, state and number of the account, its agents and its keys, as everybody knows them; keys first."""
    rows = await tx.execute(_PROJECTED, {"account": account})
    return [(row.kind, row.id, row.state, row.sequence) for row in rows]


async def close(tx: Tx, account: str, at: datetime) -> None:
    """Nobody of the account gets in any more."""
    await tx.execute(_CLOSE_AGENTS, {"account": account, "at": at})
    await tx.execute(_CLOSE_ACCOUNT, {"account": account, "at": at})


async def keep_revoked(tx: Tx, account: str) -> None:
    """Remember the revoked users of the broker beyond their rows: the broker is told all of them each time."""
    await tx.execute(_KEEP_REVOKED, {"account": account})


async def unsettled(tx: Tx, account: str) -> bool:
    """Whether the broker does not know yet of a credential that was revoked."""
    return bool((await tx.execute(_UNSETTLED, {"account": account})).scalar_one())


async def begin(tx: Tx, deletion: Deletion, at: datetime) -> None:
    """The certificate begins: the account is closed."""
    given = {"id": deletion.id, "account": deletion.account_id, "asked_at": deletion.asked_at, "closed_at": at}
    await tx.execute(_BEGIN, given)


async def at_work(tx: Tx) -> list[Certificate]:
    return [Certificate(**row) for row in (await tx.execute(_AT_WORK)).mappings()]


async def go(tx: Tx, certificate: Certificate, state: State, at: datetime) -> bool:
    """Whether it was this transaction that brought it from its state into that one."""
    given = {"id": certificate.id, "before": certificate.state, "state": state, "at": at}
    return (await tx.execute(_GO, given)).rowcount == 1


async def add_part(tx: Tx, certificate: str, service: str, part: Mapping[str, Any]) -> None:
    """What a service told."""
    await tx.execute(_PART, {"id": certificate, "service": service, "part": json.dumps(dict(part))})


async def certificate(tx: Tx, account: str) -> Certificate | None:
    """That of an account, for whoever operates."""
    row = (await tx.execute(_OF, {"account": account})).mappings().first()
    return None if row is None else Certificate(**row)


async def certificates(tx: Tx, *, before: str | None, limit: int) -> list[Certificate]:
    """All, the newest first."""
    rows = await tx.execute(_LIST, {"before": before, "limit": limit})
    return [Certificate(**row) for row in rows.mappings()]

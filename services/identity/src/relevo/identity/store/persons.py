"""One person in several accounts: agents with one address, which each of them has proved to be theirs."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from relevo.chassis.database import Tx


@dataclass(frozen=True, slots=True)
class Place:
    """An account that a person works in, and who they are there."""

    account_id: str
    account_name: str
    agent_id: str
    agent_name: str
    role: str


_PROVE = text("update agents set proved_email = :email where id = :agent and account_id = :account")
_PROVED = text(
    "select email from agents"
    " where id = :agent and account_id = :account and active and deleted_at is null and proved_email = email"
)
_FOUND = text(
    """
    select cast(account_id as text) as account_id from agents
    where email = :email and proved_email = email and active and deleted_at is null order by account_id limit :limit
    """
)
_PLACES = text(
    """
    select cast(a.account_id as text) as account_id, c.name as account_name, cast(a.id as text) as agent_id,
           a.name as agent_name, r.name as role
    from agents a
    join accounts c on c.id = a.account_id and c.deleted_at is null
    join roles r on r.id = a.role_id and r.account_id = a.account_id
    where a.email = :email and a.proved_email = a.email and a.active and a.deleted_at is null
      and a.account_id = any(cast(:accounts as uuid[]))
    order by lower(c.name), a.account_id
    """
)


async def prove(tx: Tx, account: str, agent: str, email: str) -> None:
    """The agent was found at this address: a link that was sent there came back, or the provider vouched for it."""
    await tx.execute(_PROVE, {"account": account, "agent": agent, "email": email})


async def proved(tx: Tx, account: str, agent: str) -> str | None:
    """The agent's address, if it is proved to be theirs."""
    email: str | None = (await tx.execute(_PROVED, {"account": account, "agent": agent})).scalar()
    return email


async def places(tx: Tx, email: str, *, limit: int) -> list[Place]:
    """Where the person at a proved address works. Leaves the transaction in those accounts."""
    async with tx.through("sign_in", email):
        found: Sequence[Any] = (await tx.execute(_FOUND, {"email": email, "limit": limit})).all()
    accounts = [row.account_id for row in found]
    await tx.enter(*accounts)
    rows = await tx.execute(_PLACES, {"email": email, "accounts": accounts})
    return [Place(**row) for row in rows.mappings()]

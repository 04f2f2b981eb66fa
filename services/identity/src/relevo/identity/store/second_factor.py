"""The second factor: its sealed secret, which codes are used up, and the recovery codes that are left."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import text

from relevo.chassis.database import Tx


@dataclass(frozen=True, slots=True)
class SecondFactor:
    """One agent's, locked. ``confirmed_at`` None: being set up."""

    sealed: bytes = field(repr=False)
    last_step: int
    confirmed_at: datetime | None


_LOCK = text(
    """
    select secret_sealed, last_step, confirmed_at from second_factors
    where agent_id = :agent and account_id = :account for update
    """
)
_CONFIRMED = text(
    """
    select confirmed_at, (select count(*) from recovery_codes r where r.agent_id = f.agent_id) as codes
    from second_factors f where agent_id = :agent and account_id = :account and confirmed_at is not null
    """
)
_BEGIN = text("insert into second_factors (agent_id, account_id, secret_sealed) values (:agent, :account, :sealed)")
_REMOVE = text("delete from second_factors where agent_id = :agent and account_id = :account")
_CONFIRM = text("update second_factors set confirmed_at = :now where agent_id = :agent and account_id = :account")
_USE_STEP = text("update second_factors set last_step = :step where agent_id = :agent and account_id = :account")
_FORGET_CODES = text("delete from recovery_codes where agent_id = :agent and account_id = :account")
_ADD_CODES = text(
    """
    insert into recovery_codes (agent_id, account_id, sha256)
    select cast(:agent as uuid), cast(:account as uuid), * from unnest(cast(:codes as bytea[]))
    """
)
_USE_CODE = text(
    "delete from recovery_codes where agent_id = :agent and account_id = :account and sha256 = :sha256 returning 1"
)


async def lock(tx: Tx, account: str, agent: str) -> SecondFactor | None:
    """The agent's, locked: of two who present one code at once, the second sees that it is used."""
    row: Any = (await tx.execute(_LOCK, {"agent": agent, "account": account})).first()
    return SecondFactor(bytes(row[0]), row[1], row[2]) if row else None


async def confirmed(tx: Tx, account: str, agent: str) -> tuple[datetime, int] | None:
    """Since when it is asked for, and how many recovery codes are left; None when it is not."""
    row: Any = (await tx.execute(_CONFIRMED, {"agent": agent, "account": account})).first()
    return (row[0], row[1]) if row else None


async def begin(tx: Tx, account: str, agent: str, sealed: bytes) -> None:
    """Keep a secret that is yet to be confirmed, in the place of whatever was there."""
    await remove(tx, account, agent)
    await tx.execute(_BEGIN, {"agent": agent, "account": account, "sealed": sealed})


async def confirm(tx: Tx, account: str, agent: str, now: datetime) -> None:
    await tx.execute(_CONFIRM, {"agent": agent, "account": account, "now": now})


async def remove(tx: Tx, account: str, agent: str) -> None:
    """Forget the secret and the recovery codes."""
    await tx.execute(_REMOVE, {"agent": agent, "account": account})


async def use_step(tx: Tx, account: str, agent: str, step: int) -> None:
    await tx.execute(_USE_STEP, {"agent": agent, "account": account, "step": step})


async def replace_codes(tx: Tx, account: str, agent: str, codes: Sequence[bytes]) -> None:
    """Recovery codes, as their SHA-256, in the place of those before."""
    await tx.execute(_FORGET_CODES, {"agent": agent, "account": account})
    await tx.execute(_ADD_CODES, {"agent": agent, "account": account, "codes": list(codes)})


async def use_code(tx: Tx, account: str, agent: str, sha256: bytes) -> bool:
    """Whether it was one of the recovery codes; it is none any more."""
    found = await tx.execute(_USE_CODE, {"agent": agent, "account": account, "sha256": sha256})
    return found.first() is not None

"""Accounts that somebody wants, until their address is confirmed. Of the token only the SHA-256 is kept."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import text

from relevo.chassis.database import Tx


@dataclass(frozen=True, slots=True)
class SignUp:
    """What somebody asked for. ``account_id``: of the account that it will be."""

    account_id: str
    email: str
    name: str
    account_name: str
    language: Literal["es", "en"]
    time_zone: str
    expires_at: datetime


_COLUMNS = "cast(account_id as text) as account_id, email, name, account_name, language, time_zone, expires_at"
_ADD = text(
    """
    insert into sign_ups (account_id, sha256, email, name, account_name, language, time_zone, expires_at)
    values (:account_id, :sha256, :email, :name, :account_name, :language, :time_zone, :expires_at)
    """
)
_PEEK = text(f"select {_COLUMNS} from sign_ups where sha256 = :sha256 and expires_at > :now")
_TAKE = text(
    f"delete from sign_ups where account_id = :account and sha256 = :sha256 and expires_at > :now returning {_COLUMNS}"
)
_FORGET = text("delete from sign_ups where expires_at < :before")


async def add(tx: Tx, wanted: SignUp, sha256: bytes) -> None:
    """Keep it. The transaction is in the account that it will be."""
    values = {name: getattr(wanted, name) for name in SignUp.__slots__}
    await tx.execute(_ADD, {**values, "sha256": sha256})


async def peek(tx: Tx, sha256: bytes, now: datetime) -> SignUp | None:
    """What a token stands for; it stays good. Leaves the transaction in the account that it will be."""
    async with tx.through("sign_up", sha256.hex()):
        row: Any = (await tx.execute(_PEEK, {"sha256": sha256, "now": now})).mappings().first()
    if row is None:
        return None
    await tx.enter(row["account_id"])
    return SignUp(**row)


async def take(tx: Tx, account: str, sha256: bytes, now: datetime) -> SignUp | None:
    """The same, used up: of two who come at once one finds it."""
    found = await tx.execute(_TAKE, {"account": account, "sha256": sha256, "now": now})
    row: Any = found.mappings().first()
    return SignUp(**row) if row else None


async def forget(tx: Tx, before: datetime) -> None:
    """Delete what ran out before then."""
    await tx.execute(_FORGET, {"before": before})

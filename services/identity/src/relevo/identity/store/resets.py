"""Requests for another password, between the answer and the worker."""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import text

from relevo.chassis.database import Tx


@dataclass(frozen=True, slots=True)
class Request:
    """Somebody asked for another password for this address, from there."""

    email: str
    ip: str
    user_agent: str


_ADD = text("insert into reset_requests (email, ip, user_agent) values (:email, :ip, :user_agent)")
_TAKE = text(
    """
    delete from reset_requests
    where id = (select id from reset_requests order by id limit 1 for update skip locked)
    returning email, ip, user_agent
    """
)


async def add(tx: Tx, request: Request) -> None:
    await tx.execute(_ADD, {"email": request.email, "ip": request.ip, "user_agent": request.user_agent[:300]})


async def take(tx: Tx) -> Request | None:
    """The oldest that nobody else has in hand; it is done when the transaction commits."""
    row: Any = (await tx.execute(_TAKE)).mappings().first()
    return Request(**row) if row else None

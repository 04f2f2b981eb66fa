"""One-time links: made, sent by e-mail, and found again.

A token is in the clear in one place only: the command to notification that sends it. Here it is kept as its SHA-256.
In the address it stands behind the ``#``, which no browser sends to a server: neither logs nor referrers hold it.
"""

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from relevo.chassis.database import Database, Tx
from relevo.contracts.base import new_id, now
from relevo.contracts.identity import AccountState, AgentState
from relevo.contracts.notification import Notify
from relevo.identity import limits, problems
from relevo.identity.domain.links import LIFETIME, OPENED_PER_IP, Purpose
from relevo.identity.store import directory
from relevo.identity.store import links as store
from relevo.identity.store.links import Link

_PAGE: Final = {
    Purpose.INVITATION: "invitation",
    Purpose.PASSWORD_RESET: "password-reset",
    Purpose.EMAIL_CHANGE: "email-confirmation",
}


async def send(
    tx: Tx,
    purpose: Purpose,
    *,
    account: AccountState,
    agent: AgentState,
    address: str,
    public_url: str,
    actor: str,
    data: Mapping[str, str] | None = None,
) -> Link:
    """Make a link and have it sent to the address. What the texts name further is in ``data``."""
    token = secrets.token_urlsafe(32)
    link = Link(new_id(), account.id, agent.id, address, now() + LIFETIME[purpose])
    await store.add(tx, link, purpose, digest(token))
    values = {
        "account": account.name,
        "name": agent.name,
        "until": local(link.expires_at, account.time_zone),
        "link": f"{public_url.rstrip('/')}/{_PAGE[purpose]}#{token}",
    }
    command = Notify(
        dedup_key=link.id,
        kind=purpose.value,
        address=address,
        language=agent.language,
        template=purpose.value,
        data={**values, **(data or {})},
        useless_after=link.expires_at,
    )
    tx.emit(command, account=account.id, entity=agent.id, actor=actor)
    return link


@dataclass(frozen=True, slots=True)
class Opened:
    """A link that is good, and whom it is about."""

    link: Link
    account: AccountState
    agent: AgentState


async def opened(db: Database, purpose: Purpose, token: str, ip: str) -> Opened:
    """The link of a token, which stays good. Raises Problem 410, or 429 from a place that tries too many."""
    await limits.check(db, (OPENED_PER_IP, "link", ip))
    async with db.begin() as tx:
        link = await store.peek(tx, purpose, digest(token), now())
        account = await directory.account(tx, link.account_id) if link else None
        found = await directory.agents_by_id(tx, link.account_id, [link.agent_id]) if link else {}
    if link is None or account is None or link.agent_id not in found:
        raise problems.link_over()
    return Opened(link, account.state, found[link.agent_id].state)


def warn(tx: Tx, template: str, *, account: AccountState, agent: AgentState, address: str, actor: str) -> None:
    """Tell somebody that something about their access has changed, in case it was not them."""
    command = Notify(
        dedup_key=new_id(),
        kind="security",
        address=address,
        language=agent.language,
        template=template,
        data={"account": account.name, "name": agent.name, "at": local(now(), account.time_zone)},
    )
    tx.emit(command, account=account.id, entity=agent.id, actor=actor)


def digest(token: str) -> bytes:
    """What of a token is kept."""
    return hashlib.sha256(token.encode()).digest()


def local(at: datetime, time_zone: str) -> str:
    """A time as people of the account read it."""
    return f"{at.astimezone(ZoneInfo(time_zone)):%Y-%m-%d %H:%M} ({time_zone})"

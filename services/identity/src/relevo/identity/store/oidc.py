"""Sign-ins at an identity provider that are under way, and who agents are there."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import text

from relevo.chassis.database import Tx


@dataclass(frozen=True, slots=True)
class Flow:
    """A sign-in under way. ``email`` and ``subject`` None: the provider has not spoken yet."""

    nonce: str = field(repr=False)
    verifier: str = field(repr=False)
    email: str | None
    subject: str | None


_ADD = text(
    """
    insert into oidc_flows (state_sha256, flow_sha256, nonce, verifier, expires_at)
    values (:state, :flow, :nonce, :verifier, :expires_at)
    """
)
_MINE = "state_sha256 = :state and flow_sha256 = :flow and expires_at > :now"
_USE = text(
    f"update oidc_flows set used_at = :now where {_MINE} and used_at is null returning nonce, verifier, email, subject"
)
_LOCK = text(f"select nonce, verifier, email, subject from oidc_flows where {_MINE} and subject is not null for update")
_VOUCH = text("update oidc_flows set email = :email, subject = :subject where state_sha256 = :state")
_END = text("delete from oidc_flows where state_sha256 = :state")
_FORGET = text("delete from oidc_flows where expires_at < :before")
_SUBJECTS = text(
    """
    select cast(agent_id as text), subject from oidc_identities
    where issuer = :issuer and agent_id = any(cast(:agents as uuid[])) and account_id = any(cast(:accounts as uuid[]))
    """
)
_BIND = text(
    """
    insert into oidc_identities (account_id, agent_id, issuer, subject) values (:account, :agent, :issuer, :subject)
    on conflict do nothing
    """
)
_UNBIND = text("delete from oidc_identities where account_id = :account and agent_id = :agent")


async def add(tx: Tx, *, state: bytes, flow: bytes, nonce: str, verifier: str, expires_at: datetime) -> None:
    """Keep a sign-in that begins, by the digests of what the browser has."""
    await tx.execute(
        _ADD, {"state": state, "flow": flow, "nonce": nonce, "verifier": verifier, "expires_at": expires_at}
    )


async def use(tx: Tx, *, state: bytes, flow: bytes, now: datetime) -> Flow | None:
    """The sign-in for the provider's code, once; None for any further code."""
    row: Any = (await tx.execute(_USE, {"state": state, "flow": flow, "now": now})).first()
    return Flow(*row) if row else None


async def vouch(tx: Tx, *, state: bytes, email: str, subject: str) -> None:
    """Whom the provider vouched for."""
    await tx.execute(_VOUCH, {"state": state, "email": email, "subject": subject})


async def lock(tx: Tx, *, state: bytes, flow: bytes, now: datetime) -> Flow | None:
    """The sign-in that a provider has vouched for, locked: one session comes of it."""
    row: Any = (await tx.execute(_LOCK, {"state": state, "flow": flow, "now": now})).first()
    return Flow(*row) if row else None


async def end(tx: Tx, state: bytes) -> None:
    await tx.execute(_END, {"state": state})


async def subjects(tx: Tx, issuer: str, agents: Sequence[str], accounts: Sequence[str]) -> dict[str, str]:
    """Who these agents are at the provider, as far as they have signed in there."""
    found = await tx.execute(_SUBJECTS, {"issuer": issuer, "agents": list(agents), "accounts": list(accounts)})
    return {row[0]: row[1] for row in found}


async def bind(tx: Tx, account: str, agent: str, issuer: str, subject: str) -> None:
    """From now on the agent is this one at the provider, and nobody else is."""
    await tx.execute(_BIND, {"account": account, "agent": agent, "issuer": issuer, "subject": subject})


async def unbind(tx: Tx, account: str, agent: str) -> None:
    await tx.execute(_UNBIND, {"account": account, "agent": agent})


async def forget(tx: Tx, before: datetime) -> None:
    """Delete sign-ins that ran out before then."""
    await tx.execute(_FORGET, {"before": before})

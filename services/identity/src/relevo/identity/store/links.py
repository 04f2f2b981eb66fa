"""One-time links, each kept as the SHA-256 of its token. A row is deleted by its use: of two users one finds it."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text

from relevo.chassis.database import Tx
from relevo.contracts.notification import Notify
from relevo.identity.domain.links import SEVERAL, Purpose


@dataclass(frozen=True, slots=True)
class Link:
    """A link that is good now. ``email``: the address that it was sent to."""

    id: str
    account_id: str
    agent_id: str
    email: str
    expires_at: datetime


_LINK = """
    cast(id as text) as id, cast(account_id as text) as account_id, cast(agent_id as text) as agent_id, email, expires_at
"""
_ADD = text(
    """
    insert into links (id, account_id, agent_id, purpose, email, sha256, expires_at)
    values (:id, :account, :agent, :purpose, :email, :sha256, :expires_at)
    """
)
_FORGET = text(
    """
    delete from links where account_id = :account and agent_id = :agent
      and (cast(:purpose as text) is null or purpose = :purpose)
    """
)
_PEEK = text(f"select {_LINK} from links where sha256 = :sha256 and purpose = :purpose and expires_at > :now")
_TAKE = text(
    f"""
    delete from links where sha256 = :sha256 and purpose = :purpose and account_id = :account and expires_at > :now
    returning {_LINK}
    """
)
_OF_AGENTS = text(
    f"""
    select {_LINK}, purpose from links
    where account_id = :account and agent_id = any(cast(:agents as uuid[])) and purpose = any(cast(:purposes as text[]))
    """
)
# Invitations stay for the list of agents: there it is seen that they ran out.
_FORGET_OLD = text("delete from links where expires_at < :before and purpose <> 'invitation'")
# What takes its place is a command that notification passes over, should the stream have to be filled again.
_FORGET_SENT = text(
    """
    update outbox set body = :nothing
    where stream = 'CMD_NOTIFICATION' and stream_seq is not null and created_at < :before and body <> :nothing
    """
)
_NOTHING = Notify(
    dedup_key="forgotten", kind="forgotten", template="forgotten", useless_after=datetime(2000, 1, 1, tzinfo=UTC)
)


async def add(tx: Tx, link: Link, purpose: Purpose, sha256: bytes) -> None:
    """Keep a link; where one may hold only one of the purpose, those before are no longer good."""
    if purpose not in SEVERAL:
        await forget(tx, link.account_id, link.agent_id, purpose)
    await tx.execute(
        _ADD,
        {
            "id": link.id,
            "account": link.account_id,
            "agent": link.agent_id,
            "purpose": purpose.value,
            "email": link.email,
            "sha256": sha256,
            "expires_at": link.expires_at,
        },
    )


async def forget(tx: Tx, account: str, agent: str, purpose: Purpose | None = None) -> None:
    """An agent's links of the purpose, or all of them, are no longer good."""
    parameters = {"account": account, "agent": agent, "purpose": purpose.value if purpose else None}
    await tx.execute(_FORGET, parameters)


async def peek(tx: Tx, purpose: Purpose, sha256: bytes, now: datetime) -> Link | None:
    """The link of a token, which stays good. Leaves the transaction in the link's account."""
    async with tx.through("link", sha256.hex()):
        found = await tx.execute(_PEEK, {"sha256": sha256, "purpose": purpose.value, "now": now})
    row: Any = found.mappings().first()
    if row is None:
        return None
    link = Link(**row)
    await tx.enter(link.account_id)
    return link


async def take(tx: Tx, account: str, purpose: Purpose, sha256: bytes, now: datetime) -> Link | None:
    """The link of a token, used up. The account's lock is held."""
    found = await tx.execute(_TAKE, {"sha256": sha256, "purpose": purpose.value, "account": account, "now": now})
    row: Any = found.mappings().first()
    return Link(**row) if row else None


async def of_agents(tx: Tx, account: str, agents: Sequence[str]) -> dict[tuple[str, Purpose], Link]:
    """The invitations and changes of address that are under way, also those that have run out."""
    purposes = [Purpose.INVITATION.value, Purpose.EMAIL_CHANGE.value]
    found = await tx.execute(_OF_AGENTS, {"account": account, "agents": list(agents), "purposes": purposes})
    links = {}
    for row in found.mappings():
        fields = dict(row)
        purpose = Purpose(fields.pop("purpose"))
        links[fields["agent_id"], purpose] = Link(**fields)
    return links


async def forget_old(tx: Tx, before: datetime) -> None:
    """Delete what ran out before then."""
    await tx.execute(_FORGET_OLD, {"before": before})


async def forget_sent(tx: Tx, before: datetime) -> None:
    """Take the tokens out of the outbox's copy of what was published before then: the archive shall not have them."""
    await tx.execute(_FORGET_SENT, {"nothing": _NOTHING.model_dump_json().encode(), "before": before})

"""All SQL of the service."""

import hashlib
import secrets
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy import select, text

from relevo.chassis.conversation_facts import conversation_facts
from relevo.chassis.database import Tx
from relevo.kernel.access import ConversationColumns, Viewer, visible


@dataclass(frozen=True, slots=True)
class Holder:
    """Whom a ticket was given to."""

    account_id: str
    agent_id: str
    session_id: str


_ADD_TICKET = text("""
    insert into socket_tickets (sha256, account_id, agent_id, session_id, expires_at)
    values (:sha256, cast(:account as uuid), cast(:agent as uuid), :session, :expires)
""")
_FORGET_TICKETS = text("delete from socket_tickets where expires_at < :now")
_TAKE_TICKET = text("""
    delete from socket_tickets where sha256 = :sha256
    returning cast(account_id as text) as account_id, cast(agent_id as text) as agent_id, session_id, expires_at
""")
_DIRECTORY_STATE = text("""
    select a.id as agent_id, concat_ws('/', a.sequence, a.deleted, r.id, r.sequence, r.deleted) as version
    from directory a
    left join directory r on r.kind = 'role' and r.id = a.state ->> 'role_id' and r.account_id = a.account_id
    where a.kind = 'agent' and a.id = any(cast(:agents as text[]))
""")
_ENDED_SESSIONS = text("select id from directory where kind = 'session' and id = any(cast(:sessions as text[]))")


def digest(ticket: str) -> bytes:
    """What is kept of a ticket."""
    return hashlib.sha256(ticket.encode()).digest()


async def add_ticket(tx: Tx, holder: Holder, now: datetime, lifetime: timedelta) -> str:
    """A new ticket, of which only the hash is kept; expired ones of the account are forgotten on the way."""
    ticket = secrets.token_urlsafe(32)
    await tx.execute(_FORGET_TICKETS, {"now": now})
    await tx.execute(
        _ADD_TICKET,
        {
            "sha256": digest(ticket),
            "account": holder.account_id,
            "agent": holder.agent_id,
            "session": holder.session_id,
            "expires": now + lifetime,
        },
    )
    return ticket


async def take_ticket(tx: Tx, ticket: str, now: datetime) -> Holder | None:
    """Whoever it was given to, once; None when it is unknown, used or expired."""
    row = (await tx.execute(_TAKE_TICKET, {"sha256": digest(ticket)})).first()
    if row is None or row.expires_at <= now:
        return None
    return Holder(row.account_id, row.agent_id, row.session_id)


async def directory_versions(tx: Tx, agents: Collection[str]) -> dict[str, str]:
    """For each agent a text that changes whenever its own or its role's state does."""
    rows = await tx.execute(_DIRECTORY_STATE, {"agents": sorted(agents)})
    return {row.agent_id: row.version for row in rows}


async def ended_sessions(tx: Tx, sessions: Collection[str]) -> set[str]:
    """Those of these sessions that were ended before their time."""
    rows = await tx.execute(_ENDED_SESSIONS, {"sessions": sorted(sessions)})
    return {row.id for row in rows}


async def lost(tx: Tx, before: Viewer, after: Viewer, limit: int) -> list[str]:
    """Ids of conversations that were seen before and are not seen after, `limit` at most."""
    facts = conversation_facts
    columns = ConversationColumns.of(dict(facts.c.items()))
    seen = select(facts.c.id).where(visible(before, columns))
    gone = seen.except_(select(facts.c.id).where(visible(after, columns))).limit(limit)
    found: list[UUID] = list((await tx.execute(gone)).scalars())
    return [str(id_) for id_ in found]

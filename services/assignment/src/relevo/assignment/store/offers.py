"""SQL of what is offered at present."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import bindparam, select, text

from relevo.assignment.tables import conversation_facts, conversations_held
from relevo.chassis.database import Tx
from relevo.kernel.access import ConversationColumns, Viewer, visible

_NUMBERS = text("""
    select cast(conversation_id as text) as conversation_id, number from conversation_facts
    where account_id = cast(:account as uuid) and conversation_id = any(cast(:ids as uuid[]))
""")

_PRESENT = text("""
    select cast(h.conversation_id as text) as conversation_id, f.number, cast(h.inbox_id as text) as inbox_id, h.channel,
           cast(h.team_id as text) as team_id, h.rank, h.queued_at, h.needs, h.version, h.offered_at, h.offered_until, h.reason
    from conversations_held h join conversation_facts f on f.conversation_id = h.conversation_id
    where h.account_id = cast(:account as uuid) and h.state = 'offered' and h.offered_to = cast(:agent as uuid)
    order by h.offered_until, h.conversation_id
""")

_UNANSWERED = text("""
    select unanswered from agents where account_id = cast(:account as uuid) and agent_id = cast(:agent as uuid)
""")


async def numbers(tx: Tx, account_id: str, ids: Collection[str]) -> dict[str, int]:
    """The numbers by which people call these conversations."""
    rows = await tx.execute(_NUMBERS, {"account": account_id, "ids": sorted(ids)})
    return {row.conversation_id: row.number for row in rows.all()}


async def of_agent(tx: Tx, account_id: str, agent_id: str) -> list[Mapping[str, Any]]:
    """What is offered to an agent, what must be answered first before the rest; no more than they have room for."""
    rows = await tx.execute(_PRESENT, {"account": account_id, "agent": agent_id})
    return [dict(row) for row in rows.mappings()]


async def unanswered(tx: Tx, account_id: str, agent_id: str) -> int:
    """How many offers in a row an agent let pass, in their present status."""
    found = (await tx.execute(_UNANSWERED, {"account": account_id, "agent": agent_id})).scalar()
    return int(found or 0)


async def seen(tx: Tx, viewer: Viewer, *, after: str | None, limit: int) -> list[Mapping[str, Any]]:
    """What is offered to anybody, of what the viewer may see, by the conversations' ids."""
    held, known = conversations_held.c, conversation_facts.c
    columns = ConversationColumns(
        held.account_id, held.inbox_id, held.team_id, held.assignee_id, known.participant_ids, known.owner_id
    )
    statement = (
        select(
            held.conversation_id,
            known.number,
            held.inbox_id,
            held.channel,
            held.team_id,
            held.rank,
            held.queued_at,
            held.needs,
            held.version,
            held.offered_to,
            held.offered_at,
            held.offered_until,
            held.reason,
        )
        .join(conversation_facts, known.conversation_id == held.conversation_id)
        .where(
            held.account_id == bindparam(None, viewer.account_id, type_=held.account_id.type),
            held.state == "offered",
            visible(viewer, columns),
        )
        .order_by(held.conversation_id)
        .limit(limit)
    )
    if after is not None:
        statement = statement.where(held.conversation_id > bindparam(None, after, type_=held.conversation_id.type))
    return [dict(row) for row in (await tx.execute(statement)).mappings()]

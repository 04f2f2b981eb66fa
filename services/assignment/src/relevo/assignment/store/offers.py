"""SQL of what is offered at present."""

from collections.abc import Collection, Mapping
from typing import Any

from sqlalchemy import Select, bindparam, select, text

from relevo.assignment.tables import conversation_facts, conversations_held
from relevo.chassis.database import Tx
from relevo.kernel.access import ConversationColumns, Viewer, visible

_held, _known = conversations_held.c, conversation_facts.c

_NUMBERS = text("""
    select cast(conversation_id as text) as conversation_id, number from conversation_facts
    where account_id = cast(:account as uuid) and conversation_id = any(cast(:ids as uuid[]))
""")

_UNANSWERED = text("""
    select unanswered from agents where account_id = cast(:account as uuid) and agent_id = cast(:agent as uuid)
""")


async def numbers(tx: Tx, account_id: str, ids: Collection[str]) -> dict[str, int]:
    """The numbers by which people call these conversations."""
    rows = await tx.execute(_NUMBERS, {"account": account_id, "ids": sorted(ids)})
    return {row.conversation_id: row.number for row in rows.all()}


async def unanswered(tx: Tx, account_id: str, agent_id: str) -> int:
    """How many offers in a row an agent let pass, in their present status."""
    found = (await tx.execute(_UNANSWERED, {"account": account_id, "agent": agent_id})).scalar()
    return int(found or 0)


async def of_agent(tx: Tx, account_id: str, agent_id: str) -> list[Mapping[str, Any]]:
    """What is offered to an agent, what must be answered first before the rest; no more than they have room for."""
    mine = _offered(account_id).where(_held.offered_to == bindparam(None, agent_id, type_=_held.offered_to.type))
    rows = await tx.execute(mine.order_by(_held.offered_until, _held.conversation_id))
    return [dict(row) for row in rows.mappings()]


async def seen(tx: Tx, viewer: Viewer, *, after: str | None, limit: int) -> list[Mapping[str, Any]]:
    """What is offered to anybody, of what the viewer may see, by the conversations' ids."""
    columns = ConversationColumns(
        _held.account_id, _held.inbox_id, _held.team_id, _held.assignee_id, _known.participant_ids, _known.owner_id
    )
    statement = _offered(viewer.account_id).where(visible(viewer, columns)).order_by(_held.conversation_id).limit(limit)
    if after is not None:
        statement = statement.where(_held.conversation_id > bindparam(None, after, type_=_held.conversation_id.type))
    return [dict(row) for row in (await tx.execute(statement)).mappings()]


def _offered(account_id: str) -> Select[Any]:
    return (
        select(
            _held.conversation_id,
            _known.number,
            _held.inbox_id,
            _held.channel,
            _held.team_id,
            _held.rank,
            _held.queued_at,
            _held.needs,
            _held.offered_to,
            _held.offered_at,
            _held.offered_until,
            _held.reason,
        )
        .join(conversation_facts, _known.conversation_id == _held.conversation_id)
        .where(_held.account_id == bindparam(None, account_id, type_=_held.account_id.type), _held.state == "offered")
    )

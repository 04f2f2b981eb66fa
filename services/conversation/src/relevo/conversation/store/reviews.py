"""The conversations that a rule whose time has come is about, found once."""

from datetime import timedelta

from sqlalchemy import select

from relevo.chassis.database import Tx
from relevo.contracts.conversation import REVIEWED_AT_MOST, ReviewConversations
from relevo.conversation.filters import UNRESOLVED_STATUSES, Filters, conditions
from relevo.conversation.lists import PLAN_FOR_THESE_VALUES
from relevo.conversation.tables import conversations

_c = conversations.c


async def found(tx: Tx, account_id: str, asked: ReviewConversations) -> list[str]:
    """Their ids, the longest quiet first; at most REVIEWED_AT_MOST. Reads what is not resolved in the order of activity."""
    quiet = asked.due_at - timedelta(minutes=asked.idle_minutes) if asked.idle_minutes else None
    filters = Filters(
        status=asked.statuses or UNRESOLVED_STATUSES,
        inbox_ids=asked.inbox_ids,
        team_id=asked.team_id,
        with_archived=True,
        active=(None, quiet),
    )
    wanted = conditions(account_id, filters)
    if asked.waiting_minutes:
        wanted.append(_c.waiting_since <= asked.due_at - timedelta(minutes=asked.waiting_minutes))
    statement = select(_c.id).where(*wanted).order_by(_c.active_minute, _c.id).limit(REVIEWED_AT_MOST)
    await tx.execute(PLAN_FOR_THESE_VALUES)
    return list((await tx.execute(statement)).scalars())

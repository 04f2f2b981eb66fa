"""Customers' answers to surveys as a list: those in conversations that whoever asks may see."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from relevo.chassis.database import Tx
from relevo.conversation import lists
from relevo.conversation.store.rows import Row, older, plain
from relevo.conversation.tables import conversations, surveys
from relevo.kernel.access import Viewer, visible


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the list is narrowed to; all of it together. ``agent_id`` is who is credited."""

    rating: int | None = None
    agent_id: str | None = None
    inbox_id: str | None = None


async def page(tx: Tx, viewer: Viewer, wanted: Wanted, limit: int, after: tuple[datetime, str] | None) -> Sequence[Row]:
    """One page of answers, the latest first, and one more."""
    s = surveys.c
    conditions = [s.account_id == viewer.account_id, s.answered_at.is_not(None), visible(viewer, lists.FACTS)]
    if after is not None:
        conditions.append(older(s.answered_at, s.id, after))
    conditions += [
        column == value
        for column, value in ((s.rating, wanted.rating), (s.agent_id, wanted.agent_id), (s.inbox_id, wanted.inbox_id))
        if value is not None
    ]
    of = (conversations.c.id == s.conversation_id) & (conversations.c.account_id == s.account_id)
    statement = (
        select(surveys)
        .select_from(surveys.join(conversations, of))
        .where(*conditions)
        .order_by(s.answered_at.desc(), s.id.desc())
        .limit(limit + 1)
    )
    await tx.execute(lists.PLAN_FOR_THESE_VALUES)
    return list(plain(await tx.execute(statement)))

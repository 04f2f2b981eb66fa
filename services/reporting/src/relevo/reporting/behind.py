"""HTTP: what a number is made of, its facts and the conversations that they are of."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from relevo.chassis import paging
from relevo.chassis.http import Db
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.contracts.base import Time
from relevo.contracts.metrics import WITHOUT_CONVERSATION, Fact, Metric
from relevo.reporting import store
from relevo.reporting.api import Chosen, bad_query, told_by, with_label

router = APIRouter(prefix="/reports", tags=["reports"])


class CountedConversation(BaseModel):
    """A conversation behind a number. What all of them have together is the number, but for what no conversation had."""

    conversation_id: str
    last_at: Time = Field(description="When the last of what counts happened.")
    count: int
    sum: float


@router.get("/facts")
async def list_facts(chosen: Chosen, db: Db, metric: Metric, limit: Limit = 50, cursor: Cursor = None) -> Page[Fact]:
    """The facts behind a number, in the order in which they happened."""
    after = _place(cursor)
    told_by(chosen, metric)
    async with db.begin() as tx:
        chosen, *_ = await with_label(tx, chosen)
        facts = await store.page(tx, chosen, metric, after=after, limit=limit + 1)
    return paging.page(facts, limit, lambda fact: (fact.at.isoformat(), fact.fact_id), lambda fact: fact)


@router.get("/conversations")
async def list_counted_conversations(
    chosen: Chosen,
    db: Db,
    metric: Annotated[Metric, Query(description="Any but presence_seconds, which is of no conversation.")],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[CountedConversation]:
    """The conversations behind a number or a bar, each once, with how much of it is theirs; what happened last first.

    A bar of a series is the period from its `start` up to the next one's; one of groups is the same question about
    that agent, team, inbox, channel or label.
    """
    before = _place(cursor)
    told_by(chosen, metric)
    if metric in WITHOUT_CONVERSATION:
        raise bad_query(
            "metric",
            es="Detrás de esta métrica no hay conversaciones: elige otra, o mira sus hechos en /reports/facts.",
            en="There are no conversations behind this metric: choose another one, or see its facts at /reports/facts.",
        )
    async with db.begin() as tx:
        chosen, *_ = await with_label(tx, chosen)
        rows = await store.conversations(tx, chosen, metric, before=before, limit=limit + 1)
    return paging.page(
        rows,
        limit,
        lambda row: (row.last_at.isoformat(), row.conversation_id),
        lambda row: CountedConversation(
            conversation_id=row.conversation_id, last_at=row.last_at, count=row.count, sum=row.sum
        ),
    )


def _place(cursor: str | None) -> tuple[datetime, str] | None:
    if cursor is None:
        return None
    at, id_ = paging.decode(cursor, datetime, UUID)
    return at, id_

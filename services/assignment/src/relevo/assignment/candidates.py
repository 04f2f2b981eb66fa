"""HTTP: whom a conversation can be given to, found by a part of their name."""

from operator import itemgetter
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from relevo.assignment import readings
from relevo.assignment.api import Assigner, seen_facts
from relevo.chassis import paging
from relevo.chassis.http import Db
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.contracts.base import Id
from relevo.contracts.permissions import Permission
from relevo.contracts.presence import RoutingState
from relevo.kernel.names import folded_name, name_rank

router = APIRouter(tags=["assignment"])


class CandidateOut(BaseModel):
    """Somebody whom the conversation can be given to."""

    agent_id: Id
    name: str
    state: RoutingState
    load: int
    used: float = Field(description="What these take of the capacity, in units.")
    capacity: int
    reaches: bool = Field(description="Whether they work on conversations of its inbox and team.")


@router.get("/conversations/{conversation_id}/assignment/candidates")
async def list_candidates(
    *,
    conversation_id: UUID,
    who: Assigner,
    db: Db,
    q: Annotated[str, Query(max_length=100, description="A part of a name; accents and case do not count.")] = "",
    team_id: Annotated[UUID | None, Query(description="Only members of this team, to give it to both.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[CandidateOut]:
    """Whom one can give the conversation to, the best fitting name first: exactly those that assigning accepts.

    Who may only take conversations finds themselves.
    """
    facts = await seen_facts(db, who, str(conversation_id))
    place = paging.decode(cursor, int, str, str) if cursor else None
    me = who.viewer.agent_id
    others = who.can(Permission.CONVERSATIONS_ASSIGN_OTHERS)
    if not others and (me is None or team_id or facts.assignee_id not in {me, None}):
        return Page(items=[])
    async with db.begin() as tx:
        rows = await readings.candidates(
            tx, facts, within=str(team_id) if team_id else None, only=None if others else me
        )
    wanted = folded_name(q)
    # An account has hundreds of agents, not millions: they are read, and paged here.
    ranked = [
        (rank, folded_name(row["name"]), row["agent_id"], row)
        for row in rows
        if (rank := name_rank(row["name"], wanted))
    ]
    found = sorted((one for one in ranked if place is None or one[:3] > place), key=itemgetter(0, 1, 2))
    return paging.page(found[: limit + 1], limit, lambda one: one[:3], lambda one: CandidateOut(**one[3]))

"""HTTP: the queue, and an agent's conversations, as of a past moment."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from relevo.assignment.api import Reader, RoutingReader, WaitingShown, queue_place
from relevo.assignment.domain.inputs import PRIORITIES
from relevo.assignment.domain.policy import Policy
from relevo.assignment.domain.units import told
from relevo.assignment.readings import place_of
from relevo.assignment.records import agent_name
from relevo.assignment.store import past
from relevo.chassis import paging
from relevo.chassis.database import Tx
from relevo.chassis.http import Db
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.chassis.problems import FieldError, Problem
from relevo.contracts.base import Id, Time, now
from relevo.contracts.presence import RoutingState

router = APIRouter(tags=["assignment"])

At = Annotated[Time, Query(description="The moment, RFC 3339; not in the future.")]


class HeldThen(BaseModel):
    """A conversation that an agent had, since `from_at`; its team is that of then."""

    conversation_id: Id
    number: int
    inbox_id: Id
    channel: str
    team_id: Id | None
    from_at: Time


class AgentThen(BaseModel):
    """What the matcher knew of an agent at a moment, and how much they had; null: it knew nothing of them yet.

    `load` counts all that they had, and `used` is what these took of `capacity`, in units; `items` are those that you may see today, `next` leads on.
    """

    agent_id: Id
    name: str
    at: Time
    state: RoutingState | None
    in_shift: bool | None = Field(description="Null: no shift was planned.")
    active: bool
    load: int
    used: float | None
    capacity: int | None
    team_ids: list[Id]
    items: list[HeldThen]
    next: str | None = None


@router.get("/queue/as-of")
async def get_queue_as_of(
    who: Reader, db: Db, at: At, *, limit: Limit = 50, cursor: Cursor = None
) -> Page[WaitingShown]:
    """Who waited at a past moment, in the order in which they would have been given, with their places then.

    You see those that you may see today. Order and places are of that moment, so pages fit together however late they are read.
    """
    after = queue_place(*paging.decode(cursor, int, str, str)) if cursor else None
    async with db.begin() as tx:
        await _known(tx, who.account_id, at)
        rows = await past.queue(tx, who.viewer, at, after=after, limit=limit + 1)

    def item(row: Any) -> WaitingShown:
        waited = max((at - row["queued_at"]).total_seconds(), 0.0)
        return WaitingShown(**{**row, "priority": PRIORITIES[row["rank"]], "waiting_seconds": waited})

    return paging.page(rows, limit, place_of, item)


@router.get("/routing/agents/{agent_id}/as-of")
async def get_agent_as_of(
    agent_id: UUID, who: RoutingReader, db: Db, at: At, *, limit: Limit = 50, cursor: Cursor = None
) -> AgentThen:
    """What an agent was at a past moment: the status that the matcher went by, capacity, load, and what they had."""
    id_ = str(agent_id)
    after: str | None = paging.decode(cursor, UUID)[0] if cursor else None
    async with db.begin() as tx:
        await _known(tx, who.account_id, at)
        name = await agent_name(tx, who.account_id, id_)
        if name is None:
            raise Problem(404, "agent_not_found", es="No existe esa persona.", en="There is no such agent.")
        then = await past.agent(tx, who.account_id, id_, at) or {}
        load = await past.load(tx, who.account_id, id_, at)
        rows = await past.held(tx, who.viewer, id_, at, after=after, limit=limit + 1)
        capacity = then.get("capacity")
        if then and capacity is None:
            found = await past.default_capacity(tx, who.account_id, at)
            capacity = Policy().default_capacity if found is None else found
    page = paging.page(rows, limit, lambda row: (row["conversation_id"],), lambda row: HeldThen(**row))
    return AgentThen(
        agent_id=id_,
        name=name,
        at=at,
        state=then.get("state"),
        in_shift=then.get("in_shift"),
        active=bool(then.get("active")),
        load=load,
        used=told(then["used"]) if then else None,
        capacity=capacity,
        team_ids=sorted(then.get("team_ids") or ()),
        items=page.items,
        next=page.next,
    )


async def _known(tx: Tx, account_id: str, at: datetime) -> None:
    """Raises Problem 422 for a moment to come, 409 for one before anything was kept."""
    if at > now():
        raise Problem(
            422,
            "moment_in_the_future",
            es="Ese momento aún no ha llegado: pide uno pasado.",
            en="That moment has not come yet: ask for a past one.",
            errors=[FieldError("/query/at", es="Debe estar en el pasado.", en="Must be in the past.")],
        )
    since = await past.known_since(tx, account_id)
    if since is None or at < since:
        raise Problem(
            409,
            "beyond_the_record",
            es="De ese momento no se guardó nada: pide uno desde `known_since`.",
            en="Nothing was kept of that moment: ask for one from `known_since` on.",
            extra={"known_since": since.isoformat() if since else None},
        )

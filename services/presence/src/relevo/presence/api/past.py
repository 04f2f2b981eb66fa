"""HTTP: everybody's status as of a past moment."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import Field

from relevo.chassis import directory, paging
from relevo.chassis.http import Db
from relevo.chassis.paging import FIRST_ID, Cursor, Limit, Page
from relevo.chassis.problems import FieldError, Problem
from relevo.contracts.base import Time, now
from relevo.presence.api.status import IntervalOut, Supervisor
from relevo.presence.domain.reasons import reason
from relevo.presence.store import past, rules

router = APIRouter(tags=["presence"])


class StatusThen(IntervalOut):
    """The status of an agent at a moment: the interval that held it."""

    name: str = Field(description="As it is today; empty for who has left.")
    label: str | None = Field(default=None, description="The named status, as it is called today.")
    reason: str = Field(description="Why, in words.")


@router.get("/presence/as-of")
async def get_presence_as_of(
    *,
    who: Supervisor,
    db: Db,
    at: Annotated[Time, Query(description="The moment, RFC 3339; not in the future.")],
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[StatusThen]:
    """The status of every agent at a past moment, by id; of whom nothing was known then nothing is told."""
    if at > now():
        raise Problem(
            422,
            "moment_in_the_future",
            es="Ese momento aún no ha llegado: pide uno pasado.",
            en="That moment has not come yet: ask for a past one.",
            errors=[FieldError("/query/at", es="Debe estar en el pasado.", en="Must be in the past.")],
        )
    after: str = paging.decode(cursor, UUID)[0] if cursor else FIRST_ID
    async with db.begin() as tx:
        rows = await past.statuses(tx, who.account_id, at, after=after, limit=limit + 1)
        names = {agent.id: agent.name for agent in await directory.agents(tx, who.account_id)}
        labels = {row["id"]: row["name"] for row in await rules.named(tx, who.account_id, also_removed=True)}

    def item(row: Any) -> StatusThen:
        label = labels.get(row["label_id"])
        why = reason(row["cause"], who.language, label=label)
        return StatusThen(**row, name=names.get(row["agent_id"], ""), label=label, reason=why)

    return paging.page(rows, limit, lambda row: (row["agent_id"],), item)

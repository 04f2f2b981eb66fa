"""HTTP: how long a conversation will still wait."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, Field
from sqlalchemy import TextClause, text

from relevo.assignment.api import Reader, seen_facts
from relevo.assignment.domain import waits
from relevo.assignment.domain.waits import Unknown
from relevo.assignment.store import places, pools
from relevo.chassis.database import Tx
from relevo.chassis.http import Db
from relevo.chassis.problems import Problem
from relevo.contracts.base import Id, now

router = APIRouter(tags=["assignment"])

# Those of the conversation's team, or of none: who takes from one queue of a team takes from all of it.
_PLACE = """
    select count(*) as place from conversations_held q, conversations_held h
    where h.account_id = cast(:account as uuid) and h.conversation_id = cast(:conversation as uuid) and h.state = 'queued'
      and q.account_id = cast(:account as uuid) and q.state = 'queued'
      and q.team_id is not distinct from h.team_id
      and ({mine}) <= ({its})
"""

# What came straight to somebody says how many came, not how fast a queue is served. The window's last ones are enough.
_GIVEN = text("""
    select created_at from (
        select conversation_id, version, created_at, kind, mode, team_id from decisions
        where account_id = cast(:account as uuid) and created_at >= :since
        order by created_at desc limit 5000) lately
    where kind = 'assigned' and mode = 'automatic' and team_id is not distinct from cast(:team as uuid)
      and exists (select from decisions before where before.account_id = cast(:account as uuid)
                  and before.conversation_id = lately.conversation_id and before.version = lately.version - 1
                  and (before.kind = 'queued' or before.kind = 'offered' and exists (
                      select from decisions first where first.account_id = before.account_id
                        and first.conversation_id = before.conversation_id and first.version = before.version - 1
                        and first.kind in ('queued', 'offered'))))
    limit 500
""")

_AT_WORK = text("""
    select exists (
        select from agents where account_id = cast(:account as uuid) and active and state in ('available', 'busy')
          and (inbox_ids is null or cast(:inbox as uuid) = any(inbox_ids))
          and (cast(:team as uuid) is null or cast(:team as uuid) = any(team_ids)))
""")


async def _scalar(tx: Tx, statement: TextClause, given: Mapping[str, Any]) -> int:
    found: int = (await tx.execute(statement, given)).scalar_one()
    return found


class WaitOut(BaseModel):
    """How long the conversation will still wait; `expected_seconds` null: nobody knows, and `unknown` says why."""

    conversation_id: Id
    place: int = Field(description="Among those that wait for the same team, or for none, from 1.")
    expected_seconds: float | None
    unknown: Unknown | None
    given_lately: int = Field(description="How many were given out of this queue in the last half hour: the basis.")


@router.get("/conversations/{conversation_id}/assignment/wait")
async def get_expected_wait(conversation_id: UUID, who: Reader, db: Db) -> WaitOut:
    """How long the conversation will still wait for an agent: its place over how fast its queue was served lately."""
    facts = await seen_facts(db, who, str(conversation_id))
    at = now()
    given: dict[str, Any] = {"account": who.account_id, "conversation": str(conversation_id), "inbox": facts.inbox_id}
    given |= {"team": facts.team_id, "since": at - waits.WINDOW}
    async with db.begin() as tx:
        worth = (await pools.policy(tx, who.account_id)).priority_worth_seconds
        counted = text(_PLACE.format(mine=places.listed("q", worth), its=places.listed("h", worth)))
        place = await _scalar(tx, counted, given | ({} if worth is None else {"worth": worth}))
        if not place:
            raise Problem(
                409,
                "not_waiting",
                es="La conversación no espera en ninguna cola.",
                en="The conversation does not wait in a queue.",
            )
        at_work = await _scalar(tx, _AT_WORK, given)
        lately = list((await tx.execute(_GIVEN, given)).scalars())
    found = waits.expected(place, lately, at=at, at_work=bool(at_work))
    return WaitOut(
        conversation_id=str(conversation_id),
        place=place,
        expected_seconds=found.seconds,
        unknown=found.unknown,
        given_lately=found.given,
    )

"""HTTP: how long a conversation will still wait."""

from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, Field

from relevo.assignment.api import Reader, seen_facts
from relevo.assignment.domain.waits import Unknown
from relevo.assignment.store import waits
from relevo.assignment.store.waits import Queue
from relevo.chassis.http import Db
from relevo.chassis.problems import Problem
from relevo.contracts.base import Id, now

router = APIRouter(tags=["assignment"])


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
    async with db.begin() as tx:
        asked = {str(conversation_id): Queue(facts.inbox_id, facts.team_id)}
        found = await waits.expected(tx, who.account_id, asked, at=now())
    if not found:
        raise Problem(
            409,
            "not_waiting",
            es="La conversación no espera en ninguna cola.",
            en="The conversation does not wait in a queue.",
        )
    place, wait = found[str(conversation_id)]
    return WaitOut(
        conversation_id=str(conversation_id),
        place=place,
        expected_seconds=wait.seconds,
        unknown=wait.unknown,
        given_lately=wait.given,
    )

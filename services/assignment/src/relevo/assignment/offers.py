"""HTTP: what is offered, and the answers to it."""

from typing import Any, Literal
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, Field

from relevo.assignment.api import Reader, ReasonOut, RoutingReader, decided, reason_out
from relevo.assignment.domain.inputs import PRIORITIES, OfferAnswered
from relevo.assignment.readings import assignment
from relevo.assignment.store import journals, offers, pools
from relevo.chassis import paging
from relevo.chassis.auth import Principal
from relevo.chassis.http import Db, Rt
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.chassis.problems import Problem
from relevo.contracts.assignment import DeclineReason
from relevo.contracts.base import Id, Time, now

router = APIRouter(tags=["assignment"])


class MyOfferOut(BaseModel):
    """A conversation that is offered to you, and what you need to know to answer; you may not be allowed to read it yet."""

    conversation_id: Id
    number: int
    inbox_id: Id
    channel: str
    team_id: Id | None
    priority: Literal["low", "medium", "high", "urgent"]
    needs: dict[str, int] = Field(description="What it needs of whoever gets it: the least levels by skill.")
    queued_at: Time
    waiting_seconds: float
    offered_at: Time
    until: Time
    seconds_left: float = Field(description="0: the time is up, and the offer is about to go.")
    reason: ReasonOut | None = Field(description="Why it is offered to you.")


class OfferOut(MyOfferOut):
    """A conversation that is offered to an agent."""

    agent_id: Id


class MyOffers(BaseModel):
    """What is offered to you, what must be answered first before the rest."""

    items: list[MyOfferOut]
    unanswered: int = Field(description="How many offers in a row you let pass, since you have this status.")
    paused: bool = Field(description="You get nothing more because of them, until you change your status.")


class DeclineBody(BaseModel):
    """Why not, if you like: it is counted, and shown to who asks why it went to somebody else."""

    why: DeclineReason | None = None


class AnsweredOut(BaseModel):
    """What became of the offer, and the version of the assignment after it."""

    conversation_id: Id
    outcome: Literal["accepted", "declined"]
    version: int


@router.get("/offers")
async def list_my_offers(who: Reader, db: Db) -> MyOffers:
    """What is offered to you at present, and whether you get anything at all."""
    me = _me(who)
    async with db.begin() as tx:
        rows = await offers.of_agent(tx, who.account_id, me)
        unanswered = await offers.unanswered(tx, who.account_id, me)
        most = (await pools.policy(tx, who.account_id)).most_unanswered
    return MyOffers(
        items=[MyOfferOut(**_told(row, who)) for row in rows],
        unanswered=unanswered,
        paused=most is not None and unanswered >= most,
    )


@router.get("/routing/offers")
async def list_offers(who: RoutingReader, db: Db, limit: Limit = 50, cursor: Cursor = None) -> Page[OfferOut]:
    """What is offered to anybody at present, of the conversations that you may see."""
    after: str | None = paging.decode(cursor, UUID)[0] if cursor else None
    async with db.begin() as tx:
        rows = await offers.seen(tx, who.viewer, after=after, limit=limit + 1)
    return paging.page(
        rows,
        limit,
        lambda row: (row["conversation_id"],),
        lambda row: OfferOut(**_told(row, who), agent_id=row["offered_to"]),
    )


@router.post("/conversations/{conversation_id}/offer/accept")
async def accept_offer(conversation_id: UUID, who: Reader, *, db: Db, rt: Rt, once: Idempotency) -> AnsweredOut:
    """Take the conversation that is offered to you. Whether you have it already or take it now, it is yours afterwards."""
    return await _answer(OfferAnswered(str(conversation_id), _me(who), accepted=True), who, db, rt, once)


@router.post("/conversations/{conversation_id}/offer/decline")
async def decline_offer(
    conversation_id: UUID, body: DeclineBody, who: Reader, *, db: Db, rt: Rt, once: Idempotency
) -> AnsweredOut:
    """Leave the conversation that is offered to you to somebody else. It is not offered to you again while it waits."""
    return await _answer(OfferAnswered(str(conversation_id), _me(who), accepted=False, why=body.why), who, db, rt, once)


async def _answer(given: OfferAnswered, who: Principal, db: Db, rt: Rt, once: Idempotency) -> AnsweredOut:
    async with db.begin() as tx:
        await once.start(tx)
        journal_id, refusal = await decided(tx, rt, who, given)
        if refusal is None:
            found = await assignment(tx, who.account_id, given.conversation_id)
            assert found is not None
            outcome: Literal["accepted", "declined"] = "accepted" if given.accepted else "declined"
            told = AnsweredOut(conversation_id=given.conversation_id, outcome=outcome, version=found.row["version"])
            return await once.finish(tx, told)
        # What was decided on the way here stays: it may be what ended the offer.
        await journals.withdraw(tx, who.account_id, journal_id)
        await once.withdraw(tx)
    raise Problem(
        409,
        "no_offer",
        es="Esta conversación no se te ofrece, o ya no: mira las que se te ofrecen en /offers.",
        en="This conversation is not offered to you, or not any more: look at /offers for those that are.",
    )


def _me(who: Principal) -> str:
    """Raises Problem 422 for a key, which nothing is offered to."""
    me = who.viewer.agent_id
    if me is None:
        raise Problem(
            422,
            "not_an_agent",
            es="A una clave de API no se le ofrecen conversaciones: entra como una persona.",
            en="Nothing is offered to an API key: sign in as an agent.",
        )
    return me


def _told(row: Any, who: Principal) -> dict[str, Any]:
    present = now()
    return dict(row) | {
        "priority": PRIORITIES[row["rank"]],
        "waiting_seconds": max((present - row["queued_at"]).total_seconds(), 0.0),
        "until": row["offered_until"],
        "seconds_left": max((row["offered_until"] - present).total_seconds(), 0.0),
        "reason": None if row["reason"] is None else reason_out(row["reason"], who),
    }

"""HTTP: who holds a conversation and why, assigning by hand, the queue, the routing policy."""

import asyncio
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from relevo.assignment import matcher, readings
from relevo.assignment.domain.held import Refusal, State
from relevo.assignment.domain.inputs import PRIORITIES, Assign, CapacitySet, Input, SkillsSet
from relevo.assignment.readings import Assignment
from relevo.assignment.settings import Settings
from relevo.assignment.store import journals, pools
from relevo.assignment.store.journals import Note
from relevo.assignment.store.pools import PoolRow
from relevo.chassis import paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Database, Tx
from relevo.chassis.http import Db, Rt
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.chassis.problems import FieldError, Problem
from relevo.chassis.service import Runtime
from relevo.contracts.assignment import EndedOffer
from relevo.contracts.base import Id, Time, now
from relevo.contracts.permissions import Permission
from relevo.contracts.presence import RoutingState
from relevo.kernel import access

router = APIRouter(tags=["assignment"])

_WAIT_SECONDS = 1.0
"""How long a conversation that is not known here yet is waited for: its event may be under way."""


class ReasonOut(BaseModel):
    """Why, as a stable code and in the language asked for."""

    code: str
    text: str


class AssignmentOut(BaseModel):
    """Who holds a conversation. `position` (from 1) while it waits in the queue, `waiting_seconds` also while it is offered."""

    conversation_id: Id
    state: State
    version: int
    assignee_id: Id | None
    team_id: Id | None
    queued_at: Time | None
    position: int | None
    waiting_seconds: float | None
    reason: ReasonOut | None
    decision_id: Id | None
    offered_to: Id | None = Field(description="Whose answer is waited for; they may take it until `offered_until`.")
    offered_until: Time | None
    needs: dict[str, int] = Field(
        description="What whoever gets it from the queue must be able to at present: the least levels by skill."
    )


class AssignmentIn(BaseModel):
    """What to change; a member left out stays as it is, null takes the agent or the team away."""

    assignee_id: UUID | Literal["me"] | None = None
    team_id: UUID | None = None
    version: int | None = Field(
        default=None, ge=0, description="Change only if this is still the version; else 409 with the present state."
    )


class DecisionOut(BaseModel):
    """One decision: what became of the conversation, who was next, who was passed over and why."""

    id: Id
    version: int
    at: Time
    kind: Literal["assigned", "queued", "offered", "unassigned"]
    mode: Literal["automatic", "manual", "automation"]
    actor: str
    assignee_id: Id | None
    assignee_name: str | None
    team_id: Id | None
    from_assignee_id: Id | None
    from_team_id: Id | None
    offered_to: Id | None
    offered_to_name: str | None
    offered_until: Time | None
    ended_offer: EndedOffer | None = Field(
        description="The offer that ended with it: to whom, how, and why they declined."
    )
    reason: ReasonOut
    candidates: int
    excluded: dict[str, int]
    runners_up: list[str]
    waited_seconds: float | None
    policy_version: int
    rule: str = Field(description="The rule of the policy that it went by; empty: none.")
    needs: dict[str, int] = Field(description="The least levels of whoever gets it, by skill, at that moment.")
    journal_id: int


class WaitingShown(BaseModel):
    """A conversation that waits; `position` counts from 1 in the whole account."""

    conversation_id: Id
    number: int
    inbox_id: Id
    channel: str
    team_id: Id | None
    priority: Literal["low", "medium", "high", "urgent"]
    position: int
    queued_at: Time
    waiting_seconds: float


class WaitingOut(WaitingShown):
    """The same as it is now, with the reason."""

    reason: ReasonOut | None


class CapacityBody(BaseModel):
    """An agent's own capacity in units, of which a conversation takes one or what the policy says; null: the default."""

    capacity: int | None = Field(ge=0, le=10_000)


class AgentLoadOut(BaseModel):
    """What an agent carries: `load` open conversations, and `offered` ones, which take `used` of their `capacity`, in units.

    `own_capacity` null: the policy's default. `paused`: they get nothing because of so many `unanswered` offers in a row.
    """

    agent_id: Id
    name: str
    state: RoutingState
    state_since: Time | None
    load: int
    offered: int
    unanswered: int
    paused: bool
    used: float
    capacity: int
    own_capacity: int | None
    skills: dict[str, int]
    last_assigned_at: Time | None


class AgentLoads(BaseModel):
    """The agents of the account, by name."""

    items: list[AgentLoadOut]


Reader = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_READ))]
Assigner = Annotated[
    Principal, Depends(require(Permission.CONVERSATIONS_ASSIGN_SELF, Permission.CONVERSATIONS_ASSIGN_OTHERS))
]
RoutingReader = Annotated[Principal, Depends(require(Permission.ROUTING_READ, Permission.ROUTING_MANAGE))]
RoutingManager = Annotated[Principal, Depends(require(Permission.ROUTING_MANAGE))]


@router.get("/conversations/{conversation_id}/assignment")
async def get_assignment(conversation_id: UUID, who: Reader, db: Db) -> AssignmentOut:
    """Who holds the conversation, and why."""
    await seen_facts(db, who, str(conversation_id))
    async with db.begin() as tx:
        return _assignment(await readings.assignment(tx, who.account_id, str(conversation_id)), who)


@router.post("/conversations/{conversation_id}/assignment")
async def assign(
    conversation_id: UUID, body: AssignmentIn, who: Assigner, *, db: Db, rt: Rt, once: Idempotency
) -> AssignmentOut:
    """Give the conversation to an agent, a team, both, or nobody. Decides over automatic assignment, and at once."""
    await seen_facts(db, who, str(conversation_id))
    given = _wish(conversation_id, body, who)
    if not who.can(Permission.CONVERSATIONS_ASSIGN_OTHERS):
        async with db.begin() as tx:
            given = _for_myself(given, await readings.assignment(tx, who.account_id, str(conversation_id)), who)
    async with db.begin() as tx:
        await once.start(tx)
        journal_id, refusal = await decided(tx, rt, who, given)
        found = await readings.assignment(tx, who.account_id, str(conversation_id))
        if refusal is None:
            return await once.finish(tx, _assignment(found, who))
        # What was decided on the way here stays: the refusal tells of it.
        await journals.withdraw(tx, who.account_id, journal_id)
        await once.withdraw(tx)
    raise _refused(refusal, found, who)


@router.get("/conversations/{conversation_id}/decisions")
async def get_decisions(
    conversation_id: UUID, who: Reader, db: Db, limit: Limit = 50, cursor: Cursor = None
) -> Page[DecisionOut]:
    """Every decision on the conversation, the latest first: who was chosen, who was next, who was passed over."""
    await seen_facts(db, who, str(conversation_id))
    before = paging.decode(cursor, int)[0] if cursor else None
    async with db.begin() as tx:
        rows = await readings.decisions(
            tx, who.account_id, str(conversation_id), before=_bigint(before), limit=limit + 1
        )
    return paging.page(
        rows,
        limit,
        lambda row: (row["version"],),
        lambda row: DecisionOut(**{**row, "reason": reason_out(row["reason"], who), "at": row["created_at"]}),
    )


@router.get("/queue")
async def get_queue(who: Reader, db: Db, limit: Limit = 50, cursor: Cursor = None) -> Page[WaitingOut]:
    """The conversations that wait for an agent and that you may see, in the order in which they will be given."""
    after = None
    if cursor:
        rank, moment, last = paging.decode(cursor, int, str, str)
        after = queue_place(rank, moment, last)
    async with db.begin() as tx:
        rows = await readings.queue(tx, who.viewer, after=after, limit=limit + 1)
    present = now()

    def item(row: Any) -> WaitingOut:
        waited = max((present - row["queued_at"]).total_seconds(), 0.0)
        more = {
            "priority": PRIORITIES[row["rank"]],
            "waiting_seconds": waited,
            "reason": reason_out(row["reason"], who),
        }
        return WaitingOut(**row | more)

    return paging.page(rows, limit, readings.place_of, item)


@router.get("/routing/agents")
async def get_agent_loads(who: RoutingReader, db: Db) -> AgentLoads:
    """Everybody's load and capacity."""
    async with db.begin() as tx:
        return AgentLoads(items=[AgentLoadOut(**row) for row in await readings.agents(tx, who.account_id)])


@router.put("/routing/agents/{agent_id}/capacity")
async def set_capacity(agent_id: UUID, body: CapacityBody, who: RoutingManager, db: Db, rt: Rt) -> AgentLoadOut:
    """Set up to how many units of capacity automatic assignment may give conversations to an agent."""
    return await agent_set(db, rt, who, CapacitySet(str(agent_id), body.capacity))


async def agent_set(db: Database, rt: Runtime, who: Principal, given: CapacitySet | SkillsSet) -> AgentLoadOut:
    """Set what an agent can carry, or do, and decide on what waits. Raises Problem 404 when there is no such agent."""
    async with db.begin() as tx:
        if not await readings.is_active(tx, who.account_id, given.agent_id):
            raise Problem(404, "agent_not_found", es="No existe esa persona.", en="There is no such agent.")
        await decided(tx, rt, who, given)
        rows = await readings.agents(tx, who.account_id)
    return next(AgentLoadOut(**row) for row in rows if row["agent_id"] == given.agent_id)


# How an act by hand is decided: written into the journal like everything else, and decided on in the same transaction.


async def decided(tx: Tx, rt: Runtime, who: Principal, given: Input) -> tuple[int, Refusal | None]:
    """Write an input and decide on it; answers its place in the journal, and why not, if not."""
    settings = rt.settings
    assert isinstance(settings, Settings)
    (journal_id,) = await journals.append(tx, [Note(who.account_id, given)])
    pool = await locked_pool(tx, who.account_id)
    return journal_id, await matcher.decide_now(tx, pool, journal_id, settings.matcher_batch)


async def locked_pool(tx: Tx, account_id: str) -> PoolRow:
    """The account's pool, made if need be, locked until the transaction ends."""
    await pools.make_pools(tx, [account_id])
    pool = await pools.lock_pool(tx, account_id, wait=True)
    assert pool is not None
    return pool


def _wish(conversation_id: UUID, body: AssignmentIn, who: Principal) -> Assign:
    if not {"assignee_id", "team_id"} & body.model_fields_set:
        raise Problem(
            422,
            "nothing_to_change",
            es="Indica `assignee_id`, `team_id` o ambos (null para quitar).",
            en="Give `assignee_id`, `team_id` or both (null to take away).",
            errors=[FieldError("/assignee_id", es="Falta este campo o team_id.", en="This or team_id is missing.")],
        )
    assignee = body.assignee_id
    if assignee == "me":
        assignee_id = who.viewer.agent_id
        if assignee_id is None:
            raise Problem(
                422,
                "not_an_agent",
                es="Una clave de API no puede asignarse conversaciones: indica el id de una persona.",
                en="An API key cannot hold conversations: give the id of an agent.",
                errors=[FieldError("/assignee_id", es="Debe ser un id.", en="Must be an id.")],
            )
    else:
        assignee_id = None if assignee is None else str(assignee)
    return Assign(
        str(conversation_id),
        who.actor,
        "manual",
        set_assignee="assignee_id" in body.model_fields_set,
        assignee_id=assignee_id,
        set_team="team_id" in body.model_fields_set,
        team_id=None if body.team_id is None else str(body.team_id),
        expected_version=body.version,
    )


def _for_myself(given: Assign, found: Assignment | None, who: Principal) -> Assign:
    """What somebody who may only take, or give back, conversations asks for: good for the state that they saw.

    Raises Problem 403 when it concerns anybody else.
    """
    holder = found.row["assignee_id"] if found else None
    if given.set_team or not {given.assignee_id, holder} <= {who.viewer.agent_id, None}:
        needed = Permission.CONVERSATIONS_ASSIGN_OTHERS
        raise Problem(
            403,
            "permission_missing",
            es=f"No tienes permiso para asignar a otras personas o equipos: hace falta {needed}.",
            en=f"You are not allowed to assign to other people or teams: {needed} is needed.",
            extra={"permissions": [needed]},
        )
    seen = found.row["version"] if found else 0
    return given if given.expected_version is not None else replace(given, expected_version=seen)


async def seen_facts(db: Database, who: Principal, conversation_id: str) -> access.ConversationFacts:
    """The facts of a conversation that the principal may see. Raises Problem 404 when there is none for them."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + _WAIT_SECONDS
    while True:
        async with db.begin() as tx:
            facts = await readings.facts(tx, who.account_id, conversation_id)
        if facts is not None or loop.time() >= deadline:
            break
        await asyncio.sleep(0.05)
    if facts is None or not access.may_see(who.viewer, facts):
        raise _not_found()
    return facts


def _not_found() -> Problem:
    return Problem(404, "conversation_not_found", es="No existe esa conversación.", en="There is no such conversation.")


def _refused(refusal: Refusal, found: Assignment | None, who: Principal) -> Problem:
    match refusal:
        case "conversation_not_found":
            return _not_found()
        case "agent_not_found":
            return Problem(
                422,
                refusal,
                es="Esa persona no existe o ya no está en el equipo: elige a otra.",
                en="That agent does not exist or is no longer with the team: choose another.",
                errors=[FieldError("/assignee_id", es="No existe.", en="Does not exist.")],
            )
        case "team_not_found":
            return Problem(
                422,
                refusal,
                es="Ese equipo no existe: elige otro.",
                en="That team does not exist: choose another.",
                errors=[FieldError("/team_id", es="No existe.", en="Does not exist.")],
            )
        case "agent_not_in_team":
            return Problem(
                422,
                refusal,
                es="Esa persona no es del equipo indicado: cambia una de las dos cosas.",
                en="That agent is not a member of the given team: change one of the two.",
                errors=[FieldError("/assignee_id", es="No es del equipo.", en="Is not of the team.")],
            )
        case "version_conflict" | "hand_was_first" | "no_offer":
            return Problem(
                409,
                "version_conflict",
                es="La asignación cambió mientras tanto: mira el estado actual y decide de nuevo.",
                en="The assignment changed meanwhile: look at the present state and decide again.",
                extra={"current": _assignment(found, who).model_dump(mode="json")},
            )


def _assignment(found: Assignment | None, who: Principal) -> AssignmentOut:
    if found is None:
        raise not_ready()
    row = found.row
    queued_at = row["queued_at"]
    waiting = None if queued_at is None else max((now() - queued_at).total_seconds(), 0.0)
    reason = None if row["reason"] is None else reason_out(row["reason"], who)
    return AssignmentOut(**{**row, "reason": reason, "waiting_seconds": waiting})


def not_ready() -> Problem:
    """Its event is noted, and the matcher comes to it in a moment."""
    return Problem(
        503,
        "not_ready",
        es="La conversación acaba de llegar: inténtalo de nuevo en un momento.",
        en="The conversation has just arrived: try again in a moment.",
        headers={"Retry-After": "1"},
    )


def reason_out(stored: dict[str, str], who: Principal) -> ReasonOut:
    """Why, in the language of whoever asks."""
    return ReasonOut(code=stored["code"], text=stored["es" if who.language == "es" else "en"])


def _bigint(value: int | None) -> int | None:
    return None if value is None else max(min(value, 2**63 - 1), 0)


def queue_place(rank: int, moment: str, last: str) -> tuple[int, datetime, str]:
    """The place in a cursor of the queue. Raises Problem 422 when it was forged."""
    try:
        at = datetime.fromisoformat(moment)
        if at.tzinfo is None or not -3 <= rank <= 0:
            raise ValueError
        return rank, at, str(UUID(last))
    except ValueError:
        raise Problem(
            422,
            "invalid_cursor",
            es="El cursor no es de esta lista: pide la primera página de nuevo.",
            en="The cursor is not of this list: ask for the first page again.",
            errors=[FieldError("/query/cursor", es="No es válido.", en="Is not valid.")],
        ) from None

"""HTTP: why a conversation went where it went, and why not to somebody else, in sentences."""

from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from relevo.assignment import readings, records
from relevo.assignment.api import Reader, not_ready, seen_facts
from relevo.assignment.domain import explaining
from relevo.assignment.domain.explaining import Sentence, When
from relevo.assignment.domain.roster import Agent, GroupKey
from relevo.assignment.domain.skills import needs_of
from relevo.assignment.records import Decided
from relevo.assignment.store import pools
from relevo.chassis.auth import Principal
from relevo.chassis.database import Tx
from relevo.chassis.http import Db
from relevo.chassis.problems import Language, Problem
from relevo.contracts.base import Id, Time, now
from relevo.contracts.permissions import Permission

router = APIRouter(tags=["assignment"])

_LATEST: Final = (2**63 - 1, 2**31 - 1)
"""Beyond every run and step: what agents are now."""

Version = Annotated[int | None, Query(ge=1, le=2**63 - 1, description="Of the decision; without it, the last one.")]
Asked = Annotated[Language | None, Query(description="Of the sentences; without it, your own.")]


class SentenceOut(BaseModel):
    """One sentence, and a stable code for what it says."""

    code: str
    text: str


class WhyOut(BaseModel):
    """Why the conversation went where it went: the decision, and sentences that explain it from its own record."""

    conversation_id: Id
    version: int
    at: Time
    kind: Literal["assigned", "queued", "offered", "unassigned"]
    assignee_id: Id | None
    sentences: list[SentenceOut]


class WhyNotOut(BaseModel):
    """Why the conversation did not go to an agent, or does not."""

    conversation_id: Id
    agent_id: Id
    version: int
    when: When = Field(
        description="`now`: it waits, and this holds at present. `then`: this held at the decision, whose time `at` is."
    )
    at: Time
    sentences: list[SentenceOut]


@router.get("/conversations/{conversation_id}/assignment/why")
async def explain_assignment(
    conversation_id: UUID, who: Reader, db: Db, version: Version = None, language: Asked = None
) -> WhyOut:
    """Why the conversation went to whoever has it, or to nobody, in a few sentences."""
    await seen_facts(db, who, str(conversation_id))
    async with db.begin() as tx:
        one = await _decided(tx, who, conversation_id, version)
    return WhyOut(
        conversation_id=str(conversation_id),
        version=one.version,
        at=one.at,
        kind=one.record.kind,
        assignee_id=one.record.assignee_id,
        sentences=_told(explaining.why(one.record), language or who.language),
    )


@router.get("/conversations/{conversation_id}/assignment/why-not/{agent_id}")
async def explain_not_assigned(
    *,
    conversation_id: UUID,
    agent_id: UUID | Literal["me"],
    who: Reader,
    db: Db,
    version: Version = None,
    language: Asked = None,
) -> WhyNotOut:
    """Why the conversation did not go to an agent (`me`: to you), in sentences, each one thing that kept it from them.

    While it waits, and no version is asked for, they tell what holds at present; else what held at the decision.
    Of somebody else it is told to who may see everybody's load.
    """
    facts = await seen_facts(db, who, str(conversation_id))
    agent = _whom(agent_id, who)
    async with db.begin() as tx:
        one = await _decided(tx, who, conversation_id, version)
        held = await readings.assignment(tx, who.account_id, str(conversation_id))
        name = await records.agent_name(tx, who.account_id, agent)
        if name is None:
            raise Problem(404, "agent_not_found", es="No existe esa persona.", en="There is no such agent.")
        present = version is None and held is not None and held.row["state"] in ("queued", "offered", "unassigned")
        if present:
            policy = await pools.policy(tx, who.account_id)
            known = await records.agent_then(tx, who.account_id, agent, *_LATEST)
        else:
            policy = await records.policy_then(tx, who.account_id, one.record.policy_version)
            known = await _then(tx, who, agent, one)
    when: When = "now" if present else "then"
    channel = held.row["channel"] if held is not None else ""
    team_id, rule, needs = one.team_id, one.record.rule, one.needs
    if present and held is not None:
        team_id, rule, needs = facts.team_id, held.row["rule"], needs_of(held.row["needs"])
    key = GroupKey(facts.inbox_id, team_id, one.passed, channel, rule, needs)
    if known is None:
        sentences = [explaining.unknown(name)]
    else:
        sentences = explaining.why_not(known, key, policy, one.record, when=when)
    return WhyNotOut(
        conversation_id=str(conversation_id),
        agent_id=agent,
        version=one.version,
        when=when,
        at=now() if present else one.at,
        sentences=_told(sentences, language or who.language),
    )


def _whom(agent_id: UUID | Literal["me"], who: Principal) -> str:
    """Whom it is about. Raises Problem 403 when that is somebody whom one may not ask about."""
    mine = who.viewer.agent_id
    wanted = mine if agent_id == "me" else str(agent_id)
    if wanted is None:
        raise Problem(
            422,
            "not_an_agent",
            es="Una clave de API no es una persona: indica el id de una.",
            en="An API key is no agent: give the id of one.",
        )
    if wanted != mine and not (who.can(Permission.ROUTING_READ) or who.can(Permission.ROUTING_MANAGE)):
        needed = Permission.ROUTING_READ
        raise Problem(
            403,
            "permission_missing",
            es=f"No tienes permiso para ver la carga de otras personas: hace falta {needed}.",
            en=f"You are not allowed to see the load of other people: {needed} is needed.",
            extra={"permissions": [needed]},
        )
    return wanted


async def _decided(tx: Tx, who: Principal, conversation_id: UUID, version: int | None) -> Decided:
    one = await records.decided(tx, who.account_id, str(conversation_id), version)
    if one is None and version is None:
        raise not_ready()
    if one is None:
        raise Problem(
            404,
            "decision_not_found",
            es="No hay esa decisión: mira las que hay en /decisions.",
            en="There is no such decision: look at /decisions for those there are.",
        )
    return one


async def _then(tx: Tx, who: Principal, agent_id: str, one: Decided) -> Agent | None:
    return None if one.step is None else await records.agent_then(tx, who.account_id, agent_id, one.run, one.step)


def _told(sentences: list[Sentence], language: Language) -> list[SentenceOut]:
    return [SentenceOut(code=one.code, text=one.es if language == "es" else one.en) for one in sentences]

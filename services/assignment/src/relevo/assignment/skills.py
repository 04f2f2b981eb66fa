"""HTTP: what agents can, and the names of skills that are in use."""

from collections import Counter
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, Field

from relevo.assignment import readings
from relevo.assignment.api import AgentLoadOut, RoutingManager, RoutingReader, agent_set
from relevo.assignment.domain.inputs import SkillsSet
from relevo.assignment.domain.skills import Level, SkillName
from relevo.assignment.store import pools
from relevo.chassis.http import Db, Rt

router = APIRouter(tags=["assignment"])


class SkillsBody(BaseModel):
    """What an agent can, all of it, also the languages that they speak."""

    skills: Annotated[dict[SkillName, Level], Field(max_length=50)] = Field(
        description="Levels from 1 to 5 by skill; case and spaces around a name do not count. Empty: none."
    )


class SkillOut(BaseModel):
    """A skill that somebody has, or that a rule of the routing policy asks for."""

    name: str
    agents: int = Field(description="How many have it, at any level.")
    highest: int = Field(description="The highest level that anybody has; 0: nobody has it.")
    rules: list[str] = Field(description="The rules of the policy that ask for it, at first or later.")


class SkillsOut(BaseModel):
    """The skills in use, by name."""

    items: list[SkillOut]


@router.put("/routing/agents/{agent_id}/skills")
async def set_skills(agent_id: UUID, body: SkillsBody, who: RoutingManager, db: Db, rt: Rt) -> AgentLoadOut:
    """Set what an agent can. What waits for it goes to them at once, where they are free; what they have stays theirs."""
    return await agent_set(db, rt, who, SkillsSet(str(agent_id), body.skills))


@router.get("/routing/skills")
async def list_skills(who: RoutingReader, db: Db) -> SkillsOut:
    """The skills in use: who has them, and which rules ask for them. One that a rule asks for and nobody has is here, too."""
    async with db.begin() as tx:
        rows = await readings.agents(tx, who.account_id)
        policy = await pools.policy(tx, who.account_id)
    having = Counter(name for row in rows for name in row["skills"])
    highest: dict[str, int] = {}
    for row in rows:
        for name, level in row["skills"].items():
            highest[name] = max(level, highest.get(name, 0))
    asking: dict[str, list[str]] = {}
    for rule in policy.rules:
        for name in rule.needs:
            asking.setdefault(name, []).append(rule.name)
    return SkillsOut(
        items=[
            SkillOut(name=name, agents=having[name], highest=highest.get(name, 0), rules=asking.get(name, []))
            for name in sorted({*having, *asking})
        ]
    )

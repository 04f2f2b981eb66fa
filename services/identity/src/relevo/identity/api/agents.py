"""Agents: the people of the team."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, Field

from relevo.chassis import paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.http import Db
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.contracts.base import Id, new_id
from relevo.contracts.identity import AgentState
from relevo.contracts.permissions import Permission
from relevo.identity import administration, bus_credentials, problems
from relevo.identity.api.common import (
    AnyText,
    Body,
    Called,
    Email,
    IfMatch,
    Language,
    Name,
    after,
    check_match,
    ids,
    tag,
)
from relevo.identity.bus_access import BusUnavailable
from relevo.identity.domain.sign_in import password_fault
from relevo.identity.store import directory, sign_in

router = APIRouter(tags=["agents"])
Reader = Annotated[Principal, Depends(require(Permission.DIRECTORY_READ, Permission.AGENTS_MANAGE))]
Manager = Annotated[Principal, Depends(require(Permission.AGENTS_MANAGE))]


class AgentOut(BaseModel):
    """An agent. ``email`` is shown to themselves and to who manages agents; ``inbox_ids`` null: every inbox."""

    id: Id
    name: str
    email: str | None
    role_id: Id
    team_ids: list[Id]
    inbox_ids: list[Id] | None
    language: Language
    active: bool

    @classmethod
    def of(cls, state: AgentState, *, email: bool) -> "AgentOut":
        return cls(
            id=state.id,
            name=state.name,
            email=state.email if email else None,
            role_id=state.role_id,
            team_ids=list(state.team_ids),
            inbox_ids=None if state.inbox_ids is None else list(state.inbox_ids),
            language=state.language,
            active=state.active,
        )


class NewAgent(Body):
    """``inbox_ids`` must be said: null gives every inbox. ``initial_password`` is told to the agent by other means."""

    name: Name
    email: Email
    role_id: UUID
    team_ids: list[UUID] = Field(default=[], max_length=200)
    inbox_ids: Annotated[list[UUID], Field(max_length=1000)] | None
    language: Language | None = Field(default=None, description="The account's by default.")
    initial_password: AnyText | None = Field(default=None, repr=False)


class AgentPatch(Body):
    """The fields that are given are changed."""

    name: Name | None = None
    email: Email | None = None
    role_id: UUID | None = None
    team_ids: Annotated[list[UUID], Field(max_length=200)] | None = None
    inbox_ids: Annotated[list[UUID], Field(max_length=1000)] | None = None
    language: Language | None = None

    def fields(self) -> dict[str, Any]:
        """The given fields as the state has them. Null means something for ``inbox_ids`` only."""
        given: dict[str, Any] = self.model_dump(exclude_none=True)
        if self.role_id is not None:
            given["role_id"] = str(self.role_id)
        if self.team_ids is not None:
            given["team_ids"] = ids(self.team_ids)
        if "inbox_ids" in self.model_fields_set:
            given["inbox_ids"] = None if self.inbox_ids is None else ids(self.inbox_ids)
        return given


@router.get("/agents")
async def list_agents(who: Reader, db: Db, limit: Limit = 50, cursor: Cursor = None) -> Page[AgentOut]:
    """The agents of the account, in the order in which they came."""
    async with db.begin() as tx:
        rows = await directory.agents(tx, who.account_id, after=after(cursor), limit=limit + 1)
    return paging.page(
        rows, limit, lambda row: (row.state.id,), lambda row: AgentOut.of(row.state, email=_sees_email(who, row.state))
    )


@router.post("/agents", status_code=201)
async def create_agent(body: NewAgent, who: Manager, db: Db, caller: Called, response: Response) -> AgentOut:
    """Add an agent."""
    hashed = None
    if body.initial_password is not None:
        if fault := password_fault(body.initial_password, email=body.email):
            raise problems.weak_password(fault, "/initial_password")
        hashed = await caller.passwords.hash(body.initial_password)
    async with caller.act(db, who) as act:
        state = AgentState(
            id=new_id(),
            account_id=act.account,
            name=body.name,
            email=body.email,
            role_id=str(body.role_id),
            team_ids=ids(body.team_ids),
            inbox_ids=None if body.inbox_ids is None else ids(body.inbox_ids),
            language=body.language or act.stored.state.language,
        )
        stored = await administration.save_agent(act, None, state)
        if hashed is not None:
            await sign_in.set_password(act.tx, act.account, state.id, hashed)
    tag(response, stored)
    return AgentOut.of(stored.state, email=True)


@router.get("/agents/{agent_id}")
async def get_agent(agent_id: UUID, who: Reader, db: Db, response: Response) -> AgentOut:
    async with db.begin() as tx:
        found = (await directory.agents_by_id(tx, who.account_id, [str(agent_id)])).get(str(agent_id))
    if found is None:
        raise problems.not_found("agent")
    tag(response, found)
    return AgentOut.of(found.state, email=_sees_email(who, found.state))


@router.patch("/agents/{agent_id}")
async def edit_agent(
    *,
    agent_id: UUID,
    body: AgentPatch,
    who: Manager,
    db: Db,
    caller: Called,
    response: Response,
    if_match: IfMatch = None,
) -> AgentOut:
    """Change an agent. Sessions go on: what the agent may is looked up at every request."""
    async with caller.act(db, who) as act:
        before = await administration.agent(act, str(agent_id))
        check_match(if_match, before, AgentOut.of(before.state, email=True))
        stored = await administration.save_agent(act, before, before.state.model_copy(update=body.fields()))
    tag(response, stored)
    return AgentOut.of(stored.state, email=True)


@router.delete("/agents/{agent_id}", status_code=204)
async def remove_agent(agent_id: UUID, who: Manager, db: Db, caller: Called) -> None:
    """Remove an agent. Their sessions, API keys and bus credentials end at once."""
    async with caller.act(db, who) as act:
        await administration.remove_agent(act, await administration.agent(act, str(agent_id)))
    try:
        await bus_credentials.settle(db, caller.bus)
    except BusUnavailable:
        return  # the worker goes on trying


def _sees_email(who: Principal, state: AgentState) -> bool:
    return who.can(Permission.AGENTS_MANAGE) or who.viewer.agent_id == state.id

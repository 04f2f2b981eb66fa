"""Agents: the people of the team."""

from collections.abc import Sequence
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, Field

from relevo.chassis import paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Tx
from relevo.chassis.editing import IfMatch, check_match, tag
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.contracts.base import Id, Time, new_id, now
from relevo.contracts.identity import AgentState
from relevo.contracts.permissions import Permission
from relevo.identity import access, administration, bus_credentials, invitations, problems
from relevo.identity.api.common import (
    AnyText,
    Body,
    Called,
    Email,
    Language,
    Name,
    after,
    id_in_cursor,
    ids,
)
from relevo.identity.bus_access import BusUnavailable
from relevo.identity.domain.links import Purpose
from relevo.identity.domain.sign_in import password_fault
from relevo.identity.store import directory, links, sign_in
from relevo.kernel.names import folded_name
from relevo.kernel.text import clean

router = APIRouter(tags=["agents"])
Reader = Annotated[Principal, Depends(require(Permission.DIRECTORY_READ, Permission.AGENTS_MANAGE))]
Manager = Annotated[Principal, Depends(require(Permission.AGENTS_MANAGE))]


class AgentOut(BaseModel):
    """An agent. ``inbox_ids`` null: every inbox.

    ``email`` and what stands after ``status`` are shown to themselves and to who manages agents.
    """

    id: Id
    name: str
    email: str | None
    role_id: Id
    team_ids: list[Id]
    inbox_ids: list[Id] | None
    language: Language
    active: bool = Field(description="False until the invitation is accepted.")
    status: Literal["pending", "confirmed"]
    last_seen_at: Time | None = Field(default=None, description="Null: never, or not within 90 days.")
    invitation_expires_at: Time | None = Field(
        default=None, description="Of a pending one; in the past: send it again."
    )
    pending_email: str | None = Field(default=None, description="An address that waits to be confirmed.")

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
            status="confirmed" if state.active else "pending",
        )


class NewAgent(Body):
    """``inbox_ids`` must be said: null gives every inbox.

    With ``initial_password``, which is told to the agent by other means, they need no invitation and get none.
    """

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
async def list_agents(
    who: Reader,
    db: Db,
    q: Annotated[str, Query(max_length=100, description="A part of a name; accents and case do not count.")] = "",
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[AgentOut]:
    """The agents of the account, in the order in which they came; with `q` those it fits, the best fitting first."""
    if wanted := folded_name(q):
        return await _named(who, db, wanted, limit, cursor)
    async with db.begin() as tx:
        rows = await directory.agents(tx, who.account_id, after=after(cursor), limit=limit + 1)
        out = await details_of(tx, who, [row.state for row in rows])
    return paging.page(out, limit, lambda one: (one.id,), lambda one: one)


async def _named(who: Principal, db: Db, wanted: str, limit: int, cursor: str | None) -> Page[AgentOut]:
    place = None
    if cursor is not None:
        rank, name, last = paging.decode(cursor, int, str, str)
        place = min(max(rank, 0), 9), clean(name), id_in_cursor(last)
    async with db.begin() as tx:
        found = await directory.agents_named(tx, who.account_id, wanted, after=place, limit=limit + 1)
        out = await details_of(tx, who, [stored.state for _, stored in found])
    rows = [(fit, one) for (fit, _), one in zip(found, out, strict=True)]
    return paging.page(rows, limit, lambda row: row[0], lambda row: row[1])


@router.post("/agents", status_code=201)
async def create_agent(
    *, body: NewAgent, who: Manager, db: Db, caller: Called, response: Response, once: Idempotency
) -> AgentOut:
    """Invite a person by e-mail; or, with `initial_password`, add them at once (then without Idempotency-Key)."""
    hashed = None
    if body.initial_password is not None:
        if fault := password_fault(body.initial_password, email=body.email):
            raise problems.weak_password(fault, "/initial_password")
        hashed = await caller.passwords.hash(body.initial_password)
    async with caller.act(db, who) as act:
        if hashed is None:  # what was sent is kept as a plain hash, which a password must not be
            await once.start(act.tx)
        state = AgentState(
            id=new_id(),
            account_id=act.account,
            name=body.name,
            email=body.email,
            role_id=str(body.role_id),
            team_ids=ids(body.team_ids),
            inbox_ids=None if body.inbox_ids is None else ids(body.inbox_ids),
            language=body.language or act.stored.state.language,
            active=hashed is not None,
        )
        stored = await administration.save_agent(act, None, state)
        tag(response, stored.version)
        if hashed is not None:
            await sign_in.set_password(act.tx, act.account, state.id, hashed)
            return AgentOut.of(stored.state, email=True)
        await invitations.send(act, caller.settings, stored.state)
        (out,) = await details_of(act.tx, who, [stored.state])
        return await once.finish(act.tx, out)


@router.get("/agents/{agent_id}")
async def get_agent(agent_id: UUID, who: Reader, db: Db, response: Response) -> AgentOut:
    async with db.begin() as tx:
        found = (await directory.agents_by_id(tx, who.account_id, [str(agent_id)])).get(str(agent_id))
        if found is None:
            raise problems.not_found("agent")
        tag(response, found.version)
        return (await details_of(tx, who, [found.state]))[0]


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
    """Change an agent. Sessions go on: what the agent may is looked up at every request.

    Another address of somebody who is in is sent a link, and is theirs when they have confirmed it.
    """
    async with caller.act(db, who) as act:
        before = await administration.agent(act, str(agent_id))
        check_match(if_match, before.version, AgentOut.of(before.state, email=True))
        fields = body.fields()
        email = fields.pop("email", None) if before.state.active else None
        stored = await administration.save_agent(act, before, before.state.model_copy(update=fields))
        if email is not None:
            await access.request_email(act, caller.settings, stored.state, email)
        if not stored.state.active and stored.state.email != before.state.email:
            # Whoever has the other address must not get in with what was sent there.
            await invitations.send(act, caller.settings, stored.state)
        tag(response, stored.version)
        return (await details_of(act.tx, who, [stored.state]))[0]


@router.delete("/agents/{agent_id}", status_code=204)
async def remove_agent(agent_id: UUID, who: Manager, db: Db, caller: Called) -> None:
    """Remove an agent. Their sessions, API keys and bus credentials end at once."""
    async with caller.act(db, who) as act:
        await administration.remove_agent(act, await administration.agent(act, str(agent_id)))
    try:
        await bus_credentials.settle(db, caller.bus)
    except BusUnavailable:
        return  # the worker goes on trying


async def details_of(tx: Tx, who: Principal, states: Sequence[AgentState]) -> list[AgentOut]:
    """Agents as this principal sees them."""
    seen = [state.id for state in states if _sees_email(who, state)]
    last = await sign_in.last_seen(tx, who.account_id, seen) if seen else {}
    sent = await links.of_agents(tx, who.account_id, seen) if seen else {}
    found = []
    for state in states:
        out = AgentOut.of(state, email=_sees_email(who, state))
        invitation, change = sent.get((state.id, Purpose.INVITATION)), sent.get((state.id, Purpose.EMAIL_CHANGE))
        out.last_seen_at = last.get(state.id)
        out.invitation_expires_at = invitation.expires_at if invitation else None
        out.pending_email = change.email if change and change.expires_at > now() else None
        found.append(out)
    return found


def _sees_email(who: Principal, state: AgentState) -> bool:
    return who.can(Permission.AGENTS_MANAGE) or who.viewer.agent_id == state.id

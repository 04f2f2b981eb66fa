"""What people change about themselves: name and language, password, address."""

from datetime import timedelta

from fastapi import APIRouter
from pydantic import BaseModel, Field

from relevo.chassis.auth import Principal
from relevo.chassis.database import Database
from relevo.chassis.http import Db
from relevo.identity import access, administration, limits, links, problems
from relevo.identity.api.agents import AgentOut, details_of
from relevo.identity.api.common import AnyText, Body, Called, Caller, Email, Language, Name, Person, Token
from relevo.identity.domain.links import Purpose
from relevo.identity.domain.sign_in import PER_ADDRESS, password_fault
from relevo.identity.store import directory, sign_in
from relevo.identity.store.audit import By

router = APIRouter(tags=["me"])


class MePatch(Body):
    """The fields that are given are changed."""

    name: Name | None = None
    language: Language | None = None


class PasswordChange(Body):
    current_password: AnyText = Field(repr=False)
    password: AnyText = Field(repr=False)


class EmailChange(Body):
    """``password`` is the present one: who finds a session open must not take the agent over."""

    email: Email
    password: AnyText = Field(repr=False)


class Confirmed(BaseModel):
    email: str


@router.patch("/me")
async def edit_me(body: MePatch, who: Person, db: Db, caller: Called) -> AgentOut:
    """Change my name or language."""
    async with caller.act(db, who) as act:
        before = await administration.agent(act, who.id)
        fields = body.model_dump(exclude_none=True)
        stored = await administration.save_agent(act, before, before.state.model_copy(update=fields))
        return (await details_of(act.tx, who, [stored.state]))[0]


@router.put("/me/password", status_code=204)
async def change_password(body: PasswordChange, who: Person, db: Db, caller: Called) -> None:
    """Change my password. My other sessions end; this one goes on."""
    verified = await verified_password(db, caller, who, body.current_password, "/current_password")
    async with db.begin() as tx:
        found = await directory.agents_by_id(tx, who.account_id, [who.id])
    if who.id not in found:
        raise problems.gone()
    if fault := password_fault(body.password, email=found[who.id].state.email):
        raise problems.weak_password(fault, "/password")
    hashed = await caller.passwords.hash(body.password)
    async with caller.act(db, who) as act:
        if not await sign_in.lock_password(act.tx, act.account, who.id, verified):
            raise problems.wrong_password("/current_password")
        agent = (await administration.agent(act, who.id)).state
        await access.set_password(act, agent, hashed, action="password.changed", keep=who.session_id)


@router.put("/me/email", status_code=202)
async def change_email(body: EmailChange, who: Person, db: Db, caller: Called) -> AgentOut:
    """Have another address of mine confirmed: a link is sent there. Asked for the present one: leave it as it is."""
    await verified_password(db, caller, who, body.password, "/password")
    async with caller.act(db, who) as act:
        agent = (await administration.agent(act, who.id)).state
        await access.request_email(act, caller.settings, agent, body.email)
        return (await details_of(act.tx, who, [agent]))[0]


@router.post("/email-confirmations")
async def confirm_email(body: Token, db: Db, caller: Called) -> Confirmed:
    """Confirm an address by the link that was sent there. The link is used up."""
    found = await links.opened(db, Purpose.EMAIL_CHANGE, body.token, caller.ip)
    by = By(f"agent:{found.agent.id}", found.agent.name, caller.ip, caller.user_agent)
    access_token = timedelta(seconds=caller.settings.access_token_seconds)
    async with db.begin(found.account.id) as tx:
        act = await administration.begin_with_link(tx, found.account.id, by, access_token=access_token)
        return Confirmed(email=(await access.confirm_email(act, body.token)).email)


async def verified_password(db: Database, caller: Caller, who: Principal, password: str, pointer: str) -> str:
    """The hash of the agent's own password, if this is it.

    Raises Problem 403 when it is not; 429 after too many, so that an open session is no way to find it out.
    """
    await limits.check(db, (PER_ADDRESS, "password", who.id))
    async with db.begin() as tx:
        hashed = await sign_in.password(tx, who.account_id, who.id)
    if not await caller.passwords.verify(hashed, password) or hashed is None:
        raise problems.wrong_password(pointer)
    async with db.begin() as tx:
        await sign_in.clear_attempts(tx, limits.subject("password", who.id))
    return hashed

"""Invitations: sent again and cancelled by who manages agents, read and accepted by whoever has the link."""

from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, Field

from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency
from relevo.contracts.base import Time
from relevo.identity import administration, invitations, links
from relevo.identity.api.agents import AgentOut, Manager, details_of
from relevo.identity.api.common import AnyText, Called, Language, Name, Token
from relevo.identity.api.sessions import SignedIn, signed_in
from relevo.identity.domain.links import Purpose
from relevo.identity.invitations import Acceptance

router = APIRouter(tags=["invitations"])


class InvitationOut(BaseModel):
    """What an invitation is to."""

    account_name: str
    name: str
    email: str
    language: Language
    expires_at: Time


class Accept(Token):
    """``name`` and ``language``: as the invitation has them by default."""

    password: AnyText = Field(repr=False)
    name: Name | None = None
    language: Language | None = None


@router.post("/agents/{agent_id}/invitation", status_code=202)
async def resend_invitation(agent_id: UUID, who: Manager, db: Db, caller: Called, once: Idempotency) -> AgentOut:
    """Send the invitation again, with a new link; the one before is no longer good."""
    async with caller.act(db, who) as act:
        await once.start(act.tx)
        agent = (await administration.agent(act, str(agent_id))).state
        administration.check_reach(act, await administration.role(act, agent.role_id))
        await invitations.send(act, caller.settings, agent)
        (out,) = await details_of(act.tx, who, [agent])
        return await once.finish(act.tx, out)


@router.delete("/agents/{agent_id}/invitation", status_code=204)
async def cancel_invitation(agent_id: UUID, who: Manager, db: Db, caller: Called) -> None:
    """Take back an invitation that was not accepted yet: the link is dead and the agent gone."""
    async with caller.act(db, who) as act:
        await invitations.cancel(act, await administration.agent(act, str(agent_id)))


@router.post("/invitations/read")
async def read_invitation(body: Token, db: Db, caller: Called) -> InvitationOut:
    """What a link invites to. It stays good. (POST: a token must not stand in an address.)"""
    found = await links.opened(db, Purpose.INVITATION, body.token, caller.ip)
    return InvitationOut(
        account_name=found.account.name,
        name=found.agent.name,
        email=found.agent.email,
        language=found.agent.language,
        expires_at=found.link.expires_at,
    )


@router.post("/invitations/accept", status_code=201)
async def accept_invitation(body: Accept, db: Db, caller: Called) -> SignedIn:
    """Accept: choose a password, and begin the first session. The link is used up."""
    given = Acceptance(body.token, body.password, body.name, body.language, caller.ip, caller.user_agent)
    tokens = await invitations.accept(db, caller.settings, caller.passwords, given)
    return await signed_in(db, tokens)

"""Invitations: an agent who was invited is there at once, with role and teams, but inactive until they accept.

Nothing can be done in the name of an inactive agent: they have no password and no session, do not count as an
administrator, and nobody assigns them anything.
"""

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from relevo.chassis.database import Database
from relevo.contracts.base import now
from relevo.contracts.identity import AgentChanged, AgentState
from relevo.identity import administration, limits, links, problems, sessions
from relevo.identity.administration import Act, shown
from relevo.identity.domain.links import INVITATIONS_PER_ACCOUNT, MAILS_PER_AGENT, Purpose
from relevo.identity.domain.sign_in import password_fault
from relevo.identity.passwords import Passwords
from relevo.identity.publish import Change
from relevo.identity.sessions import Tokens
from relevo.identity.settings import IdentitySettings
from relevo.identity.store import directory, persons, sign_in
from relevo.identity.store import links as store
from relevo.identity.store.audit import By, Record
from relevo.identity.store.directory import Stored
from relevo.identity.store.links import Link


async def send(act: Act, settings: IdentitySettings, agent: AgentState) -> Link:
    """Send an inactive agent their invitation; one sent before is no longer good.

    Raises Problem 409 when they have accepted, 429 when too many were sent.
    """
    if agent.active:
        raise problems.agent_confirmed()
    await limits.within(act.tx, INVITATIONS_PER_ACCOUNT, "invitations", act.account)
    await limits.within(act.tx, MAILS_PER_AGENT, "invitation", agent.id)
    link = await links.send(
        act.tx,
        Purpose.INVITATION,
        account=act.stored.state,
        agent=agent,
        address=agent.email,
        public_url=settings.public_url,
        actor=act.by.actor,
        data={"inviter": act.by.name},
    )
    sent = {"email": link.email, "expires_at": link.expires_at.isoformat()}
    await act.done([], [Record("invitation.sent", "agent", agent.id, None, sent)])
    return link


async def cancel(act: Act, before: Stored[AgentState]) -> None:
    """Take an invitation back: the link is dead, the agent is gone. Raises Problem 409 when it was accepted."""
    if before.state.active:
        raise problems.agent_confirmed()
    await administration.remove_agent(act, before)


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What the invited person says. ``name`` and ``language`` None: as the invitation had them."""

    token: str = field(repr=False)
    password: str = field(repr=False)
    name: str | None
    language: Literal["es", "en"] | None
    ip: str
    user_agent: str


async def accept(db: Database, settings: IdentitySettings, passwords: Passwords, given: Acceptance) -> Tokens:
    """Make the invited agent active, and begin their first session.

    Raises Problem 410 when the invitation is not good (any more), 422 for a password that is too easy, 429.
    """
    invitation = await links.opened(db, Purpose.INVITATION, given.token, given.ip)
    if fault := password_fault(given.password, email=invitation.agent.email):
        raise problems.weak_password(fault, "/password")
    hashed = await passwords.hash(given.password)
    by = By(f"agent:{invitation.agent.id}", given.name or invitation.agent.name, given.ip, given.user_agent)
    access_token = timedelta(seconds=settings.access_token_seconds)
    async with db.begin(invitation.account.id) as tx:
        act = await administration.begin_with_link(tx, invitation.account.id, by, access_token=access_token)
        link = await store.take(tx, act.account, Purpose.INVITATION, links.digest(given.token), now())
        if link is None:  # meanwhile somebody else accepted, or it was cancelled
            raise problems.link_over()
        before = await administration.agent(act, link.agent_id)
        chosen = {"name": given.name or before.state.name, "language": given.language or before.state.language}
        after = Stored(before.state.model_copy(update={"active": True, **chosen}), before.version + 1)
        await directory.save_agent(tx, after)
        await persons.prove(tx, act.account, link.agent_id, link.email)
        await sign_in.set_password(tx, act.account, link.agent_id, hashed)
        await act.done(
            [Change(AgentChanged(agent=after.state), act.account, link.agent_id, after.version)],
            [Record("invitation.accepted", "agent", link.agent_id, shown(before.state), shown(after.state))],
        )
        return await sessions.begin(tx, settings, act.account, link.agent_id, ip=given.ip, user_agent=given.user_agent)

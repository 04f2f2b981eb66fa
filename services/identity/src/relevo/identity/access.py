"""Acts upon how an agent gets in: password, address, sessions. Each ends what it makes stale, and tells the agent."""

from relevo.contracts.base import now
from relevo.contracts.identity import AgentChanged, AgentState
from relevo.identity import administration, limits, links, problems
from relevo.identity.administration import Act, shown
from relevo.identity.domain.links import MAILS_PER_AGENT, Purpose
from relevo.identity.publish import Change
from relevo.identity.settings import IdentitySettings
from relevo.identity.store import directory, persons, sign_in
from relevo.identity.store import links as store
from relevo.identity.store.audit import Record
from relevo.identity.store.directory import Stored


async def set_password(act: Act, agent: AgentState, hashed: str, *, action: str, keep: str | None) -> None:
    """Another password: sessions but the one to keep end, and links that were sent before are dead.

    Also the change of address that is under way: whoever asked for it may have had the old password.
    """
    await sign_in.set_password(act.tx, act.account, agent.id, hashed)
    await store.forget(act.tx, act.account, agent.id)
    await end_sessions(act, agent, action=action, keep=keep)
    links.warn(
        act.tx,
        "password_changed",
        account=act.stored.state,
        agent=agent,
        address=agent.email,
        actor=act.by.actor,
    )


async def end_sessions(act: Act, agent: AgentState, *, action: str, keep: str | None) -> None:
    """End the agent's sessions but the one to keep; the act is recorded even if there was none."""
    open_ones = [one for one in await sign_in.open_sessions(act.tx, act.account, agent.id) if one != keep]
    changes = await administration.end_sessions(
        act.tx, act.account, open_ones, reason=action.replace(".", "_"), access_token=act.access_token
    )
    await act.done(changes, [Record(action, "agent", agent.id, None, {"sessions_ended": len(changes)})])


async def end_session(act: Act, agent: AgentState, session: str) -> None:
    """End one of the agent's sessions. Raises Problem 404 when it is not theirs, or not open."""
    if session not in await sign_in.open_sessions(act.tx, act.account, agent.id):
        raise problems.not_found("session")
    changes = await administration.end_sessions(
        act.tx, act.account, [session], reason="signed_out", access_token=act.access_token
    )
    await act.done(changes, [Record("session.ended", "agent", agent.id, None, {"session_id": session})])


async def request_email(act: Act, settings: IdentitySettings, agent: AgentState, email: str) -> None:
    """Have an active agent's new address confirmed; asked for the present one, forget the request before.

    Raises Problem 409 when another agent has the address, 429.
    """
    if email == agent.email:
        await store.forget(act.tx, act.account, agent.id, Purpose.EMAIL_CHANGE)
        return
    if await directory.email_taken(act.tx, act.account, email, agent.id):
        raise problems.email_taken()
    await limits.within(act.tx, MAILS_PER_AGENT, "email-change", agent.id)
    await links.send(
        act.tx,
        Purpose.EMAIL_CHANGE,
        account=act.stored.state,
        agent=agent,
        address=email,
        public_url=settings.public_url,
        actor=act.by.actor,
    )
    asked = Record("email_change.requested", "agent", agent.id, {"email": agent.email}, {"email": email})
    await act.done([], [asked])


async def confirm_email(act: Act, token: str) -> AgentState:
    """Make the address of a link the agent's own. Raises Problem 410, or 409 when another agent has it by now."""
    link = await store.take(act.tx, act.account, Purpose.EMAIL_CHANGE, links.digest(token), now())
    if link is None:
        raise problems.link_over()
    before = await administration.agent(act, link.agent_id)
    if await directory.email_taken(act.tx, act.account, link.email, link.agent_id):
        raise problems.email_taken()
    after = Stored(before.state.model_copy(update={"email": link.email}), before.version + 1)
    await directory.save_agent(act.tx, after)
    await persons.prove(act.tx, act.account, link.agent_id, link.email)
    # They went to the address of before, which may be somebody else's now.
    await store.forget(act.tx, act.account, link.agent_id, Purpose.PASSWORD_RESET)
    await act.done(
        [Change(AgentChanged(agent=after.state), act.account, link.agent_id, after.version)],
        [Record("email_change.confirmed", "agent", link.agent_id, shown(before.state), shown(after.state))],
    )
    links.warn(
        act.tx,
        "email_changed",
        account=act.stored.state,
        agent=after.state,
        address=before.state.email,
        actor=act.by.actor,
    )
    return after.state

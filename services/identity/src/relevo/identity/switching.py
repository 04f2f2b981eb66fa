"""From one account to another, for a person who works in several.

Two agents are one person when they have one address and each has proved it: by a link that was sent there, or by the
identity provider. An address that somebody merely wrote down proves nothing, lest whoever administers one account gets
into others by it. Whoever holds the address could choose another password in each of them anyway; a second factor,
where there is one, is asked for as at any sign-in.
"""

from dataclasses import dataclass, field
from typing import Final

from relevo.chassis.database import Database, Tx
from relevo.chassis.sealing import key_bytes
from relevo.contracts.base import now
from relevo.identity import limits, problems, second_factor, sessions
from relevo.identity.domain.sign_in import PER_SECOND_FACTOR
from relevo.identity.sessions import Tokens
from relevo.identity.settings import IdentitySettings
from relevo.identity.store import audit, directory, persons, sign_in
from relevo.identity.store.audit import By, Record
from relevo.identity.store.persons import Place

_MOST: Final = 100


async def accounts(tx: Tx, account: str, agent: str) -> list[Place]:
    """Where this agent works, here included; here alone while their address is not proved."""
    email = await persons.proved(tx, account, agent)
    if email is not None:
        return await persons.places(tx, email, limit=_MOST)
    here = await directory.account(tx, account)
    found = (await directory.agents_by_id(tx, account, [agent])).get(agent)
    if here is None or found is None:
        raise problems.gone()
    role = (await directory.roles_by_id(tx, account, [found.state.role_id]))[found.state.role_id]
    return [Place(account, here.state.name, agent, found.state.name, role.state.name)]


@dataclass(frozen=True, slots=True)
class To:
    """Where somebody wants to go, and from which machine."""

    account_id: str
    code: str | None = field(repr=False)
    ip: str
    user_agent: str


async def switch(db: Database, settings: IdentitySettings, account: str, agent: str, to: To) -> Tokens:
    """Begin a session in another account of the same person.

    Raises Problem 409 for the account where they are, 404 when they do not work there, 401 when a code is needed or
    wrong, 429.
    """
    if to.account_id == account:
        raise problems.here_already()
    async with db.begin(account) as tx:
        email = await persons.proved(tx, account, agent)
        found = await persons.places(tx, email, limit=_MOST) if email is not None else []
    place = next((one for one in found if one.account_id == to.account_id), None)
    if place is None:
        raise problems.not_found("account")
    if to.code is not None:
        await limits.check(db, (PER_SECOND_FACTOR, "code", place.agent_id))
    async with db.begin(account, place.account_id) as tx:
        # Looked at again under the locks: who was removed, or has another address by now, does not pass.
        for one, who in sorted({account: agent, place.account_id: place.agent_id}.items()):
            if not await sign_in.lock_agent(tx, one, who) or await persons.proved(tx, one, who) != email:
                raise problems.not_found("account")
        await second_factor.present(tx, place.account_id, place.agent_id, key_bytes(settings.master_key), to.code)
        if to.code is not None:
            await sign_in.forgive_attempts(tx, [limits.subject("code", place.agent_id)])
        by = By(f"agent:{place.agent_id}", place.agent_name, to.ip, to.user_agent)
        await audit.append(tx, place.account_id, by, [Record("session.switched", "agent", place.agent_id)], at=now())
        return await sessions.begin(tx, settings, place.account_id, place.agent_id, ip=to.ip, user_agent=to.user_agent)

"""An account for whoever asks, where the operator lets them: once the address is confirmed, not before.

Asking looks nothing up, so that the answer, and the time it takes, is the same for every address. The mail holds no word
of whoever asked: nobody's text is sent to a stranger in our name.
"""

import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Final

from relevo.chassis.database import Database
from relevo.contracts.base import new_id, now
from relevo.contracts.identity import AgentChanged, AgentState
from relevo.contracts.notification import Notify
from relevo.identity import administration, limits, links, problems, sessions
from relevo.identity.administration import shown
from relevo.identity.domain.links import OPENED_PER_IP
from relevo.identity.domain.sign_in import Limit, password_fault
from relevo.identity.passwords import Passwords
from relevo.identity.publish import Change, publish
from relevo.identity.sessions import Tokens
from relevo.identity.settings import IdentitySettings
from relevo.identity.store import audit, directory, persons, sign_in, sign_ups
from relevo.identity.store.audit import By, Record
from relevo.identity.store.directory import Stored
from relevo.identity.store.sign_ups import SignUp

LIFETIME: Final = timedelta(hours=24)
PER_ADDRESS: Final = Limit(3, timedelta(hours=1))
PER_IP: Final = Limit(10, timedelta(hours=1))


async def ask(db: Database, settings: IdentitySettings, wanted: SignUp, ip: str) -> None:
    """Write down what somebody wants, and send the link. Raises Problem 404 where it is off, 429."""
    check_open(settings)
    await limits.check(db, (PER_IP, "sign-up-ip", ip), (PER_ADDRESS, "sign-up", wanted.email))
    token = secrets.token_urlsafe(32)
    async with db.begin(wanted.account_id) as tx:
        await sign_ups.add(tx, wanted, links.digest(token))
        command = Notify(
            dedup_key=wanted.account_id,
            kind="sign_up",
            address=wanted.email,
            language=wanted.language,
            template="sign_up",
            data={
                "until": links.local(wanted.expires_at, wanted.time_zone),
                "link": f"{settings.public_url.rstrip('/')}/sign-up#{token}",
            },
            useless_after=wanted.expires_at,
        )
        tx.emit(command, account=wanted.account_id, entity=wanted.account_id, actor="system")


async def read(db: Database, settings: IdentitySettings, token: str, ip: str) -> SignUp:
    """What a link is for; it stays good. Raises Problem 404 where it is off, 410 when it is not good (any more), 429."""
    check_open(settings)
    await limits.check(db, (OPENED_PER_IP, "link", ip))
    async with db.begin() as tx:
        found = await sign_ups.peek(tx, links.digest(token), now())
    if found is None:
        raise problems.link_over()
    return found


@dataclass(frozen=True, slots=True)
class Confirmation:
    """Whoever has the link."""

    token: str = field(repr=False)
    password: str = field(repr=False)
    ip: str
    user_agent: str


async def confirm(db: Database, settings: IdentitySettings, passwords: Passwords, given: Confirmation) -> Tokens:
    """Make the account with its administrator, and begin their first session.

    Raises Problem 404 where it is off, 410 when the link is not good (any more), 422 for a password that is too easy, 429.
    """
    wanted = await read(db, settings, given.token, given.ip)
    if fault := password_fault(given.password, email=wanted.email):
        raise problems.weak_password(fault, "/password")
    hashed = await passwords.hash(given.password)
    async with db.begin(wanted.account_id) as tx:
        if await sign_ups.take(tx, wanted.account_id, links.digest(given.token), now()) is None:
            raise problems.link_over()
        agent_id = new_id()
        by = By(f"agent:{agent_id}", wanted.name, given.ip, given.user_agent)
        account, role = await administration.create_account(
            tx,
            name=wanted.account_name,
            language=wanted.language,
            time_zone=wanted.time_zone,
            by=by,
            account_id=wanted.account_id,
        )
        agent = AgentState(
            id=agent_id,
            account_id=account.state.id,
            name=wanted.name,
            email=wanted.email,
            role_id=role.state.id,
            language=wanted.language,
        )
        await directory.save_agent(tx, Stored(agent, 1))
        await persons.prove(tx, agent.account_id, agent.id, agent.email)
        await sign_in.set_password(tx, agent.account_id, agent.id, hashed)
        await publish(tx, [Change(AgentChanged(agent=agent), agent.account_id, agent.id, 1)], actor=by.actor)
        record = Record("agent.created", "agent", agent.id, None, shown(agent))
        await audit.append(tx, agent.account_id, by, [record], at=now())
        return await sessions.begin(tx, settings, agent.account_id, agent.id, ip=given.ip, user_agent=given.user_agent)


def check_open(settings: IdentitySettings) -> None:
    """Raises Problem 404 where the operator lets nobody sign up."""
    if not settings.sign_up:
        raise problems.sign_up_closed()

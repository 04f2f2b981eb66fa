"""The forgotten password: asked for by anybody, sent to the address, used once.

The request is only written down; a worker looks whom it means. So known and unknown addresses are answered alike, and
take the same work until the answer.
"""

import asyncio
import contextlib
from datetime import timedelta
from typing import Final

import psycopg

from relevo.chassis import Runtime
from relevo.chassis.database import Database, described
from relevo.contracts.base import now
from relevo.identity import access, administration, limits, links, problems
from relevo.identity.domain.links import RESETS_PER_ADDRESS, RESETS_PER_IP, Purpose
from relevo.identity.domain.sign_in import password_fault
from relevo.identity.passwords import Passwords
from relevo.identity.settings import IdentitySettings
from relevo.identity.store import audit, directory, persons, resets, sign_in
from relevo.identity.store import links as store
from relevo.identity.store.audit import By, Record
from relevo.identity.store.resets import Request

_POLL: Final = 2.0
"""Seconds; requests of this process wake the worker at once."""
_ACCOUNTS: Final = 20
"""In how many accounts an address is looked for."""


async def ask(db: Database, wake: asyncio.Event, request: Request) -> None:
    """Write the request down. Raises Problem 429, for known and unknown addresses alike."""
    await limits.check(db, (RESETS_PER_IP, "reset-ip", request.ip), (RESETS_PER_ADDRESS, "reset", request.email))
    async with db.begin() as tx:
        await resets.add(tx, request)
        tx.after_commit(wake.set)


async def sender(runtime: Runtime) -> None:
    """The worker: sends links for the requests, one transaction each."""
    settings, wake = runtime.settings, runtime.extra["reset_asked"]
    assert isinstance(settings, IdentitySettings)
    while not runtime.stopping.is_set():
        wake.clear()
        try:
            while await send_one(runtime.database, settings):
                pass
        except (psycopg.Error, OSError) as error:
            runtime.log.warning("resets_again", error=described(error))
        waits = [asyncio.create_task(event.wait()) for event in (wake, runtime.stopping)]
        await asyncio.wait(waits, timeout=_POLL, return_when=asyncio.FIRST_COMPLETED)
        for task in waits:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*waits)


async def send_one(db: Database, settings: IdentitySettings) -> bool:
    """Send the links that the oldest request asks for, to every account of its address; False when none waits."""
    async with db.begin() as tx:
        request = await resets.take(tx)
        if request is None:
            return False
        found = await sign_in.candidates(tx, request.email, None, limit=_ACCOUNTS)
        by = By("system", "Relevo", request.ip, request.user_agent)
        for one in sorted(found, key=lambda candidate: candidate.account_id):  # as every account is locked
            account = await directory.lock_account(tx, one.account_id)
            agent = (await directory.agents_by_id(tx, one.account_id, [one.agent_id])).get(one.agent_id)
            if account is None or agent is None or not agent.state.active or agent.state.email != request.email:
                continue  # changed while we waited for the lock
            link = await links.send(
                tx,
                Purpose.PASSWORD_RESET,
                account=account.state,
                agent=agent.state,
                address=request.email,
                public_url=settings.public_url,
                actor=by.actor,
            )
            sent = {"expires_at": link.expires_at.isoformat()}
            record = Record("password_reset.sent", "agent", one.agent_id, None, sent)
            await audit.append(tx, one.account_id, by, [record], at=now())
        return True


async def complete(
    db: Database,
    settings: IdentitySettings,
    passwords: Passwords,
    *,
    token: str,
    password: str,
    ip: str,
    user_agent: str,
) -> None:
    """Set another password by a link; every session and every other link of the agent ends.

    Raises Problem 410 when the link is not good (any more), 422 for a password that is too easy, 429.
    """
    found = await links.opened(db, Purpose.PASSWORD_RESET, token, ip)
    if fault := password_fault(password, email=found.agent.email):
        raise problems.weak_password(fault, "/password")
    hashed = await passwords.hash(password)
    by = By(f"agent:{found.agent.id}", found.agent.name, ip, user_agent)
    access_token = timedelta(seconds=settings.access_token_seconds)
    async with db.begin(found.account.id) as tx:
        act = await administration.begin_with_link(tx, found.account.id, by, access_token=access_token)
        link = await store.take(tx, act.account, Purpose.PASSWORD_RESET, links.digest(token), now())
        if link is None:
            raise problems.link_over()
        agent = (await administration.agent(act, found.agent.id)).state
        await persons.prove(tx, act.account, agent.id, link.email)
        await access.set_password(act, agent, hashed, action="password.reset", keep=None)
        await sign_in.clear_attempts(tx, limits.subject("email", agent.email))

"""Sessions: sign-in by password, refresh with reuse detection, sign-out."""

import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import timedelta

from relevo.chassis import auth
from relevo.chassis.database import Database, Tx
from relevo.chassis.problems import Problem
from relevo.chassis.sealing import key_bytes
from relevo.contracts.base import new_id, now
from relevo.identity import administration, limits, problems, second_factor, signing
from relevo.identity.domain import sign_in as rules
from relevo.identity.domain.sign_in import PER_ADDRESS, PER_IP, PER_SECOND_FACTOR, Refresh
from relevo.identity.limits import subject
from relevo.identity.passwords import Passwords
from relevo.identity.publish import publish
from relevo.identity.settings import IdentitySettings
from relevo.identity.store import sign_in as store
from relevo.identity.store.sign_in import Candidate

_CANDIDATES = 5
"""In how many accounts an address is looked for when the account is not named; each costs a password check."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a sign-in or refresh gives; both tokens are secret. ``expires_in`` in seconds, of the access token."""

    agent_id: str
    account_id: str
    session_id: str
    access_token: str = field(repr=False)
    refresh_token: str = field(repr=False)
    expires_in: int


@dataclass(frozen=True, slots=True)
class Attempt:
    """A sign-in: ``email`` in its normal form."""

    email: str
    password: str = field(repr=False)
    code: str | None = field(repr=False)
    account_id: str | None
    ip: str
    user_agent: str


async def sign_in(db: Database, settings: IdentitySettings, passwords: Passwords, attempt: Attempt) -> Tokens:
    """Begin a session.

    Raises Problem 429 after too many attempts, 409 with the accounts when several take this address and password,
    401 when a code is needed or wrong, else 401, the same for an unknown address, a removed agent and a wrong password.
    """
    by_address, by_ip = subject("email", attempt.email), subject("ip", attempt.ip)
    at = now()
    async with db.begin() as tx:
        # Counted before the password is looked at: many at once do not slip through.
        counted = await store.count_attempt(tx, [by_address, by_ip], now=at, stale=at - PER_ADDRESS.window)
        candidates = await store.candidates(tx, attempt.email, attempt.account_id, limit=_CANDIDATES)
    for limit, key in ((PER_ADDRESS, by_address), (PER_IP, by_ip)):
        attempts, since = counted[key]
        if (wait := rules.wait(limit, attempts, since, at)) is not None:
            raise problems.too_many_attempts(wait)
    matching = await _matching(passwords, candidates, attempt.password)
    if not matching:
        raise problems.wrong_credentials()
    if len(matching) > 1:
        raise which_account(matching)
    who = matching[0]
    assert who.hash is not None
    renewed = await passwords.hash(attempt.password) if passwords.outdated(who.hash) else None
    if attempt.code is not None:
        await limits.check(db, (PER_SECOND_FACTOR, "code", who.agent_id))
    try:
        async with db.begin(who.account_id) as tx:
            tokens = await _admitted(tx, settings, who, attempt, renewed)
            await store.forgive_attempts(tx, [by_ip, *([subject("code", who.agent_id)] if attempt.code else [])])
            await store.clear_attempts(tx, by_address)
            return tokens
    except Problem as problem:
        if problem.code == "second_factor_needed":
            # An office whose people all have one must not lock itself out; for the address it counts.
            async with db.begin() as tx:
                await store.forgive_attempts(tx, [by_ip])
        raise


async def _admitted(
    tx: Tx, settings: IdentitySettings, who: Candidate, attempt: Attempt, renewed: str | None
) -> Tokens:
    """A session for who had the right password, when nothing has changed since, and the code is right."""
    assert who.hash is not None
    # The password may have been changed while it was verified: then the sessions of before are ended, and this is one.
    if not (
        await store.lock_agent(tx, who.account_id, who.agent_id)
        and await store.lock_password(tx, who.account_id, who.agent_id, who.hash)
    ):
        raise problems.wrong_credentials()
    await second_factor.present(tx, who.account_id, who.agent_id, key_bytes(settings.master_key), attempt.code)
    if renewed is not None:
        await store.set_password(tx, who.account_id, who.agent_id, renewed)
    return await begin(tx, settings, who.account_id, who.agent_id, ip=attempt.ip, user_agent=attempt.user_agent)


async def begin(tx: Tx, settings: IdentitySettings, account: str, agent: str, *, ip: str, user_agent: str) -> Tokens:
    """Open a session for an agent who has proved who they are; their row, or the account, is locked."""
    session = new_id()
    await store.open_session(tx, session, account, agent, ip=ip, user_agent=user_agent)
    return await _tokens(tx, settings, session, account, agent)


async def refresh(db: Database, settings: IdentitySettings, token: str) -> Tokens:
    """New tokens for a refresh token, which is then used up. A used one ends its session. Raises Problem 401."""
    digest = _digest(token)
    async with db.begin() as tx:
        presented = await store.lock_refresh_token(tx, digest)
        if presented is not None:
            verdict = rules.judge_refresh(
                used_at=presented.used_at,
                expires_at=presented.expires_at,
                session_ended_at=presented.session_ended_at,
                now=now(),
            )
            if verdict is Refresh.ROTATE and await store.lock_agent(tx, presented.account_id, presented.agent_id):
                await store.use_refresh_token(tx, presented.session_id, digest, now())
                return await _tokens(tx, settings, presented.session_id, presented.account_id, presented.agent_id)
            if verdict is Refresh.END_SESSION:
                await end(tx, settings, presented.account_id, presented.session_id, reason="token_reused")
    # Raised after the commit: the end of the session must stand.
    raise problems.session_over()


async def end(
    tx: Tx, settings: IdentitySettings, account: str, session: str, *, reason: str, actor: str = "system"
) -> None:
    """End a session: its access tokens are refused everywhere as soon as the event is there. Twice does no harm."""
    changes = await administration.end_sessions(
        tx, account, [session], reason=reason, access_token=timedelta(seconds=settings.access_token_seconds)
    )
    await publish(tx, changes, actor=actor)


async def _matching(passwords: Passwords, candidates: list[Candidate], password: str) -> list[Candidate]:
    if not candidates:
        await passwords.verify(None, password)
    return [one for one in candidates if await passwords.verify(one.hash, password)]


async def _tokens(tx: Tx, settings: IdentitySettings, session: str, account: str, agent: str) -> Tokens:
    issued = now()
    refresh_token = f"rt_{secrets.token_urlsafe(32)}"
    await store.add_refresh_token(
        tx, session, account, _digest(refresh_token), issued + timedelta(days=settings.refresh_token_days)
    )
    key_id, private_pem = await signing.current_key(tx, key_bytes(settings.master_key))
    access_token = auth.access_token(
        private_pem,
        key_id,
        agent_id=agent,
        account_id=account,
        session_id=session,
        issued_at=issued,
        expires_at=issued + timedelta(seconds=settings.access_token_seconds),
    )
    return Tokens(agent, account, session, access_token, refresh_token, settings.access_token_seconds)


def which_account(matching: list[Candidate]) -> Problem:
    """409: the accounts that one is to be chosen of."""
    return Problem(
        409,
        "account_needed",
        es="Esta dirección entra en varias cuentas: indica account_id.",
        en="This address signs in to several accounts: give account_id.",
        extra={"accounts": [{"id": one.account_id, "name": one.account_name} for one in matching]},
    )


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()

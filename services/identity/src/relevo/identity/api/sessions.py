"""Sign-in, refresh, sign-out, and who one is."""

from datetime import timedelta
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, Field

from relevo.chassis import paging
from relevo.chassis.database import Database, Tx
from relevo.chassis.http import Db
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.chassis.problems import Problem
from relevo.contracts.base import Id, Time, now
from relevo.contracts.identity import AccountState
from relevo.contracts.permissions import ConversationScope, Permission
from relevo.identity import access, administration, problems, sessions
from relevo.identity.api.agents import AgentOut, Manager
from relevo.identity.api.common import Anyone, AnyText, Body, Called, Language, Person, after
from relevo.identity.sessions import Attempt, Tokens
from relevo.identity.store import directory
from relevo.identity.store import sign_in as store
from relevo.kernel.identity import email_or_none

router = APIRouter(tags=["sessions"])


class SignIn(Body):
    """``account_id`` only when one address signs in to several accounts.

    ``code`` when that was answered with `second_factor_needed`: six digits of the app, or a recovery code.
    """

    email: AnyText
    password: AnyText = Field(repr=False)
    code: AnyText | None = Field(default=None, repr=False)
    account_id: UUID | None = None


class RefreshIn(Body):
    refresh_token: AnyText = Field(repr=False)


class TokensOut(BaseModel):
    """A bearer token for ``expires_in`` seconds, and what gets the next one, once."""

    access_token: str
    refresh_token: str
    expires_in: int


class SignedIn(TokensOut):
    agent: AgentOut


class SessionOut(BaseModel):
    """An open session of mine. ``refreshed_at``: when it was last in use, to a quarter of an hour."""

    id: Id
    created_at: Time
    refreshed_at: Time
    ip: str
    user_agent: str
    current: bool


class Me(BaseModel):
    """Who asks. ``agent`` is null for an API key."""

    kind: str
    id: Id
    name: str
    language: Language
    account: AccountState
    agent: AgentOut | None
    role: str | None = Field(description="Name of the role; the predefined ones have a fixed English name.")
    permissions: list[Permission]
    scope: ConversationScope


@router.post("/sessions", status_code=201)
async def sign_in(body: SignIn, db: Db, caller: Called) -> SignedIn:
    """Sign in with address and password."""
    # What is no address is treated as one that nobody has: the answer says nothing.
    attempt = Attempt(
        email_or_none(body.email) or body.email.strip().lower().replace("\x00", ""),
        body.password,
        body.code,
        str(body.account_id) if body.account_id else None,
        caller.ip,
        caller.user_agent,
    )
    return await signed_in(db, await sessions.sign_in(db, caller.settings, caller.passwords, attempt))


@router.post("/sessions/refresh")
async def refresh_session(body: RefreshIn, db: Db, caller: Called) -> TokensOut:
    """New tokens for a refresh token, which is good once. One that comes a second time ends the session."""
    return _out(await sessions.refresh(db, caller.settings, body.refresh_token))


@router.delete("/sessions/current", status_code=204)
async def sign_out(who: Anyone, db: Db, caller: Called) -> None:
    """End this session, at once and everywhere."""
    if who.session_id is None:
        raise Problem(
            409,
            "no_session",
            es="Una clave de API no tiene sesión: revócala en /api-keys.",
            en="An API key has no session: revoke it at /api-keys.",
        )
    async with db.begin() as tx:
        await sessions.end(tx, caller.settings, who.account_id, who.session_id, reason="signed_out", actor=who.actor)


@router.get("/sessions")
async def list_sessions(
    who: Person, db: Db, caller: Called, limit: Limit = 50, cursor: Cursor = None
) -> Page[SessionOut]:
    """My open sessions, the newest first."""
    since = now() - timedelta(days=caller.settings.refresh_token_days)
    async with db.begin() as tx:
        rows = await store.listed(tx, who.account_id, who.id, since=since, before=after(cursor), limit=limit + 1)
    return paging.page(
        rows,
        limit,
        lambda row: (row.id,),
        lambda row: SessionOut(
            id=row.id,
            created_at=row.created_at,
            refreshed_at=row.refreshed_at,
            ip=row.ip,
            user_agent=row.user_agent,
            current=row.id == who.session_id,
        ),
    )


@router.delete("/sessions", status_code=204)
async def sign_out_everywhere(
    who: Person,
    db: Db,
    caller: Called,
    keep_current: Annotated[bool, Query(description="End all but this one.")] = False,
) -> None:
    """End all my sessions, at once and everywhere."""
    async with caller.act(db, who) as act:
        agent = (await administration.agent(act, who.id)).state
        await access.end_sessions(act, agent, action="sessions.ended", keep=who.session_id if keep_current else None)


@router.delete("/sessions/{session_id}", status_code=204)
async def end_session(session_id: UUID, who: Person, db: Db, caller: Called) -> None:
    """End one of my sessions, at once and everywhere."""
    async with caller.act(db, who) as act:
        agent = (await administration.agent(act, who.id)).state
        await access.end_session(act, agent, str(session_id))


@router.delete("/agents/{agent_id}/sessions", status_code=204)
async def sign_out_agent(agent_id: UUID, who: Manager, db: Db, caller: Called) -> None:
    """End all sessions of an agent, at once and everywhere: a telephone was lost."""
    async with caller.act(db, who) as act:
        agent = (await administration.agent(act, str(agent_id))).state
        administration.check_reach(act, await administration.role(act, agent.role_id))
        await access.end_sessions(act, agent, action="sessions.ended", keep=None)


@router.get("/me")
async def get_me(who: Anyone, db: Db) -> Me:
    """Who I am and what I may."""
    async with db.begin() as tx:
        account = await directory.account(tx, who.account_id)
        if account is None:
            raise problems.not_found("account")
        agent = await _agent(tx, who.account_id, who.id) if who.kind == "agent" else None
        role = (await directory.roles_by_id(tx, who.account_id, [agent.role_id]))[agent.role_id] if agent else None
    return Me(
        kind=who.kind,
        id=who.id,
        name=who.name,
        language=who.language,
        account=account.state,
        agent=agent,
        role=role.state.name if role else None,
        permissions=sorted(who.viewer.permissions),
        scope=who.viewer.scope,
    )


async def signed_in(db: Database, tokens: Tokens) -> SignedIn:
    """The answer to who has just signed in, with who they are."""
    async with db.begin(tokens.account_id) as tx:
        agent = await _agent(tx, tokens.account_id, tokens.agent_id)
    return SignedIn(**_out(tokens).model_dump(), agent=agent)


def _out(tokens: Tokens) -> TokensOut:
    return TokensOut(access_token=tokens.access_token, refresh_token=tokens.refresh_token, expires_in=tokens.expires_in)


async def _agent(tx: Tx, account: str, agent_id: str) -> AgentOut:
    found = (await directory.agents_by_id(tx, account, [agent_id])).get(agent_id)
    if found is None:
        raise problems.gone()
    return AgentOut.of(found.state, email=True)

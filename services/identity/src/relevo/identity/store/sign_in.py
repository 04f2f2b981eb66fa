"""Passwords, attempts, sessions and refresh tokens. Tokens are kept as SHA-256 only."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import text

from relevo.chassis.database import Tx


@dataclass(frozen=True, slots=True)
class Candidate:
    """An active agent with the address that was given. ``hash`` None: no password has been set."""

    agent_id: str
    account_id: str
    account_name: str
    hash: str | None


_FOUND = text(
    """
    select cast(id as text) as id, cast(account_id as text) as account_id from agents
    where email = :email and active and deleted_at is null
      and (cast(:account as uuid) is null or account_id = :account)
    order by id limit :limit
    """
)
_CANDIDATES = text(
    """
    select cast(a.id as text), cast(a.account_id as text), c.name, p.hash
    from agents a
    join accounts c on c.id = a.account_id and c.deleted_at is null
    left join passwords p on p.agent_id = a.id
    where a.id = any(cast(:agents as uuid[])) and a.email = :email and a.active and a.deleted_at is null
    order by a.id
    """
)
_SET_PASSWORD = text(
    """
    insert into passwords (agent_id, account_id, hash) values (:agent, :account, :hash)
    on conflict (agent_id) do update set hash = excluded.hash, changed_at = now()
    """
)
_COUNT = text(
    """
    insert into sign_in_attempts (subject, attempts, since)
    select subject, 1, :now from unnest(cast(:subjects as text[])) as row(subject) order by subject
    on conflict (subject) do update set
        attempts = case when sign_in_attempts.since < :stale then 1 else sign_in_attempts.attempts + 1 end,
        since = case when sign_in_attempts.since < :stale then :now else sign_in_attempts.since end
    returning subject, attempts, since
    """
)
_FORGIVE = text(
    "update sign_in_attempts set attempts = greatest(attempts - 1, 0) where subject = any(cast(:subjects as text[]))"
)
_CLEAR = text("delete from sign_in_attempts where subject = :subject")
_FORGET_ATTEMPTS = text("delete from sign_in_attempts where since < :before")


async def candidates(tx: Tx, email: str, account: str | None, *, limit: int) -> list[Candidate]:
    """Who may be meant by an address: one agent in an account, perhaps several over all of them.

    Leaves the transaction in the candidates' accounts.
    """
    async with tx.through("sign_in", email):
        meant = (await tx.execute(_FOUND, {"email": email, "account": account, "limit": limit})).all()
    await tx.enter(*{row.account_id for row in meant})
    found = await tx.execute(_CANDIDATES, {"email": email, "agents": [row.id for row in meant]})
    rows: Sequence[Any] = found.all()
    return [Candidate(*row) for row in rows]


async def set_password(tx: Tx, account: str, agent: str, hash: str) -> None:  # noqa: A002
    await tx.execute(_SET_PASSWORD, {"account": account, "agent": agent, "hash": hash})


async def count_attempt(
    tx: Tx, subjects: Sequence[str], *, now: datetime, stale: datetime
) -> dict[str, tuple[int, datetime]]:
    """Count one attempt for each subject; answers how many they are since when. Begun before ``stale``: anew."""
    found = await tx.execute(_COUNT, {"subjects": list(subjects), "now": now, "stale": stale})
    rows: Sequence[Any] = found.all()
    return {subject: (attempts, since) for subject, attempts, since in rows}


async def forgive_attempts(tx: Tx, subjects: Sequence[str]) -> None:
    """Take one from the count of each subject."""
    await tx.execute(_FORGIVE, {"subjects": list(subjects)})


async def clear_attempts(tx: Tx, subject: str) -> None:
    """Forget the count of a subject."""
    await tx.execute(_CLEAR, {"subject": subject})


_HASH = text("select hash from passwords where agent_id = :agent and account_id = :account")
_LOCK_HASH = text(
    "select 1 from passwords where agent_id = :agent and account_id = :account and hash = :hash for update"
)


async def password(tx: Tx, account: str, agent: str) -> str | None:
    """The hash of the agent's password, None without one."""
    row: Any = (await tx.execute(_HASH, {"agent": agent, "account": account})).first()
    return row[0] if row else None


async def lock_password(tx: Tx, account: str, agent: str, hash: str) -> bool:  # noqa: A002
    """Whether the hash that was verified is still the agent's; if so, it stays until this transaction ends."""
    parameters = {"agent": agent, "account": account, "hash": hash}
    return (await tx.execute(_LOCK_HASH, parameters)).first() is not None


_LOCK_AGENT = text(
    "select 1 from agents where id = :agent and account_id = :account and active and deleted_at is null for share"
)
_OPEN = text(
    """
    insert into sessions (id, account_id, agent_id, ip, user_agent)
    values (:id, :account, :agent, :ip, :user_agent)
    """
)
_ADD_TOKEN = text(
    """
    insert into refresh_tokens (sha256, account_id, session_id, expires_at)
    values (:sha256, :account, :session, :expires_at)
    """
)
_TOKEN_ACCOUNT = text("select cast(account_id as text) from refresh_tokens where sha256 = :sha256")
_LOCK_TOKEN = text(
    """
    select cast(s.id as text), cast(s.account_id as text), cast(s.agent_id as text), t.used_at, t.expires_at, s.ended_at
    from refresh_tokens t join sessions s on s.id = t.session_id
    where t.sha256 = :sha256 for update of s
    """
)
_TOKEN_USED = text("select used_at from refresh_tokens where sha256 = :sha256")
_USE = text("update refresh_tokens set used_at = :now where sha256 = :sha256")
_TOUCH = text("update sessions set refreshed_at = :now where id = :session")
_END = text(
    """
    update sessions set ended_at = :now, end_reason = :reason
    where id = any(cast(:sessions as uuid[])) and account_id = :account and ended_at is null
    returning cast(id as text), cast(agent_id as text)
    """
)
_OPEN_SESSIONS = text(
    "select cast(id as text) from sessions where agent_id = :agent and account_id = :account and ended_at is null"
)
_LIST = text(
    """
    select cast(id as text) as id, created_at, refreshed_at, ip, user_agent from sessions
    where agent_id = :agent and account_id = :account and ended_at is null and refreshed_at > :since
      and (cast(:before as uuid) is null or id < :before)
    order by id desc limit :limit
    """
)
_LAST_SEEN = text(
    """
    select cast(agent.id as text) as id, seen.at
    from unnest(cast(:agents as uuid[])) as agent(id)
    cross join lateral (
        select max(refreshed_at) as at from sessions s where s.agent_id = agent.id and s.account_id = :account
    ) as seen
    where seen.at is not null
    """
)
_FORGET_SESSIONS = text(
    """
    delete from sessions s where coalesce(s.ended_at, s.refreshed_at) < :before
      and not exists (select from refresh_tokens t where t.session_id = s.id and t.expires_at > :before)
    """
)


@dataclass(frozen=True, slots=True)
class Presented:
    """A refresh token that is known, and its session, locked."""

    session_id: str
    account_id: str
    agent_id: str
    used_at: datetime | None
    expires_at: datetime
    session_ended_at: datetime | None


async def lock_agent(tx: Tx, account: str, agent: str) -> bool:
    """Whether the agent may have a session; if so, they are not removed before this transaction ends."""
    return (await tx.execute(_LOCK_AGENT, {"agent": agent, "account": account})).first() is not None


async def open_session(tx: Tx, session: str, account: str, agent: str, *, ip: str, user_agent: str) -> None:
    await tx.execute(
        _OPEN, {"id": session, "account": account, "agent": agent, "ip": ip, "user_agent": user_agent[:300]}
    )


async def add_refresh_token(tx: Tx, session: str, account: str, sha256: bytes, expires_at: datetime) -> None:
    await tx.execute(_ADD_TOKEN, {"session": session, "account": account, "sha256": sha256, "expires_at": expires_at})


async def lock_refresh_token(tx: Tx, sha256: bytes) -> Presented | None:
    """The token, with its session locked: of two who present it at once, the second sees that it is used.

    Leaves the transaction in the token's account.
    """
    async with tx.through("refresh", sha256.hex()):
        known = (await tx.execute(_TOKEN_ACCOUNT, {"sha256": sha256})).scalar()
    if known is None:
        return None
    await tx.enter(known)
    row: Any = (await tx.execute(_LOCK_TOKEN, {"sha256": sha256})).first()
    if row is None:
        return None
    session, account, agent, _, expires_at, ended_at = row
    used_at = (await tx.execute(_TOKEN_USED, {"sha256": sha256})).scalar_one()
    return Presented(session, account, agent, used_at, expires_at, ended_at)


async def use_refresh_token(tx: Tx, session: str, sha256: bytes, now: datetime) -> None:
    await tx.execute(_USE, {"sha256": sha256, "now": now})
    await tx.execute(_TOUCH, {"session": session, "now": now})


async def open_sessions(tx: Tx, account: str, agent: str) -> list[str]:
    found = await tx.execute(_OPEN_SESSIONS, {"account": account, "agent": agent})
    return [row[0] for row in found]


@dataclass(frozen=True, slots=True)
class Session:
    """An open session. ``refreshed_at``: when it last got tokens."""

    id: str
    created_at: datetime
    refreshed_at: datetime
    ip: str
    user_agent: str


async def listed(tx: Tx, account: str, agent: str, *, since: datetime, before: str | None, limit: int) -> list[Session]:
    """The agent's open sessions that got tokens since then, the newest first."""
    parameters = {"account": account, "agent": agent, "since": since, "before": before, "limit": limit}
    return [Session(**row) for row in (await tx.execute(_LIST, parameters)).mappings()]


async def last_seen(tx: Tx, account: str, agents: Sequence[str]) -> dict[str, datetime]:
    """When each of the agents last had tokens issued, to the life of one; who has not lately is left out."""
    found = await tx.execute(_LAST_SEEN, {"account": account, "agents": list(agents)})
    rows: Sequence[Any] = found.all()
    return {row[0]: row[1] for row in rows}


async def end_sessions(
    tx: Tx, account: str, sessions: Sequence[str], *, reason: str, now: datetime
) -> list[tuple[str, str]]:
    """End those of the sessions that are open; answers their (session, agent)."""
    found = await tx.execute(_END, {"account": account, "sessions": list(sessions), "reason": reason, "now": now})
    rows: Sequence[Any] = found.all()
    return [(session, agent) for session, agent in rows]


async def forget(tx: Tx, *, attempts_before: datetime, sessions_before: datetime) -> None:
    """Delete attempts, and sessions with their tokens, that are over since then."""
    await tx.execute(_FORGET_ATTEMPTS, {"before": attempts_before})
    await tx.execute(_FORGET_SESSIONS, {"before": sessions_before})

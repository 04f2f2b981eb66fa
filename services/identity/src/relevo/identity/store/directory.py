"""Accounts, roles, agents and teams.

Whoever writes here holds the account's lock (`lock_account`), so that what was read stays true until the commit, and
the versions, which number the events of each entity, are given out in the order of commits. Removed rows stay, marked:
history keeps their names.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from sqlalchemy import RowMapping, text

from relevo.chassis.database import Tx
from relevo.contracts.identity import AccountState, AgentState, RoleState, TeamState
from relevo.contracts.permissions import ConversationScope, Permission

S = TypeVar("S")


@dataclass(frozen=True, slots=True)
class Stored(Generic[S]):
    """A state as it stands, and its version: the sequence of the last event about it."""

    state: S
    version: int


Fit = tuple[int, str, str]
"""How an agent's name fits what is sought (`kernel.names.name_rank`), the name as it is compared, and the id."""

_LOCK_ACCOUNT = text(
    "select name, language, time_zone, version from accounts where id = :account and deleted_at is null for update"
)
_ACCOUNT = text("select name, language, time_zone, version from accounts where id = :account and deleted_at is null")
_LOCK_SETUP = text("select pg_advisory_xact_lock(hashtextextended('identity.setup', 0))")
_SETUP_TAKEN = text(
    """
    select exists (select from accounts where lower(name) = lower(:name) and deleted_at is null)
        or exists (select from agents where email = :email and deleted_at is null)
    """
)
_SAVE_ACCOUNT = text(
    """
    insert into accounts (id, name, language, time_zone, version) values (:id, :name, :language, :time_zone, :version)
    on conflict (id) do update
    set name = excluded.name, language = excluded.language, time_zone = excluded.time_zone, version = excluded.version
    """
)


async def lock_setup(tx: Tx) -> None:
    """One account is made at a time."""
    await tx.execute(_LOCK_SETUP)


async def setup_taken(tx: Tx, name: str, email: str) -> bool:
    """Whether an account of that name, or an agent with that address in any account, is there."""
    return bool((await tx.execute(_SETUP_TAKEN, {"name": name, "email": email})).scalar_one())


async def lock_account(tx: Tx, account: str) -> Stored[AccountState] | None:
    """Take the lock under which everything of the account is written; None when there is no such account."""
    row = (await tx.execute(_LOCK_ACCOUNT, {"account": account})).mappings().first()
    return _account(account, row) if row else None


async def account(tx: Tx, account: str) -> Stored[AccountState] | None:
    row = (await tx.execute(_ACCOUNT, {"account": account})).mappings().first()
    return _account(account, row) if row else None


async def save_account(tx: Tx, stored: Stored[AccountState]) -> None:
    await tx.execute(_SAVE_ACCOUNT, {**stored.state.model_dump(), "version": stored.version})


def _account(account: str, row: RowMapping) -> Stored[AccountState]:
    state = AccountState(id=account, name=row["name"], language=row["language"], time_zone=row["time_zone"])
    return Stored(state, row["version"])


_ROLES = """
    select cast(id as text) as id, name, permissions, scope, predefined, version from roles
    where account_id = :account and deleted_at is null
"""
_ROLE_LIST = text(f"{_ROLES} and (cast(:after as uuid) is null or id > :after) order by id limit :limit")
_ROLES_BY_ID = text(f"{_ROLES} and id = any(cast(:ids as uuid[]))")
_ROLE_NAME_TAKEN = text(
    "select exists (select from roles"
    " where account_id = :account and lower(name) = lower(:name) and id <> :id and deleted_at is null)"
)
_SAVE_ROLES = text(
    """
    insert into roles (id, account_id, name, permissions, scope, predefined, version)
    select id, cast(:account as uuid), name, cast(permissions as text[]), scope, predefined, version
    from unnest(
        cast(:ids as uuid[]), cast(:names as text[]), cast(:permissions as text[]), cast(:scopes as text[]),
        cast(:predefined as boolean[]), cast(:versions as bigint[])
    ) as row(id, name, permissions, scope, predefined, version)
    on conflict (id) do update
    set name = excluded.name, permissions = excluded.permissions, scope = excluded.scope, version = excluded.version
    """
)
_REMOVE_ROLE = text("update roles set deleted_at = now(), version = :version where id = :id and account_id = :account")
_STALE_ADMINISTRATORS = text(
    """
    select cast(account_id as text) as account_id, cast(id as text) as id from roles
    where predefined and name = 'administrator' and deleted_at is null
      and not (permissions @> cast(:all as text[]) and permissions <@ cast(:all as text[]))
    """
)


async def roles(tx: Tx, account: str, *, after: str | None, limit: int) -> list[Stored[RoleState]]:
    found = await tx.execute(_ROLE_LIST, {"account": account, "after": after, "limit": limit})
    return [_role(account, row) for row in found.mappings()]


async def roles_by_id(tx: Tx, account: str, ids: Iterable[str]) -> dict[str, Stored[RoleState]]:
    found = await tx.execute(_ROLES_BY_ID, {"account": account, "ids": sorted(set(ids))})
    return {row["id"]: _role(account, row) for row in found.mappings()}


async def role_name_taken(tx: Tx, account: str, name: str, role: str) -> bool:
    return bool((await tx.execute(_ROLE_NAME_TAKEN, {"account": account, "name": name, "id": role})).scalar_one())


async def save_roles(tx: Tx, account: str, stored: Sequence[Stored[RoleState]]) -> None:
    await tx.execute(
        _SAVE_ROLES,
        {
            "account": account,
            "ids": [item.state.id for item in stored],
            "names": [item.state.name for item in stored],
            # Arrays of arrays must be rectangular: each goes as an array's text form. Permissions hold no quotes.
            "permissions": ["{" + ",".join(sorted(item.state.permissions)) + "}" for item in stored],
            "scopes": [item.state.scope.value for item in stored],
            "predefined": [item.state.predefined for item in stored],
            "versions": [item.version for item in stored],
        },
    )


async def remove_role(tx: Tx, stored: Stored[RoleState]) -> None:
    await tx.execute(
        _REMOVE_ROLE, {"account": stored.state.account_id, "id": stored.state.id, "version": stored.version}
    )


async def stale_administrator_roles(tx: Tx) -> list[tuple[str, str]]:
    """(account, role) of the administrators' roles that do not hold exactly the permissions that there are."""
    found = await tx.execute(_STALE_ADMINISTRATORS, {"all": [str(p) for p in Permission]})
    return [(row["account_id"], row["id"]) for row in found.mappings()]


def _role(account: str, row: RowMapping) -> Stored[RoleState]:
    known = {str(p) for p in Permission}
    state = RoleState(
        id=row["id"],
        account_id=account,
        name=row["name"],
        # A newer version may have stored a permission that this one does not know: it cannot grant it either.
        permissions=frozenset(Permission(p) for p in row["permissions"] if p in known),
        scope=ConversationScope(row["scope"]),
        predefined=row["predefined"],
    )
    return Stored(state, row["version"])


_AGENTS = """
    select cast(a.id as text) as id, a.name, a.email, cast(a.role_id as text) as role_id,
        cast(a.inbox_ids as text[]) as inbox_ids, a.language, a.active, a.version,
        array(select cast(m.team_id as text) from team_members m where m.agent_id = a.id order by m.team_id) as team_ids
    from agents a where a.account_id = :account and a.deleted_at is null
"""
_AGENT_LIST = text(f"{_AGENTS} and (cast(:after as uuid) is null or a.id > :after) order by a.id limit :limit")
# As `kernel.names.name_rank` has it; the index is scanned within the account alone.
_AGENTS_NAMED = text(f"""
    with fitting as (
        select id, folded_name, case when starts_with(folded_name, :wanted) then 1
            when strpos(folded_name, ' ' || :wanted) > 0 then 2 else 3 end as rank
        from agents where account_id = :account and deleted_at is null and strpos(folded_name, :wanted) > 0
    ), page as (
        select * from fitting
        where cast(:rank as integer) is null or (rank, folded_name, id) > (:rank, :name, cast(:after as uuid))
        order by rank, folded_name, id limit :limit
    )
    select named.*, page.rank, page.folded_name
    from page join ({_AGENTS} and a.id in (select id from page)) named on named.id = cast(page.id as text)
    order by page.rank, page.folded_name, page.id
""")
_AGENTS_BY_ID = text(f"{_AGENTS} and a.id = any(cast(:ids as uuid[])) order by a.id")
_EMAIL_TAKEN = text(
    "select exists (select from agents"
    " where account_id = :account and email = :email and id <> :id and deleted_at is null)"
)
_OTHER_ADMINISTRATORS = text(
    """
    select count(*) from agents a join roles r on r.id = a.role_id
    where a.account_id = :account and a.deleted_at is null and a.active and a.id <> :id
      and r.predefined and r.name = 'administrator'
    """
)
_ROLE_HOLDERS = text("select count(*) from agents where account_id = :account and role_id = :id and deleted_at is null")
_SAVE_AGENT = text(
    """
    insert into agents (id, account_id, name, email, role_id, inbox_ids, language, active, version)
    values (:id, :account, :name, :email, :role_id, cast(:inbox_ids as uuid[]), :language, :active, :version)
    on conflict (id) do update
    set name = excluded.name, email = excluded.email, role_id = excluded.role_id, inbox_ids = excluded.inbox_ids,
        language = excluded.language, active = excluded.active, version = excluded.version
    """
)
_BUMP_AGENTS = text(
    "update agents set version = version + 1 where account_id = :account and id = any(cast(:ids as uuid[]))"
)
_REMOVE_AGENT = text(
    "update agents set deleted_at = now(), active = false, version = :version where id = :id and account_id = :account"
)
_FORGET_PASSWORD = text("delete from passwords where agent_id = :id and account_id = :account")


async def agents(tx: Tx, account: str, *, after: str | None, limit: int) -> list[Stored[AgentState]]:
    found = await tx.execute(_AGENT_LIST, {"account": account, "after": after, "limit": limit})
    return [_agent(account, row) for row in found.mappings()]


async def agents_named(
    tx: Tx, account: str, wanted: str, *, after: Fit | None, limit: int
) -> list[tuple[Fit, Stored[AgentState]]]:
    """The agents whose name has this (folded), the best fitting first, each with how it fits."""
    rank, name, last = after or (None, None, None)
    given = {"account": account, "wanted": wanted, "rank": rank, "name": name, "after": last, "limit": limit}
    rows = (await tx.execute(_AGENTS_NAMED, given)).mappings()
    return [((row["rank"], row["folded_name"], row["id"]), _agent(account, row)) for row in rows]


async def agents_by_id(tx: Tx, account: str, ids: Iterable[str]) -> dict[str, Stored[AgentState]]:
    found = await tx.execute(_AGENTS_BY_ID, {"account": account, "ids": sorted(set(ids))})
    return {row["id"]: _agent(account, row) for row in found.mappings()}


async def email_taken(tx: Tx, account: str, email: str, agent: str) -> bool:
    return bool((await tx.execute(_EMAIL_TAKEN, {"account": account, "email": email, "id": agent})).scalar_one())


async def other_administrators(tx: Tx, account: str, agent: str) -> int:
    """How many active administrators the account has but this agent."""
    return int((await tx.execute(_OTHER_ADMINISTRATORS, {"account": account, "id": agent})).scalar_one())


async def role_holders(tx: Tx, account: str, role: str) -> int:
    return int((await tx.execute(_ROLE_HOLDERS, {"account": account, "id": role})).scalar_one())


async def save_agent(tx: Tx, stored: Stored[AgentState]) -> None:
    """Write the agent's row. Teams are written by `replace_memberships`."""
    state = stored.state
    await tx.execute(
        _SAVE_AGENT,
        {
            "id": state.id,
            "account": state.account_id,
            "name": state.name,
            "email": state.email,
            "role_id": state.role_id,
            "inbox_ids": None if state.inbox_ids is None else list(state.inbox_ids),
            "language": state.language,
            "active": state.active,
            "version": stored.version,
        },
    )


async def bump_agents(tx: Tx, account: str, ids: Sequence[str]) -> dict[str, Stored[AgentState]]:
    """The next version of agents whose teams have just changed, as they now stand."""
    if not ids:
        return {}
    await tx.execute(_BUMP_AGENTS, {"account": account, "ids": list(ids)})
    return await agents_by_id(tx, account, ids)


async def remove_agent(tx: Tx, stored: Stored[AgentState]) -> None:
    """Mark the agent removed and forget the password; the name stays."""
    key = {"account": stored.state.account_id, "id": stored.state.id}
    await tx.execute(_REMOVE_AGENT, {**key, "version": stored.version})
    await tx.execute(_FORGET_PASSWORD, key)


def _agent(account: str, row: RowMapping) -> Stored[AgentState]:
    inboxes = row["inbox_ids"]
    state = AgentState(
        id=row["id"],
        account_id=account,
        name=row["name"],
        email=row["email"],
        role_id=row["role_id"],
        team_ids=tuple(row["team_ids"]),
        inbox_ids=None if inboxes is None else tuple(inboxes),
        language=row["language"],
        active=row["active"],
    )
    return Stored(state, row["version"])


_TEAMS = """
    select cast(t.id as text) as id, t.name, t.description, t.auto_assign, t.version,
        array(select cast(m.agent_id as text) from team_members m where m.team_id = t.id order by m.agent_id)
            as member_ids
    from teams t where t.account_id = :account and t.deleted_at is null
"""
_TEAM_LIST = text(f"{_TEAMS} and (cast(:after as uuid) is null or t.id > :after) order by t.id limit :limit")
_TEAMS_BY_ID = text(f"{_TEAMS} and t.id = any(cast(:ids as uuid[])) order by t.id")
_TEAM_NAME_TAKEN = text(
    "select exists (select from teams"
    " where account_id = :account and lower(name) = lower(:name) and id <> :id and deleted_at is null)"
)
_SAVE_TEAM = text(
    """
    insert into teams (id, account_id, name, description, auto_assign, version)
    values (:id, :account, :name, :description, :auto_assign, :version)
    on conflict (id) do update
    set name = excluded.name, description = excluded.description, auto_assign = excluded.auto_assign,
        version = excluded.version
    """
)
_BUMP_TEAMS = text(
    "update teams set version = version + 1 where account_id = :account and id = any(cast(:ids as uuid[]))"
)
_REMOVE_TEAM = text("update teams set deleted_at = now(), version = :version where id = :id and account_id = :account")
_LEAVE = text(
    """
    delete from team_members where account_id = :account
      and (team_id, agent_id) in (select * from unnest(cast(:teams as uuid[]), cast(:agents as uuid[])))
    """
)
_JOIN = text(
    """
    insert into team_members (account_id, team_id, agent_id)
    select cast(:account as uuid), * from unnest(cast(:teams as uuid[]), cast(:agents as uuid[]))
    on conflict do nothing
    """
)


async def teams(tx: Tx, account: str, *, after: str | None, limit: int) -> list[Stored[TeamState]]:
    found = await tx.execute(_TEAM_LIST, {"account": account, "after": after, "limit": limit})
    return [_team(account, row) for row in found.mappings()]


async def teams_by_id(tx: Tx, account: str, ids: Iterable[str]) -> dict[str, Stored[TeamState]]:
    found = await tx.execute(_TEAMS_BY_ID, {"account": account, "ids": sorted(set(ids))})
    return {row["id"]: _team(account, row) for row in found.mappings()}


async def team_name_taken(tx: Tx, account: str, name: str, team: str) -> bool:
    return bool((await tx.execute(_TEAM_NAME_TAKEN, {"account": account, "name": name, "id": team})).scalar_one())


async def save_team(tx: Tx, stored: Stored[TeamState]) -> None:
    """Write the team's row. Members are written by `replace_memberships`."""
    state = stored.state
    await tx.execute(
        _SAVE_TEAM,
        {
            "id": state.id,
            "account": state.account_id,
            "name": state.name,
            "description": state.description,
            "auto_assign": state.auto_assign,
            "version": stored.version,
        },
    )


async def bump_teams(tx: Tx, account: str, ids: Sequence[str]) -> dict[str, Stored[TeamState]]:
    """The next version of teams whose members have just changed, as they now stand."""
    if not ids:
        return {}
    await tx.execute(_BUMP_TEAMS, {"account": account, "ids": list(ids)})
    return await teams_by_id(tx, account, ids)


async def remove_team(tx: Tx, stored: Stored[TeamState]) -> None:
    await tx.execute(
        _REMOVE_TEAM, {"account": stored.state.account_id, "id": stored.state.id, "version": stored.version}
    )


async def replace_memberships(
    tx: Tx, account: str, *, leave: Sequence[tuple[str, str]], join: Sequence[tuple[str, str]]
) -> None:
    """Write memberships, each a (team, agent)."""
    for statement, pairs in ((_LEAVE, leave), (_JOIN, join)):
        if pairs:
            parameters: dict[str, Any] = {
                "account": account,
                "teams": [team for team, _ in pairs],
                "agents": [agent for _, agent in pairs],
            }
            await tx.execute(statement, parameters)


def _team(account: str, row: RowMapping) -> Stored[TeamState]:
    state = TeamState(
        id=row["id"],
        account_id=account,
        name=row["name"],
        description=row["description"],
        member_ids=tuple(row["member_ids"]),
        auto_assign=row["auto_assign"],
    )
    return Stored(state, row["version"])

"""Administrative acts upon the directory: accounts, roles, agents, teams.

Each function is one act within the caller's transaction, which holds the account's lock (`begin`): it reads,
has the domain decide, writes, publishes every entity that changed with its whole state, and adds to the audit log.
Raises Problem when the act is refused.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final, Literal

from relevo.chassis import directory as projection
from relevo.chassis.auth import Principal
from relevo.chassis.database import Tx
from relevo.contracts.base import Model, new_id, now
from relevo.contracts.identity import (
    AccountChanged,
    AccountState,
    AgentChanged,
    AgentState,
    KeyChanged,
    KeyState,
    RoleChanged,
    RoleState,
    SessionRevoked,
    TeamChanged,
    TeamState,
)
from relevo.contracts.permissions import ROLES, ConversationScope, Permission
from relevo.identity import problems
from relevo.identity.domain import grants
from relevo.identity.domain.grants import ADMINISTRATOR, Authority, Refusal
from relevo.identity.publish import Change, publish
from relevo.identity.store import audit, directory, keys, links, oidc, second_factor, sign_in
from relevo.identity.store.audit import By, Record
from relevo.identity.store.directory import Stored


@dataclass(frozen=True, slots=True)
class Act:
    """An act under way: the locked account, who acts, and what they hold now that it is locked."""

    tx: Tx
    stored: Stored[AccountState]
    by: By
    holder: Authority
    agent_id: str | None
    """The agent who acts, or whose key does."""
    access_token: timedelta
    """How long an access token lives: ended sessions are remembered for that time."""

    @property
    def account(self) -> str:
        return self.stored.state.id

    async def done(self, changes: Sequence[Change], records: Sequence[Record]) -> None:
        """Publish and record what was done."""
        await publish(self.tx, changes, actor=self.by.actor)
        await audit.append(self.tx, self.account, self.by, records, at=now())


async def begin(tx: Tx, who: Principal, by: By, *, access_token: timedelta) -> Act:
    """Take the account's lock, and look again at what the principal holds: it may just have been taken away.

    Raises Problem 404 when the account is gone, 401 when the principal is.
    """
    stored = await directory.lock_account(tx, who.account_id)
    if stored is None:
        raise problems.not_found("account")
    agent_id = who.viewer.agent_id
    permissions, scope = frozenset[Permission](), ConversationScope.NONE
    teams, inboxes = frozenset[str](), None if agent_id is None else frozenset[str]()
    if who.kind == "key":
        held = await keys.lock_api_keys(tx, who.account_id, [who.id])
        if not held:
            raise problems.gone()
        permissions, scope = held[0].state.permissions, held[0].state.scope
    if agent_id is not None:
        found = (await directory.agents_by_id(tx, who.account_id, [agent_id])).get(agent_id)
        if found is None or not found.state.active:
            raise problems.gone()
        teams = frozenset(found.state.team_ids)
        inboxes = None if found.state.inbox_ids is None else frozenset(found.state.inbox_ids)
        if who.kind == "agent":
            own = (await directory.roles_by_id(tx, who.account_id, [found.state.role_id]))[found.state.role_id].state
            permissions, scope = own.permissions, own.scope
    return Act(tx, stored, by, Authority(permissions, scope, teams, inboxes), agent_id, access_token)


async def begin_with_link(tx: Tx, account: str, by: By, *, access_token: timedelta) -> Act:
    """The same for whoever bears a one-time link: they hold nothing but that. Raises Problem 410 without the account."""
    stored = await directory.lock_account(tx, account)
    if stored is None:
        raise problems.link_over()
    return Act(tx, stored, by, Authority(frozenset(), ConversationScope.NONE), None, access_token)


def _allow(refusal: Refusal | None) -> None:
    if refusal is not None:
        raise problems.refused(refusal)


def shown(state: Model) -> dict[str, Any]:
    """A state as the audit log keeps it: without what only compares secrets."""
    return state.model_dump(mode="json", exclude={"sha256"})


# Accounts


async def create_account(
    tx: Tx, *, name: str, language: Literal["es", "en"], time_zone: str, by: By, account_id: str | None = None
) -> tuple[Stored[AccountState], Stored[RoleState]]:
    """Make an account with the predefined roles; answers it and its administrators' role. Names are the caller's to judge.

    Leaves the transaction in the new account.
    """
    account = Stored(AccountState(id=account_id or new_id(), name=name, language=language, time_zone=time_zone), 1)
    await tx.enter(account.state.id)
    await directory.save_account(tx, account)
    roles = [
        Stored(
            RoleState(
                id=new_id(),
                account_id=account.state.id,
                name=role_name,
                permissions=template.permissions,
                scope=template.scope,
                predefined=True,
            ),
            1,
        )
        for role_name, template in ROLES.items()
    ]
    await directory.save_roles(tx, account.state.id, roles)
    changes = [Change(AccountChanged(account=account.state), account.state.id, account.state.id, 1)]
    changes += [Change(RoleChanged(role=role.state), account.state.id, role.state.id, 1) for role in roles]
    await publish(tx, changes, actor=by.actor)
    record = Record("account.created", "account", account.state.id, None, shown(account.state))
    await audit.append(tx, account.state.id, by, [record], at=now())
    return account, next(role for role in roles if role.state.name == ADMINISTRATOR)


async def edit_account(act: Act, fields: Mapping[str, Any]) -> Stored[AccountState]:
    before = act.stored
    after = Stored(before.state.model_copy(update=fields), before.version + 1)
    if after.state == before.state:
        return before
    await directory.save_account(act.tx, after)
    await act.done(
        [Change(AccountChanged(account=after.state), act.account, act.account, after.version)],
        [Record("account.updated", "account", act.account, shown(before.state), shown(after.state))],
    )
    return after


async def complete_administrators(tx: Tx) -> None:
    """Administrators hold every permission there is: after an update that brings new ones, also those."""
    for account, role in await directory.stale_administrator_roles(tx):
        await tx.enter(account)
        await directory.lock_account(tx, account)
        before = (await directory.roles_by_id(tx, account, [role]))[role]
        if before.state.permissions == frozenset(Permission):  # another replica was faster
            continue
        after = Stored(before.state.model_copy(update={"permissions": frozenset(Permission)}), before.version + 1)
        await directory.save_roles(tx, account, [after])
        change = Change(RoleChanged(role=after.state), account, role, after.version)
        await publish(tx, [change], actor=audit.SYSTEM.actor)
        record = Record("role.updated", "role", role, shown(before.state), shown(after.state))
        await audit.append(tx, account, audit.SYSTEM, [record], at=now())


# Roles


async def role(act: Act, role_id: str) -> Stored[RoleState]:
    found = await directory.roles_by_id(act.tx, act.account, [role_id])
    if role_id not in found:
        raise problems.not_found("role")
    return found[role_id]


async def save_role(act: Act, before: Stored[RoleState] | None, state: RoleState) -> Stored[RoleState]:
    """Make (``before`` None) or edit a role."""
    _allow(grants.judge_role(act.holder, before.state if before else None, state))
    if before is not None and before.state == state:
        return before
    if await directory.role_name_taken(act.tx, act.account, state.name, state.id):
        raise problems.name_taken()
    after = Stored(state, before.version + 1 if before else 1)
    await directory.save_roles(act.tx, act.account, [after])
    held = await keys.lock_api_keys_of_role(act.tx, act.account, state.id) if before else []
    changes, records = await _trim(act, held, state)
    await act.done(
        [Change(RoleChanged(role=state), act.account, state.id, after.version), *changes],
        [record_of("role", before, after), *records],
    )
    return after


async def _trim(act: Act, api_keys: Sequence[keys.ApiKey], role_state: RoleState) -> tuple[list[Change], list[Record]]:
    """Take from keys what the role of their agents does not hold any more."""
    changes, records = [], []
    for key in api_keys:
        state = grants.trimmed_key(key.state, role_state)
        if state != key.state:
            await keys.trim_api_key(act.tx, Stored(state, key.version + 1))
            changes.append(Change(KeyChanged(key=state), act.account, state.id, key.version + 1))
            records.append(Record("api_key.trimmed", "api_key", state.id, shown(key.state), shown(state)))
    return changes, records


async def remove_role(act: Act, before: Stored[RoleState]) -> None:
    agents = await directory.role_holders(act.tx, act.account, before.state.id)
    _allow(grants.judge_role_removal(act.holder, before.state, agents=agents))
    gone = Stored(before.state, before.version + 1)
    await directory.remove_role(act.tx, gone)
    await act.done(
        [Change(RoleChanged(role=gone.state, deleted=True), act.account, gone.state.id, gone.version)],
        [record_of("role", before, None)],
    )


# Agents


async def agent(act: Act, agent_id: str) -> Stored[AgentState]:
    found = await directory.agents_by_id(act.tx, act.account, [agent_id])
    if agent_id not in found:
        raise problems.not_found("agent")
    return found[agent_id]


async def save_agent(act: Act, before: Stored[AgentState] | None, state: AgentState) -> Stored[AgentState]:
    """Make (``before`` None) or edit an agent, with their teams."""
    old_role = before.state.role_id if before else state.role_id
    roles = await directory.roles_by_id(act.tx, act.account, [state.role_id, old_role])
    if state.role_id not in roles:
        raise problems.unknown("role", "/role_id", [state.role_id])
    had = (before.state, roles[old_role].state) if before else None
    others = await directory.other_administrators(act.tx, act.account, state.id)
    _allow(grants.judge_agent(act.holder, had, (state, roles[state.role_id].state), other_administrators=others))
    if before is not None and before.state == state:
        return before
    if await directory.email_taken(act.tx, act.account, state.email, state.id):
        raise problems.email_taken()
    was, now_in = set(before.state.team_ids if before else ()), set(state.team_ids)
    teams = await directory.teams_by_id(act.tx, act.account, now_in)
    if missing := sorted(now_in - teams.keys()):
        raise problems.unknown("team", "/team_ids", missing)
    had_inboxes = set(before.state.inbox_ids or ()) if before else set()
    await known_inboxes(act, set(state.inbox_ids or ()) - had_inboxes)
    after = Stored(state, before.version + 1 if before else 1)
    await directory.save_agent(act.tx, after)
    changes = [Change(AgentChanged(agent=state), act.account, state.id, after.version)]
    changes += await _move(act, agent_id=state.id, leave=was - now_in, join=now_in - was)
    trimmed: list[Record] = []
    if before is not None and before.state.role_id != state.role_id:
        held = await keys.lock_api_keys_of_agent(act.tx, act.account, state.id)
        key_changes, trimmed = await _trim(act, held, roles[state.role_id].state)
        changes += key_changes
    await act.done(changes, [record_of("agent", before, after), *trimmed])
    return after


async def remove_agent(act: Act, before: Stored[AgentState]) -> None:
    """Remove an agent: sessions, links, API keys and bus credentials of theirs end with them."""
    roles = await directory.roles_by_id(act.tx, act.account, [before.state.role_id])
    others = await directory.other_administrators(act.tx, act.account, before.state.id)
    _allow(
        grants.judge_agent_removal(
            act.holder, (before.state, roles[before.state.role_id].state), other_administrators=others
        )
    )
    gone = Stored(before.state.model_copy(update={"active": False, "team_ids": ()}), before.version + 1)
    await directory.remove_agent(act.tx, gone)
    await links.forget(act.tx, act.account, gone.state.id)
    await oidc.unbind(act.tx, act.account, gone.state.id)
    await second_factor.remove(act.tx, act.account, gone.state.id)
    changes = [Change(AgentChanged(agent=gone.state, deleted=True), act.account, gone.state.id, gone.version)]
    changes += await _move(act, agent_id=gone.state.id, leave=set(before.state.team_ids), join=set())
    sessions = await sign_in.open_sessions(act.tx, act.account, gone.state.id)
    changes += await end_sessions(act.tx, act.account, sessions, reason="agent_removed", access_token=act.access_token)
    records = [record_of("agent", before, None)]
    api_keys = await keys.lock_api_keys_of_agent(act.tx, act.account, gone.state.id)
    key_changes, key_records = await _remove_keys(act, api_keys)
    credentials = await keys.lock_live_credentials(act.tx, act.account, agent=gone.state.id)
    more_changes, more_records = await revoke_credentials(act.tx, act.account, credentials)
    await act.done([*changes, *key_changes, *more_changes], [*records, *key_records, *more_records])


async def end_sessions(
    tx: Tx, account: str, sessions: Sequence[str], *, reason: str, access_token: timedelta
) -> list[Change]:
    """End sessions; answers the events to publish. A session has one event in its life, hence the sequence 1."""
    at = now()
    ended = await sign_in.end_sessions(tx, account, sessions, reason=reason, now=at)
    return [
        Change(
            SessionRevoked(session_id=session, agent_id=agent_id, account_id=account, until=at + access_token),
            account,
            session,
            1,
        )
        for session, agent_id in ended
    ]


async def revoke_credentials(
    tx: Tx, account: str, credentials: Sequence[keys.BusCredential]
) -> tuple[list[Change], list[Record]]:
    """Revoke bus credentials in the database; the broker is told after the commit (`bus_credentials.settle`)."""
    await keys.revoke_credentials(tx, account, [credential.id for credential in credentials], now())
    # A pending one was never published.
    changes = [
        Change(KeyChanged(key=state, deleted=True), account, credential.id, credential.version + 1)
        for credential in credentials
        if credential.state == "active" and (state := credential.key_state()) is not None
    ]
    records = [
        Record(
            f"{credential.kind}_credential.revoked", f"{credential.kind}_credential", credential.id, credential.shown()
        )
        for credential in credentials
    ]
    return changes, records


def check_reach(act: Act, role: Stored[RoleState]) -> None:
    """May agents with the role be handled at all? Raises Problem 403 when they hold more than who acts."""
    _allow(grants.judge_reach(act.holder, role.state))


def check_not_oneself(act: Act, agent: AgentState) -> None:
    """Raises Problem 403 when who acts, or whose key does, is the agent: an open session must not do that."""
    if act.agent_id == agent.id:
        raise problems.not_oneself()


_TO_ISSUE: Final[Mapping[keys.InboxKind, Permission]] = {
    "adapter": Permission.INBOUND_PUBLISH,
    "bot": Permission.INBOXES_MANAGE,
}


def check_inbox_credential(act: Act, kind: keys.InboxKind, inbox: str) -> None:
    """May an adapter's or a bot's credentials be issued for the inbox? Raises Problem 403."""
    _allow(grants.judge_inbox_credential(act.holder, _TO_ISSUE[kind], inbox))


def check_metrics(act: Act) -> None:
    """May a metrics consumer's credentials be issued? Raises Problem 403."""
    _allow(grants.lacks(act.holder, permissions=[Permission.BUS_READ]))


async def known_inboxes(act: Act, inboxes: set[str]) -> None:
    found = await projection.inboxes(act.tx, inboxes)
    known = {inbox_id for inbox_id, state in found.items() if state.account_id == act.account}
    if missing := sorted(inboxes - known):
        raise problems.unknown("inbox", "/inbox_ids", missing)


async def _move(act: Act, *, agent_id: str, leave: Iterable[str], join: Iterable[str]) -> list[Change]:
    """Change one agent's teams; answers the teams' events."""
    leave, join = sorted(leave), sorted(join)
    await directory.replace_memberships(
        act.tx, act.account, leave=[(t, agent_id) for t in leave], join=[(t, agent_id) for t in join]
    )
    teams = await directory.bump_teams(act.tx, act.account, [*leave, *join])
    return [Change(TeamChanged(team=team.state), act.account, team.state.id, team.version) for team in teams.values()]


# API keys


async def add_api_key(act: Act, state: KeyState) -> None:
    _allow(grants.judge_key(act.holder, state.permissions, state.scope))
    await keys.add_api_key(act.tx, state)
    await act.done(
        [Change(KeyChanged(key=state), act.account, state.id, 1)],
        [Record("api_key.created", "api_key", state.id, None, shown(state))],
    )


async def remove_api_key(act: Act, key_id: str) -> None:
    """Taking away is no grant: whoever manages keys may revoke any."""
    held = await keys.lock_api_keys(act.tx, act.account, [key_id])
    if not held:
        raise problems.not_found("api_key")
    changes, records = await _remove_keys(act, held)
    await act.done(changes, records)


async def _remove_keys(act: Act, api_keys: Sequence[keys.ApiKey]) -> tuple[list[Change], list[Record]]:
    await keys.remove_api_keys(act.tx, act.account, [key.state.id for key in api_keys])
    changes = [
        Change(KeyChanged(key=key.state, deleted=True), act.account, key.state.id, key.version + 1) for key in api_keys
    ]
    return changes, [Record("api_key.revoked", "api_key", key.state.id, shown(key.state)) for key in api_keys]


# Teams


async def team(act: Act, team_id: str) -> Stored[TeamState]:
    found = await directory.teams_by_id(act.tx, act.account, [team_id])
    if team_id not in found:
        raise problems.not_found("team")
    return found[team_id]


async def save_team(act: Act, before: Stored[TeamState] | None, state: TeamState) -> Stored[TeamState]:
    """Make (``before`` None) or edit a team, with its members."""
    was, members = set(before.state.member_ids if before else ()), set(state.member_ids)
    _allow(grants.judge_members(act.holder, before.state.id if before else None, was, members))
    if before is not None and before.state == state:
        return before
    if await directory.team_name_taken(act.tx, act.account, state.name, state.id):
        raise problems.name_taken()
    found = await directory.agents_by_id(act.tx, act.account, members)
    if missing := sorted(members - found.keys()):
        raise problems.unknown("agent", "/member_ids", missing)
    after = Stored(state, before.version + 1 if before else 1)
    await directory.save_team(act.tx, after)
    await directory.replace_memberships(
        act.tx,
        act.account,
        leave=[(state.id, member) for member in sorted(was - members)],
        join=[(state.id, member) for member in sorted(members - was)],
    )
    changes = [Change(TeamChanged(team=state), act.account, state.id, after.version)]
    changes += await _moved_agents(act, was ^ members)
    await act.done(changes, [record_of("team", before, after)])
    return after


async def remove_team(act: Act, before: Stored[TeamState]) -> None:
    gone = Stored(before.state.model_copy(update={"member_ids": ()}), before.version + 1)
    members = before.state.member_ids
    await directory.replace_memberships(
        act.tx, act.account, leave=[(gone.state.id, member) for member in members], join=[]
    )
    await directory.remove_team(act.tx, gone)
    changes = [Change(TeamChanged(team=gone.state, deleted=True), act.account, gone.state.id, gone.version)]
    changes += await _moved_agents(act, members)
    await act.done(changes, [record_of("team", before, None)])


async def _moved_agents(act: Act, agents: Iterable[str]) -> list[Change]:
    bumped = await directory.bump_agents(act.tx, act.account, sorted(agents))
    return [
        Change(AgentChanged(agent=member.state), act.account, member.state.id, member.version)
        for member in bumped.values()
    ]


def record_of(kind: str, before: Stored[Any] | None, after: Stored[Any] | None) -> Record:
    stored = after or before
    assert stored is not None
    verb = "created" if before is None else "updated" if after is not None else "removed"
    return Record(
        f"{kind}.{verb}",
        kind,
        stored.state.id,
        shown(before.state) if before else None,
        shown(after.state) if after else None,
    )

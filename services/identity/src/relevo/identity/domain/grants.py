"""Who may grant what: nobody gives, edits or takes away more than they hold themselves.

What a person holds is an `Authority`: permissions, a conversation scope, and the teams and inboxes that the scope
reaches. The rules compare authorities only; that the asker may manage roles, agents or keys at all is the endpoint's
question. Every function answers None when the act is allowed, and else the first `Refusal`.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from relevo.contracts.identity import AgentState, KeyState, RoleState
from relevo.contracts.permissions import ConversationScope, Permission

ADMINISTRATOR = "administrator"

_WIDTH = {
    ConversationScope.NONE: 0,
    ConversationScope.OWN: 1,
    ConversationScope.UNASSIGNED_OWN: 2,
    ConversationScope.TEAM: 3,
    ConversationScope.ALL: 4,
}


@dataclass(frozen=True, slots=True)
class Authority:
    """What somebody holds. ``inbox_ids`` None: every inbox; teams and inboxes do not limit the scope ALL."""

    permissions: frozenset[Permission]
    scope: ConversationScope
    team_ids: frozenset[str] = frozenset()
    inbox_ids: frozenset[str] | None = frozenset()


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why not: a stable code, the field at fault (JSON pointer, empty for the whole) and what was too much."""

    code: str
    pointer: str = ""
    detail: str = ""


def is_administrator(role: RoleState) -> bool:
    """Whether it is the predefined role that holds everything. No custom role can be it, whatever its name."""
    return role.predefined and role.name == ADMINISTRATOR


def lacks(
    holder: Authority,
    *,
    permissions: Iterable[Permission] = (),
    scope: ConversationScope = ConversationScope.NONE,
    team_ids: Iterable[str] = (),
    inbox_ids: frozenset[str] | None = frozenset(),
) -> Refusal | None:
    """What of this the holder does not hold. Teams and inboxes are of no account to a holder of the scope ALL."""
    if missing := sorted(set(permissions) - holder.permissions):
        return Refusal("not_held", "/permissions", ", ".join(missing))
    if _WIDTH[scope] > _WIDTH[holder.scope]:
        return Refusal("not_held", "/scope", scope.value)
    if holder.scope is ConversationScope.ALL:
        return None
    if foreign := sorted(set(team_ids) - holder.team_ids):
        return Refusal("not_held", "/team_ids", ", ".join(foreign))
    if holder.inbox_ids is not None:
        if inbox_ids is None:
            return Refusal("not_held", "/inbox_ids", "every inbox")
        if foreign := sorted(inbox_ids - holder.inbox_ids):
            return Refusal("not_held", "/inbox_ids", ", ".join(foreign))
    return None


def judge_role(holder: Authority, before: RoleState | None, after: RoleState) -> Refusal | None:
    """May the holder make the role (``before`` None) or edit it so?"""
    if before is not None:
        if is_administrator(before):
            return Refusal("role_not_editable")
        if before.predefined and before.name != after.name:
            return Refusal("predefined_role_keeps_name", "/name")
        if _outranks(before, holder):
            return Refusal("outranked")
    return lacks(holder, permissions=after.permissions, scope=after.scope)


def judge_role_removal(holder: Authority, role: RoleState, *, agents: int) -> Refusal | None:
    """May the holder remove the role, which this many agents have?"""
    if role.predefined:
        return Refusal("role_not_editable")
    if _outranks(role, holder):
        return Refusal("outranked")
    if agents:
        return Refusal("role_in_use", detail=str(agents))
    return None


def judge_agent(
    holder: Authority,
    before: tuple[AgentState, RoleState] | None,
    after: tuple[AgentState, RoleState],
    *,
    other_administrators: int,
) -> Refusal | None:
    """May the holder make the agent (``before`` None) or edit them so?

    Judged is what the agent gains: the role when it is a new one for them, teams and inboxes that they did not have.
    ``other_administrators`` counts the account's active administrators but this agent.
    """
    agent, role = after
    teams, inboxes = frozenset(agent.team_ids), _set(agent.inbox_ids)
    if before is not None:
        was, had = before
        if _outranks(had, holder):
            return Refusal("outranked")
        if is_administrator(had) and not is_administrator(role) and not other_administrators:
            return Refusal("last_administrator", "/role_id")
        teams -= frozenset(was.team_ids)
        inboxes = _gained(_set(was.inbox_ids), inboxes)
    if refusal := lacks(holder, permissions=role.permissions, scope=role.scope):
        return Refusal("not_held", "/role_id", refusal.detail)
    return lacks(holder, team_ids=teams, inbox_ids=inboxes)


def judge_agent_removal(
    holder: Authority, agent: tuple[AgentState, RoleState], *, other_administrators: int
) -> Refusal | None:
    """May the holder remove the agent?"""
    _, role = agent
    if _outranks(role, holder):
        return Refusal("outranked")
    if is_administrator(role) and not other_administrators:
        return Refusal("last_administrator")
    return None


def judge_reach(holder: Authority, role: RoleState) -> Refusal | None:
    """May the holder do anything about the access of agents with this role?"""
    return Refusal("outranked") if _outranks(role, holder) else None


def judge_members(
    holder: Authority, team_id: str | None, before: Iterable[str], after: Iterable[str]
) -> Refusal | None:
    """May the holder change the members of a team so? A team that is being made (None) reaches nothing yet."""
    if team_id is None or not set(after) - set(before):
        return None
    if lacks(holder, team_ids=[team_id]):
        return Refusal("not_held", "/member_ids", team_id)
    return None


def judge_key(holder: Authority, permissions: Iterable[Permission], scope: ConversationScope) -> Refusal | None:
    """May the holder issue an API key with these? Teams and inboxes it has from its agent, at every request anew."""
    return lacks(holder, permissions=permissions, scope=scope)


def trimmed_key(key: KeyState, role: RoleState) -> KeyState:
    """What is left of an API key when its agent has this role: a key never holds more than its agent."""
    scope = key.scope if _WIDTH[key.scope] <= _WIDTH[role.scope] else role.scope
    return key.model_copy(update={"permissions": key.permissions & role.permissions, "scope": scope})


def judge_inbox_credential(holder: Authority, permission: Permission, inbox_id: str) -> Refusal | None:
    """May the holder issue credentials for the inbox, such as take this permission to issue?"""
    if refusal := lacks(holder, permissions=[permission]):
        return refusal
    if lacks(holder, inbox_ids=frozenset({inbox_id})):
        return Refusal("not_held", "/inbox_id", inbox_id)
    return None


def _outranks(role: RoleState, holder: Authority) -> bool:
    return lacks(holder, permissions=role.permissions, scope=role.scope) is not None


def _set(ids: tuple[str, ...] | None) -> frozenset[str] | None:
    return None if ids is None else frozenset(ids)


def _gained(was: frozenset[str] | None, now: frozenset[str] | None) -> frozenset[str] | None:
    if was is None:
        return frozenset()
    return None if now is None else now - was

"""The access rule: which conversations a viewer sees, and what they may do to one.

One rule in two forms: `may_see` and `may` judge one conversation in memory, `visible` is the same rule as an SQL
expression for lists, counts, search and exports. A property test holds them equal.

The rule. A conversation is seen when it is of the viewer's account, the viewer holds `conversations.read`, and either
the scope covers it or the viewer takes part in it:

- `all` covers every conversation of the account, whatever the viewer's inboxes;
- `team` covers those of the viewer's inboxes that have no team or one of the viewer's teams;
- `unassigned_own` covers those that `team` covers and that have no assignee;
- `own` covers none by itself;
- taking part is being its assignee, a participant, or the owner of its contact;
- `none` sees nothing at all, not even by taking part.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, ColumnElement, Uuid, and_, any_, bindparam, false, or_
from sqlalchemy.types import TypeEngine

from relevo.contracts.permissions import ConversationScope, Permission
from relevo.contracts.snapshots import AccessFacts


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who asks: an agent, or a key or bot (`agent_id` None, which never takes part in anything).

    `inbox_ids` None means every inbox (administrators and keys). It limits the scopes `team` and `unassigned_own`.
    """

    account_id: str
    agent_id: str | None
    permissions: frozenset[Permission]
    scope: ConversationScope
    team_ids: frozenset[str] = frozenset()
    inbox_ids: frozenset[str] | None = frozenset()


@dataclass(frozen=True, slots=True)
class ConversationFacts:
    """What the rule needs to know of a conversation. `owner_id` is the owner of its contact, an agent or a team."""

    account_id: str
    inbox_id: str
    team_id: str | None = None
    assignee_id: str | None = None
    participant_ids: frozenset[str] = frozenset()
    owner_id: str | None = None

    @classmethod
    def of(cls, account_id: str, access: AccessFacts) -> "ConversationFacts":
        """The facts that an event carries of a conversation of this account."""
        return cls(
            account_id,
            access.inbox_id,
            access.team_id,
            access.assignee_id,
            frozenset(access.participant_ids),
            access.owner_id,
        )


@dataclass(frozen=True, slots=True)
class ConversationColumns:
    """The same facts as SQL columns, text or uuid; `participant_ids` is an array, best with a GIN index.

    `participant_ids` must not be NULL: an empty array says nobody.
    """

    account_id: ColumnElement[Any]
    inbox_id: ColumnElement[Any]
    team_id: ColumnElement[Any]
    assignee_id: ColumnElement[Any]
    participant_ids: ColumnElement[Any]
    owner_id: ColumnElement[Any]

    @classmethod
    def of(cls, columns: Mapping[str, Any]) -> "ConversationColumns":
        """From anything keyed by these names, such as `table.c`. Raises KeyError when one is missing."""
        return cls(
            columns["account_id"],
            columns["inbox_id"],
            columns["team_id"],
            columns["assignee_id"],
            columns["participant_ids"],
            columns["owner_id"],
        )


def may_see(viewer: Viewer, facts: ConversationFacts) -> bool:
    """Whether the conversation exists for the viewer."""
    return may(viewer, Permission.CONVERSATIONS_READ, facts)


def may(viewer: Viewer, permission: Permission, facts: ConversationFacts) -> bool:
    """Whether the viewer may do this to this conversation: it is seen, and the permission is held.

    Never true across accounts; never true for a conversation that is not seen.
    """
    return (
        permission in viewer.permissions
        and Permission.CONVERSATIONS_READ in viewer.permissions
        and viewer.account_id == facts.account_id
        and viewer.scope is not ConversationScope.NONE
        and (_takes_part(viewer, facts) or _covers(viewer, facts))
    )


def _takes_part(viewer: Viewer, facts: ConversationFacts) -> bool:
    me = viewer.agent_id
    return me is not None and (me in (facts.assignee_id, facts.owner_id) or me in facts.participant_ids)


def _covers(viewer: Viewer, facts: ConversationFacts) -> bool:
    match viewer.scope:
        case ConversationScope.ALL:
            return True
        case ConversationScope.TEAM:
            return _of_my_teams(viewer, facts)
        case ConversationScope.UNASSIGNED_OWN:
            return facts.assignee_id is None and _of_my_teams(viewer, facts)
        case ConversationScope.OWN | ConversationScope.NONE:
            return False


def _of_my_teams(viewer: Viewer, facts: ConversationFacts) -> bool:
    return (viewer.inbox_ids is None or facts.inbox_id in viewer.inbox_ids) and (
        facts.team_id is None or facts.team_id in viewer.team_ids
    )


def visible(viewer: Viewer, columns: ConversationColumns) -> ColumnElement[bool]:
    """`may_see` as a filter for WHERE or JOIN … ON (rows where it is NULL are not seen; do not negate it).

    Raises ValueError when a column is of type uuid and one of the viewer's ids is not a UUID.
    """
    if not _sees_anything(viewer):
        return false()
    mine = _equals(columns.account_id, viewer.account_id)
    if viewer.scope is ConversationScope.ALL:
        return mine
    covered = [_of_my_teams_sql(viewer, columns)] if _covers_some(viewer) else []
    return and_(mine, or_(false(), *_takes_part_sql(viewer, columns), *covered))


def _sees_anything(viewer: Viewer) -> bool:
    return Permission.CONVERSATIONS_READ in viewer.permissions and viewer.scope is not ConversationScope.NONE


def _covers_some(viewer: Viewer) -> bool:
    return viewer.scope in (ConversationScope.TEAM, ConversationScope.UNASSIGNED_OWN)


def _takes_part_sql(viewer: Viewer, columns: ConversationColumns) -> list[ColumnElement[bool]]:
    if viewer.agent_id is None:
        return []
    return [
        _equals(columns.assignee_id, viewer.agent_id),
        _equals(columns.owner_id, viewer.agent_id),
        _has(columns.participant_ids, viewer.agent_id),
    ]


def _of_my_teams_sql(viewer: Viewer, columns: ConversationColumns) -> ColumnElement[bool]:
    needs: list[ColumnElement[bool]] = []
    if viewer.inbox_ids is not None:
        needs.append(_one_of(columns.inbox_id, viewer.inbox_ids))
    no_team: ColumnElement[bool] = columns.team_id.is_(None)
    needs.append(or_(no_team, _one_of(columns.team_id, viewer.team_ids)) if viewer.team_ids else no_team)
    if viewer.scope is ConversationScope.UNASSIGNED_OWN:
        needs.append(columns.assignee_id.is_(None))
    return and_(*needs)


def _equals(column: ColumnElement[Any], value: str) -> ColumnElement[bool]:
    return column == bindparam(None, _as(column.type, value), type_=column.type)


def _one_of(column: ColumnElement[Any], values: frozenset[str]) -> ColumnElement[bool]:
    # One array parameter, so that the statement is the same whatever the number of teams.
    items = [_as(column.type, value) for value in sorted(values)]
    if not items:  # which a planner takes for a way like any other
        return false()
    if len(items) == 1:  # whose order an index keeps, as it does not for several
        return column == bindparam(None, items[0], type_=column.type)
    return column == any_(bindparam(None, items, type_=ARRAY(column.type)))


def _has(column: ColumnElement[Any], value: str) -> ColumnElement[bool]:
    # @> and not = ANY(column): only the containment operator can use a GIN index.
    element = column.type.item_type if isinstance(column.type, ARRAY) else column.type
    return column.op("@>", is_comparison=True)(bindparam(None, [_as(element, value)], type_=ARRAY(element)))


def _as(kind: TypeEngine[Any], value: str) -> str | UUID:
    return UUID(value) if isinstance(kind, Uuid) and kind.as_uuid else value

"""Conversations in lists and singly, over HTTP: composed of filters and the access rule, always newest activity first."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, func, literal, select, text

from relevo.chassis.database import Tx
from relevo.contracts.snapshots import ConversationStatus, Stage
from relevo.conversation.store.rows import Row, older, plain
from relevo.conversation.tables import contacts, conversations
from relevo.kernel.access import ConversationColumns, Viewer, visible

COUNT_LIMIT: Final = 1000
"""Counts are exact up to here."""

_c = conversations.c
_FACTS: Final = ConversationColumns.of(dict(_c.items()))
# Literals, not parameters: only so can the planner prove that a partial index serves.
_UNRESOLVED: Final = text("conversations.status <> 'resolved'")
_ARCHIVED: Final = text("conversations.archived")
_NOT_ARCHIVED: Final = text("not conversations.archived")

_SNAPSHOT: Final = (
    *(column for column in _c if column.name != "contact_id"),
    contacts.c.id.label("contact_id"),
    contacts.c.name,
    contacts.c.email,
    contacts.c.phone,
    contacts.c.language.label("contact_language"),
    contacts.c.labels.label("contact_labels"),
    contacts.c.blocked,
)

_LABELS = text(
    """
    select distinct label from conversations c, unnest(c.labels) as label
    where c.account_id = :account and c.labels <> '{}' order by label
    """
)


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list is narrowed to. ``archived`` None: whatever the stage asks for, without a stage the others."""

    status: tuple[ConversationStatus, ...] = ()
    stage: tuple[Stage, ...] = ()
    channel: tuple[str, ...] = ()
    inbox_id: str | None = None
    assignee_id: str | None = None
    unassigned: bool = False
    team_id: str | None = None
    label: str | None = None
    contact_id: str | None = None
    source_id: str | None = None
    archived: bool | None = None


def matching(viewer: Viewer, filters: Filters) -> list[ColumnElement[bool]]:
    """The conditions of a list: what the viewer may see, and what was asked for."""
    found: list[Any] = [visible(viewer, _FACTS), _c.account_id == viewer.account_id]
    if filters.archived or filters.stage == ("archived",):
        found.append(_ARCHIVED)
    elif "archived" not in filters.stage:
        found.append(_NOT_ARCHIVED)
    if filters.status:
        found.append(_c.status.in_(filters.status))
    if filters.stage:
        found.append(_c.stage.in_(filters.stage))
    if (filters.status and "resolved" not in filters.status) or (
        filters.stage and not {"closed", "archived"} & set(filters.stage)
    ):
        found.append(_UNRESOLVED)
    if filters.channel:
        found.append(_c.channel.in_(filters.channel))
    if filters.inbox_id:
        found.append(_c.inbox_id == filters.inbox_id)
    if filters.assignee_id:
        found.append(_c.assignee_id == filters.assignee_id)
    if filters.unassigned:
        found.append(_c.assignee_id.is_(None))
    if filters.team_id:
        found.append(_c.team_id == filters.team_id)
    if filters.label:
        found.append(_c.labels.contains([filters.label]))
    if filters.source_id is not None:
        found.append(_c.source_id == filters.source_id)
    if filters.contact_id:
        found.append(_c.contact_id == filters.contact_id)
    return found


def page_of_conversations(
    viewer: Viewer, filters: Filters, limit: int, after: tuple[datetime, str] | None = None
) -> Select[Any]:
    """The statement of one page, newest activity first, one row more than asked."""
    conditions = matching(viewer, filters)
    if after:
        conditions.append(older(_c.last_activity_at, _c.id, after))
    return (
        select(*_SNAPSHOT)
        .join_from(conversations, contacts, contacts.c.id == _c.contact_id)
        .where(*conditions)
        .order_by(_c.last_activity_at.desc(), _c.id.desc())
        .limit(limit + 1)
    )


async def conversations_page(
    tx: Tx, viewer: Viewer, filters: Filters, limit: int, after: tuple[datetime, str] | None
) -> Sequence[Row]:
    """One page of conversations that the viewer may see."""
    return list(plain(await tx.execute(page_of_conversations(viewer, filters, limit, after))))


async def conversation(tx: Tx, viewer: Viewer, conversation_id: str) -> Row | None:
    """One conversation, None when it is not there for the viewer."""
    statement = (
        select(*_SNAPSHOT)
        .join_from(conversations, contacts, contacts.c.id == _c.contact_id)
        .where(
            visible(viewer, _FACTS),
            _c.account_id == viewer.account_id,
            _c.id == conversation_id,
        )
    )
    return next(plain(await tx.execute(statement)), None)


async def counts(tx: Tx, viewer: Viewer) -> dict[str, int]:
    """How many unresolved conversations: all, unassigned, mine; at most COUNT_LIMIT + 1 each."""
    unresolved: tuple[ConversationStatus, ...] = ("open", "pending", "snoozed")
    views = {"open": Filters(status=unresolved), "unassigned": Filters(status=unresolved, unassigned=True)}
    if viewer.agent_id:
        views["mine"] = Filters(status=unresolved, assignee_id=viewer.agent_id)
    columns = [
        select(func.count())
        .select_from(
            select(literal(1)).select_from(conversations).where(*matching(viewer, f)).limit(COUNT_LIMIT + 1).subquery()
        )
        .scalar_subquery()
        .label(name)
        for name, f in views.items()
    ]
    return dict((await tx.execute(select(*columns))).mappings().one())


async def labels(tx: Tx, account_id: str) -> list[str]:
    """The labels that conversations of the account have."""
    return list((await tx.execute(_LABELS, {"account": account_id})).scalars())

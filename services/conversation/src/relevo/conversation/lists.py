"""Lists and single reads over HTTP: composed of filters and the access rule, always newest activity first."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, func, literal, select, text, tuple_

from relevo.chassis.database import Tx
from relevo.contracts.snapshots import ConversationStatus, Stage
from relevo.conversation import store
from relevo.conversation.tables import contacts, conversations, messages
from relevo.kernel.access import ConversationColumns, Viewer, visible

Row = Mapping[str, Any]
"""One row, by column name."""

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
_CONTACT: Final = (
    contacts.c.id.label("contact_id"),
    contacts.c.name,
    contacts.c.email,
    contacts.c.phone,
    contacts.c.language.label("contact_language"),
    contacts.c.labels.label("contact_labels"),
    contacts.c.blocked,
    contacts.c.sequence,
    contacts.c.created_at,
)

_LABELS = text(
    """
    select distinct label from conversations c, unnest(c.labels) as label
    where c.account_id = :account and c.labels <> '{}' order by label
    """
)
_CHANNELS = text(
    """
    select cast(inbox_id as text) as inbox_id, source_id from contact_channels
    where account_id = :account and contact_id = :contact order by created_at, inbox_id, source_id
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
        conditions.append(_older(_c.last_activity_at, _c.id, after))
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
    return list(store.plain(await tx.execute(page_of_conversations(viewer, filters, limit, after))))


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
    return next(store.plain(await tx.execute(statement)), None)


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


async def messages_page(
    tx: Tx, account_id: str, conversation_id: str, limit: int, after: int | None, *, newest_first: bool
) -> Sequence[Row]:
    """One page of a conversation's messages by sequence; whether it may be seen was asked before."""
    m = messages.c
    conditions = [m.account_id == account_id, m.conversation_id == conversation_id]
    if after is not None:
        conditions.append(m.sequence < after if newest_first else m.sequence > after)
    statement = (
        select(messages).where(*conditions).order_by(m.sequence.desc() if newest_first else m.sequence).limit(limit + 1)
    )
    return list(store.plain(await tx.execute(statement)))


async def contacts_page(
    tx: Tx, account_id: str, limit: int, after: tuple[datetime, str] | None, *, email: str | None, phone: str | None
) -> Sequence[Row]:
    """One page of contacts, the newest first."""
    c = contacts.c
    conditions: list[ColumnElement[bool]] = [c.account_id == account_id]
    if email:
        conditions.append(c.email == email)
    if phone:
        conditions.append(c.phone == phone)
    if after:
        conditions.append(_older(c.created_at, c.id, after))
    statement = select(*_CONTACT).where(*conditions).order_by(c.created_at.desc(), c.id.desc()).limit(limit + 1)
    return list(store.plain(await tx.execute(statement)))


async def contact(tx: Tx, account_id: str, contact_id: str, *, lock: bool = False) -> Row | None:
    """One contact of the account."""
    statement = select(*_CONTACT).where(contacts.c.account_id == account_id, contacts.c.id == contact_id)
    if lock:
        statement = statement.with_for_update(key_share=True)
    return next(store.plain(await tx.execute(statement)), None)


async def contact_channels(tx: Tx, account_id: str, contact_id: str) -> Sequence[Row]:
    """From where a contact writes."""
    return list(store.plain(await tx.execute(_CHANNELS, {"account": account_id, "contact": contact_id})))


async def labels(tx: Tx, account_id: str) -> list[str]:
    """The labels that conversations of the account have."""
    return list((await tx.execute(_LABELS, {"account": account_id})).scalars())


def _older(
    moment: ColumnElement[datetime], id_: ColumnElement[str], after: tuple[datetime, str]
) -> ColumnElement[bool]:
    return tuple_(moment, id_) < tuple_(literal(after[0], moment.type), literal(after[1], id_.type))

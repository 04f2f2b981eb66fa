"""Conversations in lists and singly, over HTTP: composed of filters, an order and the access rule."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    DateTime,
    Select,
    Uuid,
    cast,
    func,
    literal,
    null,
    select,
    text,
    tuple_,
)

from relevo.chassis.database import Tx
from relevo.conversation.filters import RANK, Filters, conditions
from relevo.conversation.store.rows import Row, plain
from relevo.conversation.tables import contacts, conversations
from relevo.kernel.access import ConversationColumns, Viewer, visible

COUNT_LIMIT: Final = 1000
"""Counts of what is not counted beforehand are exact up to here."""

Sort = Literal["activity", "created", "waiting", "priority"]

_c = conversations.c
FACTS: Final = ConversationColumns.of(dict(_c.items()))

SNAPSHOT: Final = (
    *(column for column in _c if column.name not in ("contact_id", "active_minute", "mentioned", "imported_through")),
    (_c.imported_through > 0).label("historic"),
    contacts.c.id.label("contact_id"),
    contacts.c.name,
    contacts.c.email,
    contacts.c.phone,
    contacts.c.language.label("contact_language"),
    contacts.c.labels.label("contact_labels"),
    contacts.c.blocked,
    contacts.c.owner_id.label("contact_owner_id"),
    contacts.c.owner_team_id.label("contact_owner_team_id"),
    contacts.c.company.label("contact_company"),
    contacts.c.city.label("contact_city"),
    contacts.c.country.label("contact_country"),
    contacts.c.attributes.label("contact_attributes"),
)

# A filter may leave ten rows or half of all: the plan must know which.
PLAN_FOR_THESE_VALUES = text("select set_config('plan_cache_mode', 'force_custom_plan', true)")


@dataclass(frozen=True, slots=True)
class Part:
    """A stretch of an order that one index has: which conversations, and by what; all rising or all falling."""

    keys: tuple[ColumnElement[Any], ...]
    falling: bool = True
    only: ColumnElement[bool] | None = None


BY_ACTIVITY: Final = (_c.active_minute, _c.last_activity_at, _c.id)
"""An index finds the minute; within it the moment says."""
ORDERS: Final[Mapping[Sort, tuple[Part, ...]]] = {
    "activity": (Part(BY_ACTIVITY),),
    # Numbers are given in the order of creation.
    "created": (Part((_c.number,)),),
    # Who waits longest; then those who do not wait.
    "waiting": (
        Part((_c.waiting_since, _c.id), falling=False, only=_c.waiting_since.is_not(None)),
        Part(BY_ACTIVITY, only=_c.waiting_since.is_(None)),
    ),
    "priority": (
        Part((RANK, *BY_ACTIVITY), only=_c.priority.is_not(None)),
        Part(BY_ACTIVITY, only=_c.priority.is_(None)),
    ),
}
"""Each order in parts, one after the other."""

Place = tuple[int, Sequence[Any]]
"""Where a page ends: the number of the part, and its keys there."""


def page_of_conversations(
    viewer: Viewer, filters: Filters, limit: int, part: Part = ORDERS["activity"][0], after: Sequence[Any] | None = None
) -> Select[Any]:
    """The statement of one page within a part, at most ``limit`` rows."""
    wanted = [_seen(viewer, filters), *conditions(viewer.account_id, filters)]
    if part.only is not None:
        wanted.append(part.only)
    if after is not None:
        place = tuple_(*(literal(value, key.type) for key, value in zip(part.keys, after, strict=True)))
        keys = tuple_(*part.keys)
        wanted.append(keys < place if part.falling else keys > place)
    return (
        select(*SNAPSHOT, *(key.label(f"key_{n}") for n, key in enumerate(part.keys)))
        .join_from(conversations, contacts, contacts.c.id == _c.contact_id)
        .where(*wanted)
        .order_by(*(key.desc() if part.falling else key.asc() for key in part.keys))
        .limit(limit)
    )


def _seen(viewer: Viewer, filters: Filters) -> ColumnElement[bool]:
    """What the viewer sees of what the filters leave.

    One condition, though it is an *or* that no index has in order: an index that has the filter in order, or the whole
    account, is read until enough of it is seen, or the indexes of the *or* are put together, whichever is less.
    """
    if len(filters.inbox_ids) > 1:
        asked = frozenset(filters.inbox_ids)
        viewer = replace(viewer, inbox_ids=asked if viewer.inbox_ids is None else viewer.inbox_ids & asked)
    return visible(viewer, _left_by(filters))


def _left_by(filters: Filters) -> ConversationColumns:
    """The facts of what the filters leave: those that they say are constants, of which the planner has not to guess.

    Without it, a way of the *or* that nothing left has (whose are nobody's, and mine) is guessed to have as much as ever.
    """
    known: dict[str, ColumnElement[Any]] = {}
    if len(filters.inbox_ids) == 1:
        known["inbox_id"] = literal(filters.inbox_ids[0], _c.inbox_id.type)
    if filters.assignee_id:
        known["assignee_id"] = literal(filters.assignee_id, _c.assignee_id.type)
    elif filters.unassigned:
        known["assignee_id"] = cast(null(), _c.assignee_id.type)
    if filters.team_id:
        known["team_id"] = literal(filters.team_id, _c.team_id.type)
    elif filters.no_team:
        known["team_id"] = cast(null(), _c.team_id.type)
    return replace(FACTS, **known)


async def conversations_page(
    tx: Tx, viewer: Viewer, filters: Filters, limit: int, *, after: Place | None = None, sort: Sort = "activity"
) -> list[tuple[Row, Place]]:
    """One page of conversations that the viewer may see and one more, each with its place."""
    await tx.execute(PLAN_FOR_THESE_VALUES)
    found: list[tuple[Row, Place]] = []
    first, keys = after or (0, None)
    for number, part in enumerate(ORDERS[sort]):
        if number < first or len(found) > limit:
            continue
        statement = page_of_conversations(
            viewer, filters, limit + 1 - len(found), part, keys if number == first else None
        )
        for row in plain(await tx.execute(statement)):
            place = [row.pop(f"key_{n}") for n in range(len(part.keys))]
            found.append((row, (number, place)))
    return found


async def conversation(tx: Tx, viewer: Viewer, conversation_id: str) -> Row | None:
    """One conversation, None when it is not there for the viewer."""
    statement = (
        select(*SNAPSHOT)
        .join_from(conversations, contacts, contacts.c.id == _c.contact_id)
        .where(
            visible(viewer, FACTS),
            _c.account_id == viewer.account_id,
            _c.id == conversation_id,
        )
    )
    return next(plain(await tx.execute(statement)), None)


async def count(tx: Tx, viewer: Viewer, filters: Filters) -> int:
    """How many conversations of these filters the viewer sees; at most COUNT_LIMIT + 1."""
    await tx.execute(PLAN_FOR_THESE_VALUES)
    wanted = _seen(viewer, filters), *conditions(viewer.account_id, filters)
    some = select(literal(1)).select_from(conversations).where(*wanted).limit(COUNT_LIMIT + 1).subquery()
    return int((await tx.execute(select(func.count()).select_from(some))).scalar_one())


def read_place(sort: Sort, part: int, keys: Sequence[Any]) -> Place:
    """A place whose keys are as in JSON. Raises ValueError, LookupError or TypeError when it is none of this order."""
    columns = ORDERS[sort][part].keys
    return part, [_read(column, value) for column, value in zip(columns, keys, strict=True)]


def _read(column: ColumnElement[Any], value: Any) -> Any:
    if isinstance(column.type, DateTime):
        return datetime.fromisoformat(value)
    return str(UUID(value)) if isinstance(column.type, Uuid) else int(value)

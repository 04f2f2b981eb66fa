"""What a list of conversations is narrowed to: the conditions that were asked for, whoever asks."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from sqlalchemy import BigInteger, ColumnElement, any_, case, func, literal, select, text
from sqlalchemy.dialects.postgresql import ARRAY

from relevo.contracts.snapshots import ConversationStatus, Priority, Stage
from relevo.conversation.tables import conversations

Standing = Literal["all", "mine", "unassigned", "mentions", "participating", "unattended"]
"""The views that everybody has."""

UNRESOLVED_STATUSES: Final[tuple[ConversationStatus, ...]] = ("open", "pending", "snoozed")

_FEW_DAYS: Final = timedelta(days=7)
_MINUTE: Final = timedelta(minutes=1)

_c = conversations.c
# Literals, not parameters: only so can the planner prove that a partial index serves.
UNRESOLVED: Final = text("conversations.status <> 'resolved'")
_ARCHIVED: Final = text("conversations.archived")
_NOT_ARCHIVED: Final = text("not conversations.archived")
_SOMEBODY_MENTIONED: Final = text("conversations.mentioned <> '{}'")
UNATTENDED: Final = text(
    "conversations.status in ('open', 'pending')"
    " and (conversations.first_reply_at is null or conversations.waiting_since is not null)"
)
"""No human has answered since it was opened, or the customer waits again."""

_RANKS: Final[dict[Priority, int]] = {"urgent": 4, "high": 3, "medium": 2, "low": 1}
RANK: Final = case(
    *((_c.priority == text(f"'{priority}'"), text(str(rank))) for priority, rank in _RANKS.items() if rank > 1),
    else_=text("1"),
).cast(BigInteger)
"""Of what has a priority; an index has it before the activity, so that one priority is in order, too."""


@dataclass(frozen=True, slots=True)
class Filters:
    """What a list is narrowed to; all of it together.

    ``archived`` None: whatever the stage asks for, without a stage the others. ``labels``: all of them.
    ``mentioned``: actors (`agent:ID`, `team:ID`) of whom a note mentions at least one. ``created`` and ``active``: from
    a moment on, and before one. ``among``: only these conversations.
    """

    status: tuple[ConversationStatus, ...] = ()
    stage: tuple[Stage, ...] = ()
    channel: tuple[str, ...] = ()
    inbox_ids: tuple[str, ...] = ()
    assignee_id: str | None = None
    unassigned: bool = False
    team_id: str | None = None
    no_team: bool = False
    labels: tuple[str, ...] = ()
    priority: tuple[Priority, ...] = ()
    contact_id: str | None = None
    source_id: str | None = None
    participant_id: str | None = None
    mentioned: tuple[str, ...] = ()
    unattended: bool = False
    archived: bool | None = None
    with_archived: bool = False
    created: tuple[datetime | None, datetime | None] = (None, None)
    active: tuple[datetime | None, datetime | None] = (None, None)
    among: tuple[str, ...] | None = None


def within_channels(asked: Filters, channels: Mapping[str, str]) -> Filters:
    """The same by inbox, of which there are indexes in order. ``channels``: of each inbox that is known.

    A conversation has the channel of its inbox.
    """
    if not asked.channel:
        return asked
    if asked.inbox_ids:
        fitting = tuple(inbox for inbox in asked.inbox_ids if channels.get(inbox, asked.channel[0]) in asked.channel)
        return replace(asked, inbox_ids=fitting) if fitting else replace(asked, among=())
    inboxes = tuple(inbox for inbox, channel in channels.items() if channel in asked.channel)
    # Said twice, the planner would take it for twice as rare.
    return replace(asked, inbox_ids=inboxes, channel=()) if inboxes else asked


def conditions(account_id: str, asked: Filters) -> list[ColumnElement[bool]]:
    """The conditions on `conversations`, of one account."""
    found: list[Any] = [_c.account_id == account_id]
    if asked.archived or asked.stage == ("archived",):
        found.append(_ARCHIVED)
    elif "archived" not in asked.stage and not asked.with_archived:
        found.append(_NOT_ARCHIVED)
    # Said twice, the planner would take it for twice as rare.
    if asked.status and set(asked.status) != set(UNRESOLVED_STATUSES):
        found.append(_c.status.in_(asked.status))
    if asked.stage and asked.stage != ("archived",):
        found.append(_c.stage.in_(asked.stage))
    if _only_unresolved(asked):
        found.append(UNRESOLVED)
    if asked.channel:
        found.append(_c.channel.in_(asked.channel))
    if asked.inbox_ids:
        one = len(asked.inbox_ids) == 1
        found.append(_c.inbox_id == asked.inbox_ids[0] if one else _c.inbox_id.in_(asked.inbox_ids))
    if asked.assignee_id:
        found.append(_c.assignee_id == asked.assignee_id)
    if asked.unassigned:
        found.append(_c.assignee_id.is_(None))
    if asked.team_id:
        found.append(_c.team_id == asked.team_id)
    if asked.no_team:
        found.append(_c.team_id.is_(None))
    if asked.labels:
        found.append(_c.labels.contains(list(asked.labels)))
    if asked.priority:
        found.append(_c.priority.in_(asked.priority))
        found.append(RANK.in_([_RANKS[priority] for priority in asked.priority]))
    if asked.source_id is not None:
        found.append(_c.source_id == asked.source_id)
    if asked.contact_id:
        found.append(_c.contact_id == asked.contact_id)
    if asked.participant_id:
        found.append(_c.participant_ids.contains([asked.participant_id]))
    if asked.mentioned:
        found += [_c.mentioned.overlap(list(asked.mentioned)), _SOMEBODY_MENTIONED]
    if asked.unattended:
        found.append(UNATTENDED)
    if days := _few_days(asked):
        found.append(_c.id == any_(func.array(_created(account_id, *days))))
    for column, (start, end) in ((_c.created_at, asked.created), (_c.last_activity_at, asked.active)):
        if start is not None:
            found.append(column >= start)
        if end is not None:
            found.append(column < end)
    start, end = asked.active
    if start is not None:
        found.append(_c.active_minute > start - _MINUTE)
    if end is not None:
        found.append(_c.active_minute < end)
    if asked.among is not None:
        found.append(_c.id == any_(literal(list(asked.among), ARRAY(_c.id.type))))
    return found


def _few_days(asked: Filters) -> tuple[datetime, datetime] | None:
    start, end = asked.created
    return (start, end) if start and end and end - start <= _FEW_DAYS else None


def _only_unresolved(asked: Filters) -> bool:
    return bool(
        (asked.status and "resolved" not in asked.status)
        or (asked.stage and not {"closed", "archived"} & set(asked.stage))
        or asked.unattended
    )


def _created(account_id: str, start: datetime, end: datetime) -> Any:
    """The ids of what began then, found first: in the order of activity they all come together, and late."""
    c = conversations.alias("begun").c
    return select(c.id).where(c.account_id == account_id, c.created_at >= start, c.created_at < end).scalar_subquery()

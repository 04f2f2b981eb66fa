"""HTTP: my notifications."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Query
from pydantic import BaseModel, BeforeValidator, Field

from relevo.chassis import paging, timers
from relevo.chassis.database import Tx
from relevo.chassis.http import Db
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.chassis.problems import FieldError, Problem
from relevo.contracts.base import Time, now
from relevo.notification.api.me import Me
from relevo.notification.housekeeping import WAKE
from relevo.notification.store import lists
from relevo.notification.store.lists import Seen, State
from relevo.notification.telling import emit_created, emit_read

router = APIRouter()

_LONGEST_SNOOZE: Final = timedelta(days=90)
_Id = Annotated[str, BeforeValidator(str)]


class NotificationOut(BaseModel):
    """One notification, in the language that its reader had when it came."""

    id: _Id
    kind: str
    conversation_id: Annotated[str | None, BeforeValidator(lambda value: str(value) if value is not None else None)]
    title: str
    body: str
    created_at: Time
    read_at: Time | None
    snoozed_until: Time | None = Field(default=None, description="Put away until then; afterwards it is unread.")
    folds: int = Field(
        default=1, description="How many unread ones of its conversation it stands for, itself included."
    )


class UnreadOut(BaseModel):
    """How many are not read."""

    unread: int


class Snooze(BaseModel):
    """Until when."""

    until: Time


@router.get("/notifications")
async def list_notifications(
    me: Me,
    db: Db,
    limit: Limit = 50,
    cursor: Cursor = None,
    state: Annotated[State, Query(description="all: but for snoozed ones.")] = "all",
) -> Page[NotificationOut]:
    """My notifications: unread ones first, the newest first among each.

    A newer one of a conversation folds the older ones that are unread. Of what customers write into one it is told once
    until it is read: what they write meanwhile is shown in its place, and counted in `folds`. What is about conversations that I may not see any
    more is left out.
    """
    after: tuple[bool, str] | None = None
    if cursor:
        was_read, id_ = paging.decode(cursor, bool, str)
        after = (was_read, _uuid(id_))
    async with db.begin() as tx:
        rows = await lists.listed(tx, me.viewer, state, after, limit + 1, now())
    return paging.page(rows, limit, lambda row: (row["read_at"] is not None, str(row["id"])), _out)


@router.get("/notifications/unread")
async def count_unread_notifications(me: Me, db: Db) -> UnreadOut:
    """How many I have not read; snoozed ones do not count."""
    async with db.begin() as tx:
        return UnreadOut(unread=await lists.unread(tx, me.viewer, now()))


@router.post("/notifications/read-all")
async def read_all_notifications(me: Me, db: Db) -> UnreadOut:
    """Mark all of mine as read, those apart that are snoozed."""
    async with db.begin() as tx:
        moment = now()
        if await lists.read_all(tx, me.account_id, me.id, moment):
            emit_read(tx, me.account_id, me.id, (), moment)
        return UnreadOut(unread=await lists.unread(tx, me.viewer, now()))


@router.post("/notifications/conversations/{conversation_id}/read")
async def read_notifications_of_conversation(conversation_id: UUID, me: Me, db: Db) -> UnreadOut:
    """I opened a conversation: what I was told of it is read."""
    async with db.begin() as tx:
        seen = Seen(me.account_id, me.id, str(conversation_id), now())
        if read := await lists.see(tx, [seen]):
            ids = [row.id for row in read]
            emit_read(tx, me.account_id, me.id, ids, seen.at, conversation_id=seen.conversation_id)
        return UnreadOut(unread=await lists.unread(tx, me.viewer, now()))


@router.post("/notifications/{notification_id}/read")
async def read_notification(notification_id: UUID, me: Me, db: Db) -> NotificationOut:
    """Mark one of mine as read; doing it again changes nothing."""
    async with db.begin() as tx:
        moment = now()
        await _shown(tx, me, notification_id)
        row = _found(await lists.read(tx, me.account_id, me.id, str(notification_id), moment))
        emit_read(tx, me.account_id, me.id, [row.id], moment, conversation_id=row.conversation_id)
    return row


@router.post("/notifications/{notification_id}/unread")
async def unread_notification(notification_id: UUID, me: Me, db: Db) -> NotificationOut:
    """Mark one of mine as not read."""
    async with db.begin() as tx:
        await _shown(tx, me, notification_id)
        found = await lists.not_read(tx, me.account_id, me.id, str(notification_id))
        row = _found(found)
        emit_created(tx, SimpleNamespace(**found, account_id=me.account_id, agent_id=me.id))
    return row


@router.post("/notifications/{notification_id}/snooze")
async def snooze_notification(notification_id: UUID, body: Snooze, me: Me, db: Db) -> NotificationOut:
    """Put one of mine away until a moment; then it is unread again, and I am told again."""
    moment = now()
    if not moment < body.until <= moment + _LONGEST_SNOOZE:
        raise Problem(
            422,
            "invalid_snooze",
            es="La fecha tiene que estar en el futuro y no más allá de 90 días.",
            en="The moment must lie in the future, within 90 days.",
            errors=[FieldError("/until", "elige un momento en los próximos 90 días", "choose one within 90 days")],
        )
    async with db.begin() as tx:
        await _shown(tx, me, notification_id)
        row = _found(await lists.snooze(tx, me.account_id, me.id, str(notification_id), body.until))
        emit_read(tx, me.account_id, me.id, [row.id], moment, conversation_id=row.conversation_id)
        await timers.schedule(tx, WAKE, row.id, body.until, account_id=me.account_id)
    return row


async def _shown(tx: Tx, me: Me, notification_id: UUID) -> None:
    # Its text is of the conversation: it is not shown, nor told again, to who may not see that any more.
    if not await lists.is_shown(tx, me.viewer, str(notification_id)):
        raise _not_found()


def _found(row: Any) -> NotificationOut:
    if row is None:
        raise _not_found()
    return _out(row)


def _not_found() -> Problem:
    return Problem(404, "notification_not_found", es="No existe esa notificación.", en="There is no such notification.")


def _out(row: Any) -> NotificationOut:
    return NotificationOut(**row)


def _uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise Problem(
            422, "invalid_cursor", es="El cursor no es válido.", en="The cursor is not one of ours."
        ) from None

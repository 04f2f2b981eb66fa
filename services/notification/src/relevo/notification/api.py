"""HTTP: my notifications, and how I want to hear of what."""

from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from relevo.chassis import paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.http import Db
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.chassis.problems import Problem
from relevo.contracts.base import Time, now
from relevo.notification import store
from relevo.notification.domain.deciding import KINDS, Choice

router = APIRouter(tags=["notifications"])


async def _agent(who: Annotated[Principal, Depends(require())]) -> Principal:
    if who.kind != "agent":
        raise Problem(
            403,
            "not_an_agent",
            es="Solo una persona tiene notificaciones: una clave de API no.",
            en="Only a person has notifications: an API key has none.",
        )
    return who


Me = Annotated[Principal, Depends(_agent)]


class NotificationOut(BaseModel):
    """One notification, in the language that its reader had when it came."""

    id: str
    kind: str
    conversation_id: str | None
    title: str
    body: str
    created_at: Time
    read_at: Time | None


class UnreadOut(BaseModel):
    """How many are not read."""

    unread: int


class Preference(BaseModel):
    """How one kind of news is told."""

    kind: Literal["assignment", "mention"]
    in_app: bool = Field(description="In the list and over the socket.")
    email: bool


class Preferences(BaseModel):
    """How news are told, by kind; a kind that is left out of a PUT stays as it is."""

    items: Annotated[list[Preference], Field(max_length=len(KINDS))]


@router.get("/notifications")
async def list_notifications(me: Me, db: Db, limit: Limit = 50, cursor: Cursor = None) -> Page[NotificationOut]:
    """My notifications: unread ones first, the newest first among each."""
    after: tuple[bool, str] | None = None
    if cursor:
        was_read, id_ = paging.decode(cursor, bool, str)
        after = (was_read, _uuid(id_))
    async with db.begin() as tx:
        rows = await store.listed(tx, me.account_id, me.id, after, limit + 1)
    return paging.page(rows, limit, lambda row: (row["read_at"] is not None, row["id"]), _out)


@router.get("/notifications/unread")
async def count_unread_notifications(me: Me, db: Db) -> UnreadOut:
    """How many I have not read."""
    async with db.begin() as tx:
        return UnreadOut(unread=await store.unread(tx, me.account_id, me.id))


@router.get("/notifications/preferences")
async def get_notification_preferences(me: Me, db: Db) -> Preferences:
    """How I hear of what."""
    async with db.begin() as tx:
        return await _preferences(me, tx)


@router.put("/notifications/preferences")
async def put_notification_preferences(body: Preferences, me: Me, db: Db) -> Preferences:
    """Choose how I hear of what."""
    async with db.begin() as tx:
        chosen: dict[str, Choice] = {one.kind: Choice(one.in_app, one.email) for one in body.items}
        await store.save_choices(tx, me.account_id, me.id, chosen)
        return await _preferences(me, tx)


@router.post("/notifications/read-all")
async def read_all_notifications(me: Me, db: Db) -> UnreadOut:
    """Mark all of mine as read."""
    async with db.begin() as tx:
        await store.read_all(tx, me.account_id, me.id, now())
        return UnreadOut(unread=await store.unread(tx, me.account_id, me.id))


@router.post("/notifications/{notification_id}/read")
async def read_notification(notification_id: UUID, me: Me, db: Db) -> NotificationOut:
    """Mark one of mine as read; doing it again changes nothing."""
    async with db.begin() as tx:
        row = await store.read(tx, me.account_id, me.id, str(notification_id), now())
    if row is None:
        raise Problem(
            404, "notification_not_found", es="No existe esa notificación.", en="There is no such notification."
        )
    return _out(row)


async def _preferences(me: Principal, tx: Any) -> Preferences:
    chosen = await store.choices(tx, [me.id])
    items = []
    for kind in KINDS:
        choice = chosen.get((me.id, kind), Choice())
        items.append(Preference(kind=kind, in_app=choice.in_app, email=choice.email))
    return Preferences(items=items)


def _out(row: Any) -> NotificationOut:
    return NotificationOut(**row)


def _uuid(text: str) -> str:
    try:
        return str(UUID(text))
    except ValueError:
        raise Problem(
            422, "invalid_cursor", es="El cursor no es válido.", en="The cursor is not one of ours."
        ) from None

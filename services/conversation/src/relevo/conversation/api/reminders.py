"""Reminders to follow up on a conversation: set, listed, cancelled."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import AwareDatetime, BaseModel, Field

from relevo.chassis import paging, timers
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Tx
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.chassis.problems import FieldError, Problem
from relevo.contracts.base import Time, new_id, now
from relevo.contracts.permissions import Permission
from relevo.contracts.snapshots import ReminderSnapshot, ReminderTo, Unless
from relevo.conversation import lists, mentions, reminders
from relevo.conversation.api.common import Body, Reader, Remark, after, agent_of, locked, no_conversation, problem_of
from relevo.conversation.changes import Changes
from relevo.conversation.domain import reminders as domain
from relevo.conversation.domain.state import Conversation, Refused
from relevo.conversation.store import reminders as store
from relevo.conversation.store.rows import Row

router = APIRouter(tags=["conversations"])

Noter = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_NOTE, Permission.CONVERSATIONS_UPDATE))]


class NewReminder(Body):
    """When, unless what, and to whom: one of `hours`, `days` and `due_at`."""

    hours: int | None = Field(default=None, ge=1, le=8760)
    days: int | None = Field(default=None, ge=1, le=365, description="At the same time of day in the account's zone.")
    due_at: AwareDatetime | None = Field(default=None, description="A moment within a year from now.")
    business_hours: bool = Field(
        default=False,
        description="Hours of the calendar that counts there; a day that ends outside of them is moved to the next opening.",
    )
    unless: Unless = Field(default="nothing", description="What makes it moot, besides resolving the conversation.")
    to: Literal["me", "agent", "assignee", "team"] = Field(
        default="me", description="`assignee` and `team`: whoever it is when it is due."
    )
    agent_id: UUID | None = Field(default=None, description="With `agent`: whom.")
    text: Remark = ""


class Reminder(BaseModel):
    """A reminder that waits."""

    id: str
    conversation_id: str
    text: str
    unless: Unless
    to: ReminderTo
    agent_id: str | None
    set_by: str
    set_at: Time
    due_at: Time


@router.post("/conversations/{conversation_id}/reminders", status_code=201)
async def set_reminder(*, who: Noter, db: Db, once: Idempotency, conversation_id: UUID, body: NewReminder) -> Reminder:
    """Be reminded, or have the assignee, the team or a colleague be, unless somebody answers first."""
    async with db.begin() as tx:
        await once.start(tx)
        conversation = await locked(tx, who, conversation_id)
        moment = now()
        reminder = ReminderSnapshot(
            id=new_id(),
            text=body.text,
            unless=body.unless,
            to="agent" if body.to == "me" else body.to,
            agent_id=await _whom(tx, who, body),
            set_by=who.actor,
            set_at=moment,
            due_at=await _when(tx, conversation, body, moment),
        )
        pending = len(await store.waiting(tx, who.account_id, str(conversation_id)))
        changes = Changes({(who.account_id, str(conversation_id)): conversation})
        try:
            await reminders.set_(tx, changes, conversation, reminder, pending, moment)
        except Refused as refused:
            raise problem_of(refused) from None
        await changes.save(tx)
        return await once.finish(tx, _of(str(conversation_id), reminder))


@router.get("/conversations/{conversation_id}/reminders")
async def list_conversation_reminders(
    who: Reader, db: Db, conversation_id: UUID, limit: Limit = 50, cursor: Cursor = None
) -> Page[Reminder]:
    """What waits in a conversation, the next first; what an answer has made moot is left out."""
    async with db.begin() as tx:
        if await lists.conversation(tx, who.viewer, str(conversation_id)) is None:
            raise no_conversation()
        statement = store.page_of(who.viewer, limit, after(cursor), conversation_id=str(conversation_id))
        return _page(await store.page(tx, statement), limit)


@router.get("/reminders")
async def list_reminders(who: Reader, db: Db, limit: Limit = 50, cursor: Cursor = None) -> Page[Reminder]:
    """What one set, and what would remind one as things are now, the next first."""
    agent_of(who)
    async with db.begin() as tx:
        return _page(await store.page(tx, store.page_of(who.viewer, limit, after(cursor))), limit)


@router.delete("/conversations/{conversation_id}/reminders/{reminder_id}", status_code=204)
async def cancel_reminder(who: Noter, db: Db, conversation_id: UUID, reminder_id: UUID) -> Response:
    """Put a reminder away, also another's. 404 when it waits no more."""
    async with db.begin() as tx:
        conversation = await locked(tx, who, conversation_id)
        found = (await store.find(tx, [(who.account_id, str(reminder_id))])).get(str(reminder_id))
        if found is None or found.conversation_id != str(conversation_id):
            raise Problem(
                404,
                "reminder_not_found",
                es="Ese recordatorio ya no espera: ha avisado, ya no hace falta o se ha quitado.",
                en="That reminder waits no more: it was due, became moot or was put away.",
            )
        changes = Changes({(who.account_id, str(conversation_id)): conversation})
        changes.apply(domain.cancel(conversation, found.reminder, now()), actor=who.actor)
        await store.drop(tx, who.account_id, [str(reminder_id)])
        await timers.cancel(tx, reminders.REMINDER, str(reminder_id))
        await changes.save(tx)
    return Response(status_code=204)


async def _whom(tx: Tx, who: Principal, body: NewReminder) -> str | None:
    if (body.to == "agent") != (body.agent_id is not None):
        raise _invalid(
            "/agent_id", "Va con «to: agent», y hace falta con él.", "Goes with `to: agent`, which needs it."
        )
    if body.to == "me":
        return agent_of(who)
    if body.agent_id is not None and str(body.agent_id) not in {
        a.id for a in await mentions.agents(tx, who.account_id)
    }:
        es = "No existe ese agente, o no puede leer conversaciones."
        raise _invalid("/agent_id", es, "There is no such agent, or they may not read conversations.")
    return str(body.agent_id) if body.agent_id else None


async def _when(tx: Tx, conversation: Conversation, body: NewReminder, moment: datetime) -> datetime:
    if sum(one is not None for one in (body.hours, body.days, body.due_at)) != 1:
        raise _invalid(
            "/hours",
            "Indica «hours», «days» o «due_at», uno de los tres.",
            "Give `hours`, `days` or `due_at`, one of them.",
        )
    if body.due_at is None:
        due = await reminders.due_at(
            tx, conversation, moment, body.hours, body.days, business_hours=body.business_hours
        )
        if due is None:
            es = "Ningún calendario mide ahí el horario: crea uno, o cuenta horas de reloj."
            en = "No calendar measures business hours there: make one, or count hours of the clock."
            raise _invalid("/business_hours", es, en)
        return due
    if not moment < body.due_at <= moment + domain.LONGEST:
        raise _invalid("/due_at", "Elige un momento del próximo año.", "Choose a moment within a year from now.")
    return body.due_at.astimezone(UTC)


def _invalid(pointer: str, es: str, en: str) -> Problem:
    return Problem(422, "invalid_reminder", es=es, en=en, errors=(FieldError(pointer, es=es, en=en),))


def _of(conversation_id: str, reminder: ReminderSnapshot) -> Reminder:
    return Reminder(conversation_id=conversation_id, **reminder.model_dump())


def _page(rows: Sequence[Row], limit: int) -> Page[Reminder]:
    return paging.page(
        rows,
        limit,
        lambda row: (row["due_at"].isoformat(), row["id"]),
        lambda row: _of(row["conversation_id"], store.kept_of(row).reminder),
    )

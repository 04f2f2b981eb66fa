"""Acts on one conversation: put off, woken, given to the bot and taken back, how urgent it is and what it is about."""

from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import AfterValidator, AwareDatetime, Field, StringConstraints

from relevo.chassis.auth import Principal, require
from relevo.chassis.http import Db
from relevo.contracts.permissions import Permission
from relevo.contracts.snapshots import ConversationSnapshot, Priority
from relevo.conversation.api.common import SEQUENCE, Acting, Body, apply, locked
from relevo.conversation.api.editing import Faults, attribute_values
from relevo.conversation.domain import properties, snooze
from relevo.conversation.domain.state import Change, Conversation
from relevo.conversation.store import attributes
from relevo.kernel.text import clean

router = APIRouter(tags=["conversations"])

Updater = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_UPDATE))]


class Snooze(Body):
    """How long to put a conversation off."""

    until: AwareDatetime | None = Field(default=None, description="Null: until the customer writes.")


class NewPriority(Body):
    """How urgent; null: nothing is said."""

    priority: Priority | None


class NewValues(Body):
    """Values of custom attributes by key; null takes one away."""

    attributes: dict[str, Any] = Field(min_length=1, max_length=100)


def _one_line(value: str) -> str:
    return " ".join(clean(value).split())


class NewSubject(Body):
    """What it is about; empty: nothing is said."""

    subject: Annotated[str, StringConstraints(max_length=998), AfterValidator(_one_line)]


@router.post("/conversations/{conversation_id}/snooze")
async def snooze_conversation(
    who: Updater, acting: Acting, conversation_id: UUID, body: Snooze
) -> ConversationSnapshot:
    """Put a conversation off until a moment, or until its customer writes. It wakes then by itself."""

    def act(conversation: Conversation, moment: datetime) -> Change:
        return snooze.snooze(conversation, body.until, moment)

    return await acting(who, conversation_id, act)


@router.post("/conversations/{conversation_id}/wake")
async def wake_conversation(who: Updater, acting: Acting, conversation_id: UUID) -> ConversationSnapshot:
    """Have a snoozed conversation open again before its time."""
    return await acting(who, conversation_id, snooze.wake)


@router.post("/conversations/{conversation_id}/pending")
async def make_conversation_pending(who: Updater, acting: Acting, conversation_id: UUID) -> ConversationSnapshot:
    """Leave an open or snoozed conversation to the bot."""
    return await acting(who, conversation_id, snooze.make_pending)


@router.post("/conversations/{conversation_id}/take-over")
async def take_over_conversation(who: Updater, acting: Acting, conversation_id: UUID) -> ConversationSnapshot:
    """Take a pending conversation from the bot: it is open."""
    return await acting(who, conversation_id, snooze.take_over)


@router.post("/conversations/{conversation_id}/priority")
async def set_priority(who: Updater, acting: Acting, conversation_id: UUID, body: NewPriority) -> ConversationSnapshot:
    """Say how urgent a conversation is."""

    def act(conversation: Conversation, moment: datetime) -> Change:
        return properties.set_priority(conversation, body.priority, moment)

    return await acting(who, conversation_id, act)


@router.post("/conversations/{conversation_id}/subject")
async def set_subject(who: Updater, acting: Acting, conversation_id: UUID, body: NewSubject) -> ConversationSnapshot:
    """Say what a conversation is about."""

    def act(conversation: Conversation, moment: datetime) -> Change:
        return properties.set_subject(conversation, body.subject, moment)

    return await acting(who, conversation_id, act)


@router.patch("/conversations/{conversation_id}/attributes")
async def set_conversation_attributes(
    *, who: Updater, db: Db, response: Response, conversation_id: UUID, body: NewValues
) -> ConversationSnapshot:
    """Give custom attributes of a conversation other values; null takes one away, those not named stay."""
    async with db.begin() as tx:
        conversation = await locked(tx, who, conversation_id)
        faults = Faults()
        definitions = await attributes.definitions(tx, who.account_id, "conversation")
        values = attribute_values(faults, definitions, body.attributes)
        faults.check()

        def act(conversation: Conversation, moment: datetime) -> Change:
            return properties.set_attributes(conversation, values, moment)

        change = await apply(tx, who, conversation, act)
        response.headers[SEQUENCE] = str(change.conversation.state.sequence)
        return change.conversation.state

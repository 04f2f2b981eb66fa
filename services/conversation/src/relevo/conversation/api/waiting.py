"""Messages that are sent later, or can still be undone; and one's signature."""

from datetime import datetime, timedelta
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Response
from pydantic import AwareDatetime, BaseModel, Field, StringConstraints

from relevo.chassis import timers
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.problems import FieldError, Problem
from relevo.contracts.base import new_id, now
from relevo.conversation import lists
from relevo.conversation.api.common import Body, Reader, agent_of, locked, no_conversation, problem_of
from relevo.conversation.api.messages import Replier, Said, answered_by, signed
from relevo.conversation.changes import SEND
from relevo.conversation.domain import writing
from relevo.conversation.domain.state import Refused, Writing
from relevo.conversation.store import waiting as store
from relevo.conversation.store.rows import Row
from relevo.kernel.text import clean

router = APIRouter(tags=["conversations"])

_LONGEST: Final = timedelta(days=366)
_MAX_SIGNATURE: Final = 2000


class NewWaiting(Body):
    """A reply that is sent later: at a moment, or after some seconds in which it can be undone."""

    text: Said
    reply_to: UUID | None = None
    signed: bool = False
    send_at: AwareDatetime | None = Field(default=None, description="A moment within a year from now.")
    delay_seconds: int | None = Field(default=None, ge=1, le=120, description="Instead of `send_at`.")


class WaitingMessage(BaseModel):
    """A message that waits. Once it is sent it is a message with this id."""

    id: str
    conversation_id: str
    agent_id: str
    author_name: str
    text: str
    reply_to: str | None
    send_at: datetime
    created_at: datetime
    refused: str | None = Field(description="Why it could not be sent when its time came; null: it waits.")


class WaitingMessages(BaseModel):
    """What waits in a conversation, the next first."""

    items: list[WaitingMessage]


class Signature(Body):
    """What one puts below one's messages."""

    text: Annotated[str, StringConstraints(max_length=_MAX_SIGNATURE)] = ""


@router.post("/conversations/{conversation_id}/waiting", status_code=201)
async def send_later(
    *, who: Replier, db: Db, once: Idempotency, conversation_id: UUID, body: NewWaiting
) -> WaitingMessage:
    """Have a reply sent later. Until then it can be undone; it is refused now if it would be refused now."""
    agent_id = agent_of(who)
    moment = now()
    send_at = _when(body, moment)
    async with db.begin() as tx:
        await once.start(tx)
        conversation = await locked(tx, who, conversation_id)
        answered = await answered_by(tx, who.account_id, body.reply_to)
        text = await signed(tx, who, body.text) if body.signed else body.text
        try:
            writing.reply(conversation, Writing(new_id(), text, who.actor, reply_to=answered), moment)
        except Refused as refused:
            raise problem_of(refused) from None
        waiting = store.Waiting(
            id=new_id(),
            account_id=who.account_id,
            conversation_id=str(conversation_id),
            agent_id=agent_id,
            author_name=who.name,
            text=text,
            reply_to=str(body.reply_to) if body.reply_to else None,
            send_at=send_at,
            created_at=moment,
        )
        await store.add(tx, waiting)
        await timers.schedule(tx, SEND, waiting.id, send_at, account_id=who.account_id)
        return await once.finish(tx, WaitingMessage.model_validate(waiting, from_attributes=True))


@router.get("/conversations/{conversation_id}/waiting")
async def list_waiting(who: Reader, db: Db, conversation_id: UUID) -> WaitingMessages:
    """What waits to be sent in a conversation, and what could not be."""
    async with db.begin() as tx:
        if await lists.conversation(tx, who.viewer, str(conversation_id)) is None:
            raise no_conversation()
        rows = await store.of_conversation(tx, who.account_id, str(conversation_id))
    return WaitingMessages(items=[_shown(row) for row in rows])


@router.delete("/conversations/{conversation_id}/waiting/{message_id}", status_code=204)
async def undo_send(who: Replier, db: Db, conversation_id: UUID, message_id: UUID) -> Response:
    """Undo a message that waits: it is never sent. 404 when it has been sent."""
    async with db.begin() as tx:
        if await lists.conversation(tx, who.viewer, str(conversation_id)) is None:
            raise no_conversation()
        if not await store.drop(tx, who.account_id, str(conversation_id), str(message_id)):
            raise Problem(
                404,
                "nothing_waits",
                es="Ese mensaje ya no espera: se ha enviado o se ha anulado.",
                en="That message waits no more: it was sent or undone.",
            )
        await timers.cancel(tx, SEND, str(message_id))
    return Response(status_code=204)


@router.get("/signature")
async def get_signature(who: Replier, db: Db) -> Signature:
    """One's signature; empty when there is none."""
    async with db.begin() as tx:
        return Signature(text=await store.signature(tx, who.account_id, agent_of(who)))


@router.put("/signature")
async def set_signature(who: Replier, db: Db, body: Signature) -> Signature:
    """Write one's signature anew; empty: none."""
    text = clean(body.text).strip()
    async with db.begin() as tx:
        await store.sign(tx, who.account_id, agent_of(who), text)
    return Signature(text=text)


def _when(body: NewWaiting, moment: datetime) -> datetime:
    if (body.send_at is None) == (body.delay_seconds is None):
        es, en = (
            "Indica «send_at» o «delay_seconds», uno de los dos.",
            "Give `send_at` or `delay_seconds`, one of them.",
        )
    elif body.delay_seconds is not None:
        return moment + timedelta(seconds=body.delay_seconds)
    else:
        assert body.send_at
        if moment < body.send_at <= moment + _LONGEST:
            return body.send_at
        es, en = "Elige un momento del próximo año.", "Choose a moment within a year from now."
    field = FieldError("/send_at", es=es, en=en)
    raise Problem(422, "invalid_send_at", es=es, en=en, errors=(field,))


def _shown(row: Row) -> WaitingMessage:
    return WaitingMessage.model_validate(dict(row))

"""HTTP for bots: what one may do in the conversations of its inbox that it has. Nothing here shows or writes what is the team's."""

from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from relevo.chassis.auth import Principal, require_bot
from relevo.chassis.database import Tx
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.paging import Limit
from relevo.contracts.base import Id, Time, new_id, now
from relevo.contracts.snapshots import ConversationStatus
from relevo.conversation.api.common import Body, no_conversation, problem_of
from relevo.conversation.api.messages import Said
from relevo.conversation.changes import Changes
from relevo.conversation.domain import bots, joining, life, writing
from relevo.conversation.domain.state import Change, Conversation, Refused, Writing
from relevo.conversation.store import bots as store
from relevo.conversation.store import conversations
from relevo.conversation.store import messages as said_in
from relevo.kernel.text import clean

router = APIRouter(prefix="/bot/conversations/{conversation_id}", tags=["bots"])

Bot = Annotated[Principal, Depends(require_bot)]


class BotSays(Body):
    """A message to the customer."""

    text: Said


class HandingOver(Body):
    """Why people are to have it, and what they should know: a private note beside the conversation."""

    reason: Literal["customer_asked", "cannot_help"]
    note: Annotated[str, StringConstraints(max_length=5_000), AfterValidator(lambda value: clean(value).strip())] = ""


class BotConversation(BaseModel):
    """What a bot may know of its conversation. ``status`` pending: it has it."""

    id: Id
    number: int
    status: ConversationStatus
    message_id: Id | None = Field(default=None, description="Of the message that was written.")


class SaidBefore(BaseModel):
    """A public message."""

    id: Id
    from_customer: bool
    text: str
    at: Time


class SaidPublicly(BaseModel):
    """What the customer can see of the conversation, the oldest first."""

    items: list[SaidBefore]


@router.get("/messages")
async def list_messages_for_bot(conversation_id: UUID, who: Bot, db: Db, limit: Limit = 50) -> SaidPublicly:
    """The last public messages of a conversation that the bot has."""
    async with db.begin() as tx:
        await _own(tx, who, conversation_id)
        rows = await said_in.page(tx, who.account_id, str(conversation_id), limit, None, newest_first=True)
    shown = [
        SaidBefore(id=row["id"], from_customer=row["kind"] == "incoming", text=row["text"], at=row["created_at"])
        for row in rows
        if row["kind"] in ("incoming", "outgoing")
    ]
    return SaidPublicly(items=shown[::-1])


@router.post("/messages", status_code=201)
async def say_as_bot(
    *, conversation_id: UUID, body: BotSays, who: Bot, db: Db, once: Idempotency, response: Response
) -> BotConversation:
    """Write to the customer. 409 when people have the conversation, or the bot has said enough without an answer.

    A bot that has said very much within an hour is said to talk without end: people get the conversation.
    """
    async with db.begin() as tx:
        await once.start(tx)
        conversation = await _own(tx, who, conversation_id)
        moment = now()
        try:
            said = await store.said(tx, who.account_id, str(conversation_id), moment - bots.A_WHILE)
            bots.talks_alone(said.in_a_row)
            writes = Writing(new_id(), body.text, who.actor, who.name, human=False)
            change = writing.reply(conversation, writes, moment)
        except Refused as refused:
            raise problem_of(refused) from None
        acts = [change]
        if said.lately + 1 >= bots.MOST_IN_A_WHILE:
            acts.append(bots.leave_to_people(change.conversation, moment, "endless"))
        after = await _done(tx, who, conversation, acts)
        response.headers["Relevo-Sequence"] = str(after.state.sequence)
        return await once.finish(tx, _shown(after, change.message.id if change.message else None))


@router.post("/hand-over")
async def hand_over_as_bot(
    *, conversation_id: UUID, body: HandingOver, who: Bot, db: Db, once: Idempotency
) -> BotConversation:
    """Leave a conversation to people, with the reason and a note for them; it is assigned, or waits for somebody."""
    async with db.begin() as tx:
        await once.start(tx)
        conversation = await _own(tx, who, conversation_id)
        moment = now()
        acts: list[Change] = []
        try:
            if body.note:
                note = Writing(new_id(), body.note, who.actor, who.name, human=False)
                acts.append(writing.note(conversation, note, moment))
            acts.append(bots.leave_to_people(acts[-1].conversation if acts else conversation, moment, body.reason))
        except Refused as refused:
            raise problem_of(refused) from None
        return await once.finish(tx, _shown(await _done(tx, who, conversation, acts)))


@router.post("/resolve")
async def resolve_as_bot(conversation_id: UUID, who: Bot, db: Db, once: Idempotency) -> BotConversation:
    """Close a conversation that the bot has."""
    async with db.begin() as tx:
        await once.start(tx)
        conversation = await _own(tx, who, conversation_id)
        try:
            change = life.resolve(conversation, now())
        except Refused as refused:
            raise problem_of(refused) from None
        return await once.finish(tx, _shown(await _done(tx, who, conversation, [change])))


async def _own(tx: Tx, who: Principal, conversation_id: UUID) -> Conversation:
    """A conversation of the bot's inbox that it has, locked. Raises Problem 404, also for one of another inbox, and 409."""
    key = (who.account_id, str(conversation_id))
    conversation = (await conversations.lock(tx, [key])).get(key)
    if conversation is None or conversation.state.inbox_id != who.inbox_id:
        raise no_conversation()
    if conversation.state.merged_into is not None:
        raise problem_of(joining.over())
    if conversation.state.status != "pending":
        raise problem_of(bots.not_the_bots())
    return conversation


async def _done(tx: Tx, who: Principal, conversation: Conversation, acts: list[Change]) -> Conversation:
    changes = Changes({(who.account_id, conversation.state.id): conversation})
    for act in acts:
        changes.apply(act, actor=who.actor)
    await changes.save(tx)
    return acts[-1].conversation


def _shown(conversation: Conversation, message_id: str | None = None) -> BotConversation:
    state = conversation.state
    return BotConversation(id=state.id, number=state.number, status=state.status, message_id=message_id)

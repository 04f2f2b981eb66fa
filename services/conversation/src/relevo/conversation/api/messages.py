"""What is said in a conversation: read, answered, noted."""

from datetime import datetime
from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AfterValidator, BaseModel, Field, StringConstraints
from pydantic_core import PydanticCustomError

from relevo.chassis import directory, paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Tx
from relevo.chassis.http import Db, Rt
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.chassis.problems import FieldError, Problem, language_of
from relevo.contracts.base import new_id
from relevo.contracts.inbound import MAX_ATTACHMENTS, MAX_TEXT
from relevo.contracts.permissions import Permission
from relevo.contracts.snapshots import MessageSnapshot
from relevo.conversation import lists
from relevo.conversation import mentions as mentions_of
from relevo.conversation.api import collision, files
from relevo.conversation.api.common import SEQUENCE, Body, Reader, apply, locked, no_conversation
from relevo.conversation.api.shown import MessageShown, reading
from relevo.conversation.domain import amending, writing
from relevo.conversation.domain.state import Change, Conversation, Writing
from relevo.conversation.settings import Settings
from relevo.conversation.store import desk, joins, waiting
from relevo.conversation.store import messages as store
from relevo.kernel.text import clean

router = APIRouter(tags=["conversations"])

_MAX_MENTIONS: Final = 50
_LONGEST_EMOJI: Final = 12
"""Characters: families and flags are made of several."""

Replier = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_REPLY))]
Noter = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_NOTE))]
Writer = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_REPLY, Permission.CONVERSATIONS_NOTE))]


def _said(value: str) -> str:
    text = clean(value)
    if not text.strip():
        es = "Escribe algo: un mensaje no puede estar vacío."
        en = "Write something: a message cannot be empty."
        raise PydanticCustomError("empty_text", "{en}", {"es": es, "en": en})
    return text


Said = Annotated[str, StringConstraints(max_length=MAX_TEXT), AfterValidator(_said)]
Mention = Annotated[str, StringConstraints(pattern=r"^(agent|team):[0-9a-f-]{36}$")]


class NewMessage(Body):
    """A reply to the customer, or a private note."""

    text: Annotated[str, StringConstraints(max_length=MAX_TEXT), AfterValidator(clean)] = Field(
        default="", description="May be empty beside attachments."
    )
    private: bool = Field(default=False, description="A note for the team: it never leaves to the customer.")
    mentions: list[Mention] = Field(
        default=[], max_length=_MAX_MENTIONS, description="`agent:ID` or `team:ID`; only in a private note."
    )
    reply_to: UUID | None = Field(default=None, description="The message that it answers, of this conversation.")
    signed: bool = Field(default=False, description="Put one's signature below. Not in private notes.")
    attachments: list[UUID] = Field(
        default=[], max_length=MAX_ATTACHMENTS, description="Files that one has uploaded (`POST /files`)."
    )
    seen_through: collision.SeenThrough


class NewText(Body):
    """What a note says from now on."""

    text: Said


def _emoji(value: str) -> str:
    if not value or len(value) > _LONGEST_EMOJI or any(c.isascii() or c.isalnum() or c.isspace() for c in value):
        es, en = "Debe ser un solo emoji.", "Must be one emoji."
        raise PydanticCustomError("no_emoji", "{en}", {"es": es, "en": en})
    return value


class NewReaction(Body):
    """A reaction, or one to take back."""

    emoji: Annotated[str, AfterValidator(_emoji)]
    add: bool = True


class Edit(BaseModel):
    """What a message said before, until when, and who changed it."""

    edited_at: datetime
    actor: str
    text: str


class Edits(BaseModel):
    """What a message said before, the oldest first."""

    items: list[Edit]


@router.get("/conversations/{conversation_id}/messages")
async def list_messages(
    *,
    who: Reader,
    db: Db,
    conversation_id: UUID,
    order: Annotated[
        Literal["oldest", "newest"], Query(description="Which come first, by sequence: the order of record.")
    ] = "oldest",
    limit: Limit = 50,
    cursor: Cursor = None,
    request: Request,
) -> Page[MessageShown]:
    """The messages, private notes and activity lines of a conversation, by sequence.

    Those of a conversation that became part of it (another `conversation_id`) stand where this one tells of the merge.
    """
    after: tuple[int, int] | None = paging.decode(cursor, int, int) if cursor else None
    newest = order == "newest"
    async with db.begin() as tx:
        found = await lists.conversation(tx, who.viewer, str(conversation_id))
        if found is None:
            raise no_conversation()
        read = joins.page if found["absorbed"] else store.page
        rows = await read(tx, who.account_id, str(conversation_id), limit, after, newest_first=newest)
        show = await reading(tx, who.account_id, rows, language_of(request))
    return paging.page(rows, limit, lambda row: (row.get("place", row["sequence"]), row.get("part", 0)), show)


@router.post("/conversations/{conversation_id}/messages", status_code=201)
async def write_message(
    *,
    who: Writer,
    db: Db,
    runtime: Rt,
    once: Idempotency,
    response: Response,
    conversation_id: UUID,
    body: NewMessage,
) -> MessageSnapshot:
    """Reply to the customer, or write a private note.

    A reply to a resolved conversation is sent and does not reopen it; an archived one is 409: unarchive it first.
    """
    if not body.attachments:
        _text_or_problem(body.text)
    needed = Permission.CONVERSATIONS_NOTE if body.private else Permission.CONVERSATIONS_REPLY
    await require(needed)(who)
    if body.mentions and not body.private:
        raise Problem(
            422,
            "mentions_need_a_note",
            es="Solo se puede mencionar a alguien en una nota privada.",
            en="People can be mentioned only in a private note.",
            errors=(
                FieldError(
                    "/mentions",
                    es="Pon «private» a true o quita las menciones.",
                    en="Set `private` to true, or leave the mentions out.",
                ),
            ),
        )
    async with collision.kept(db, who, conversation_id, body.text), db.begin() as tx:
        await once.start(tx)
        mentioned = await _mentioned(tx, who.account_id, body.mentions) if body.mentions else []
        conversation = await locked(tx, who, conversation_id)
        if not body.private:
            await collision.nobody_replied_since(tx, who, conversation.state, body.seen_through)
        text = await signed(tx, who, body.text) if body.signed and not body.private else body.text
        answered = await answered_by(tx, who.account_id, body.reply_to)
        id_ = new_id()
        attachments = await files.attached(tx, who, id_, body.attachments)
        said = Writing(
            id_,
            text,
            who.actor,
            who.name,
            human=who.kind == "agent",
            reply_to=answered,
            attachments=attachments,
            fetchable=await files.fetchable(tx, settings_of(runtime), who.account_id, attachments),
        )

        def write(conversation: Conversation, moment: datetime) -> Change:
            if body.private:
                return writing.note(conversation, said, moment, mentions=body.mentions, mentioned_agents=mentioned)
            return writing.reply(conversation, said, moment)

        change = await apply(tx, who, conversation, write)
        assert change.message
        await _kept_for_people(tx, who, change, mentioned)
        response.headers[SEQUENCE] = str(change.conversation.state.sequence)
        return await once.finish(tx, change.message)


@router.post("/conversations/{conversation_id}/messages/{message_id}/retry", status_code=201)
async def retry_message(
    *,
    who: Replier,
    db: Db,
    runtime: Rt,
    once: Idempotency,
    response: Response,
    conversation_id: UUID,
    message_id: UUID,
) -> MessageSnapshot:
    """Send a message again that failed; once. It is a new message (`retry_of`), in one's own name."""
    async with db.begin() as tx:
        await once.start(tx)
        conversation = await locked(tx, who, conversation_id)
        failed = await _message(tx, who, conversation_id, message_id)
        if await store.was_retried(tx, who.account_id, failed.id):
            raise Problem(
                409,
                "message_was_retried",
                es="Ese mensaje ya se reenvió.",
                en="That message was sent again already.",
            )
        answered = await answered_by(tx, who.account_id, UUID(failed.reply_to) if failed.reply_to else None)
        said = Writing(
            new_id(),
            failed.text,
            who.actor,
            who.name,
            human=who.kind == "agent",
            reply_to=answered,
            attachments=failed.attachments,
            fetchable=await files.fetchable(tx, settings_of(runtime), who.account_id, failed.attachments),
            retry_of=failed,
        )
        change = await apply(tx, who, conversation, lambda c, moment: amending.retry(c, failed, said, moment))
        assert change.message
        response.headers[SEQUENCE] = str(change.conversation.state.sequence)
        return await once.finish(tx, change.message)


@router.patch("/conversations/{conversation_id}/messages/{message_id}")
async def edit_message(
    *, who: Writer, db: Db, response: Response, conversation_id: UUID, message_id: UUID, body: NewText
) -> MessageSnapshot:
    """Write one's private note anew, or one's message to a customer where the inbox's channel can do that.

    What it said before can be read. If the channel refuses after all, a line in the conversation says so.
    """
    async with db.begin() as tx:
        conversation = await locked(tx, who, conversation_id)
        message = await _message(tx, who, conversation_id, message_id)
        await _permitted(who, message)
        if message.author != who.actor and message.kind in ("note", "outgoing"):
            raise _not_yours()
        reach = await _reach(tx, conversation)
        change = await apply(
            tx, who, conversation, lambda c, moment: amending.edit(c, message, body.text, moment, reach)
        )
        response.headers[SEQUENCE] = str(change.conversation.state.sequence)
        return change.message or message


@router.delete("/conversations/{conversation_id}/messages/{message_id}")
async def delete_message(
    *, who: Writer, db: Db, response: Response, conversation_id: UUID, message_id: UUID
) -> MessageSnapshot:
    """Delete a private note, or a message to a customer where the inbox's channel can take it back.

    One's own, or anybody's for who may delete conversations. That it was there stays.
    """
    async with db.begin() as tx:
        conversation = await locked(tx, who, conversation_id)
        message = await _message(tx, who, conversation_id, message_id)
        await _permitted(who, message)
        others = message.author != who.actor and message.kind in ("note", "outgoing")
        if others and not who.can(Permission.CONVERSATIONS_DELETE):
            raise _not_yours()
        reach = await _reach(tx, conversation)
        change = await apply(tx, who, conversation, lambda c, moment: amending.delete(c, message, moment, reach))
        response.headers[SEQUENCE] = str(change.conversation.state.sequence)
        return change.message or message


@router.post("/conversations/{conversation_id}/messages/{message_id}/reactions")
async def react_to_message(
    *,
    who: Noter,
    db: Db,
    once: Idempotency,
    response: Response,
    conversation_id: UUID,
    message_id: UUID,
    body: NewReaction,
) -> MessageSnapshot:
    """React to a private note with an emoji, or take that back. Others of the team see it; no customer does."""
    async with db.begin() as tx:
        await once.start(tx)
        conversation = await locked(tx, who, conversation_id)
        message = await _message(tx, who, conversation_id, message_id)

        def act(conversation: Conversation, moment: datetime) -> Change:
            return amending.react(conversation, message, who.actor, body.emoji, moment, add=body.add)

        change = await apply(tx, who, conversation, act)
        response.headers[SEQUENCE] = str(change.conversation.state.sequence)
        return await once.finish(tx, change.message or message)


@router.get("/conversations/{conversation_id}/messages/{message_id}/edits")
async def list_edits(who: Reader, db: Db, conversation_id: UUID, message_id: UUID) -> Edits:
    """What a message said before; nothing of one that is deleted."""
    async with db.begin() as tx:
        if await lists.conversation(tx, who.viewer, str(conversation_id)) is None:
            raise no_conversation()
        await _message(tx, who, conversation_id, message_id)
        rows = await store.edits(tx, who.account_id, str(message_id))
    return Edits(items=[Edit.model_validate(dict(row)) for row in rows])


async def answered_by(tx: Tx, account_id: str, message_id: UUID | None) -> MessageSnapshot | None:
    """The message that a new one answers. Raises Problem 422 when there is none."""
    if message_id is None:
        return None
    key = (account_id, str(message_id))
    if (found := (await store.find(tx, [key])).get(key)) is None:
        field = FieldError("/reply_to", es="No existe ese mensaje.", en="There is no such message.")
        raise Problem(422, "unknown_message", es=field.es, en=field.en, errors=(field,))
    return found


async def signed(tx: Tx, who: Principal, text: str) -> str:
    """The text with the signature of who writes below, if they have one."""
    agent_id = who.viewer.agent_id
    signature = await waiting.signature(tx, who.account_id, agent_id) if agent_id else ""
    return f"{text}\n\n{signature}"[:MAX_TEXT] if signature else text


async def _message(tx: Tx, who: Principal, conversation_id: UUID, message_id: UUID) -> MessageSnapshot:
    key = (who.account_id, str(message_id))
    found = (await store.find(tx, [key])).get(key)
    if found is None or found.conversation_id != str(conversation_id):
        raise Problem(
            404,
            "message_not_found",
            es="No existe ese mensaje en esta conversación.",
            en="There is no such message in this conversation.",
        )
    return found


def settings_of(runtime: Rt) -> Settings:
    """What this service is told."""
    assert isinstance(runtime.settings, Settings)
    return runtime.settings


def _text_or_problem(text: str) -> None:
    if not text.strip():
        field = FieldError(
            "/text",
            es="Escribe algo o adjunta un archivo: un mensaje no puede estar vacío.",
            en="Write something or attach a file: a message cannot be empty.",
        )
        raise Problem(422, "empty_message", es=field.es, en=field.en, errors=(field,))


async def _permitted(who: Principal, message: MessageSnapshot) -> None:
    """Raises Problem 403 without the permission to write what this message is."""
    await require(Permission.CONVERSATIONS_REPLY if message.kind == "outgoing" else Permission.CONVERSATIONS_NOTE)(who)


async def _reach(tx: Tx, conversation: Conversation) -> amending.Reach:
    """What the conversation's channel can do to messages that were sent."""
    inbox_id = conversation.state.inbox_id
    inbox = (await directory.inboxes(tx, [inbox_id])).get(inbox_id)
    return amending.Reach(inbox.changeable if inbox else frozenset(), new_id())


def _not_yours() -> Problem:
    return Problem(
        403,
        "not_your_note",
        es="Solo quien lo escribió puede cambiarlo.",
        en="Only who wrote it can change it.",
    )


async def _kept_for_people(tx: Tx, who: Principal, change: Change, mentioned: list[str]) -> None:
    """Who writes needs the draft no more; who is mentioned finds it in their list.

    Nothing counts as seen by it: the customer may have written at the same moment.
    """
    message, state = change.message, change.conversation.state
    assert message
    if mentioned:
        await desk.mention(tx, state.account_id, message, mentioned)
    if who.kind == "agent":
        await desk.drop_draft(tx, state.account_id, who.id, state.id, private=message.kind == "note")


async def _mentioned(tx: Tx, account_id: str, mentions: list[str]) -> list[str]:
    """The agents whom the mentions stand for, a team standing for its members. Raises Problem 422 naming the unknown."""
    agents = {agent.id for agent in await mentions_of.agents(tx, account_id)}
    teams = {team.id: team.member_ids for team in await directory.teams(tx, account_id)}
    found: list[str] = []
    errors = []
    for index, mention in enumerate(mentions):
        kind, _, id_ = mention.partition(":")
        if kind == "agent" and id_ in agents:
            found.append(id_)
        elif kind == "team" and id_ in teams:
            found.extend(member for member in teams[id_] if member in agents)
        else:
            es = "No existe ese agente, o no puede leer conversaciones."
            en = "There is no such agent, or they may not read conversations."
            if kind == "team":
                es, en = ("No existe ese equipo.", "There is no such team.")
            errors.append(FieldError(f"/mentions/{index}", es=es, en=en))
    if errors:
        raise Problem(
            422,
            "unknown_mention",
            es="Se menciona a alguien que no existe.",
            en="Somebody is mentioned who does not exist.",
            errors=errors,
        )
    return found

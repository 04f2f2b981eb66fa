"""What is said in a conversation: read, answered, noted."""

from datetime import datetime
from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import AfterValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from relevo.chassis import directory, paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Tx
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.chassis.problems import FieldError, Problem, language_of
from relevo.contracts.base import new_id
from relevo.contracts.inbound import MAX_TEXT
from relevo.contracts.permissions import Permission
from relevo.contracts.snapshots import MessageSnapshot
from relevo.conversation import lists
from relevo.conversation.api.common import SEQUENCE, Body, Reader, apply, locked, no_conversation
from relevo.conversation.api.shown import MessageShown, reading
from relevo.conversation.domain import writing
from relevo.conversation.domain.state import Change, Conversation, Writing
from relevo.conversation.store import desk
from relevo.conversation.store import messages as store
from relevo.kernel.text import clean

router = APIRouter(tags=["conversations"])

_MAX_MENTIONS: Final = 50

Writer = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_REPLY, Permission.CONVERSATIONS_NOTE))]


def _said(value: str) -> str:
    text = clean(value)
    if not text.strip():
        es = "Escribe algo: un mensaje no puede estar vacío."
        en = "Write something: a message cannot be empty."
        raise PydanticCustomError("empty_text", "{en}", {"es": es, "en": en})
    return text


Mention = Annotated[str, StringConstraints(pattern=r"^(agent|team):[0-9a-f-]{36}$")]


class NewMessage(Body):
    """A reply to the customer, or a private note."""

    text: Annotated[str, StringConstraints(max_length=MAX_TEXT), AfterValidator(_said)]
    private: bool = Field(default=False, description="A note for the team: it never leaves to the customer.")
    mentions: list[Mention] = Field(
        default=[], max_length=_MAX_MENTIONS, description="`agent:ID` or `team:ID`; only in a private note."
    )


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
    """The messages, private notes and activity lines of a conversation, by sequence."""
    place: int | None = paging.decode(cursor, int)[0] if cursor else None
    async with db.begin() as tx:
        if await lists.conversation(tx, who.viewer, str(conversation_id)) is None:
            raise no_conversation()
        rows = await store.page(tx, who.account_id, str(conversation_id), limit, place, newest_first=order == "newest")
        show = await reading(tx, who.account_id, rows, language_of(request))
    return paging.page(rows, limit, lambda row: (row["sequence"],), show)


@router.post("/conversations/{conversation_id}/messages", status_code=201)
async def write_message(
    *, who: Writer, db: Db, once: Idempotency, response: Response, conversation_id: UUID, body: NewMessage
) -> MessageSnapshot:
    """Reply to the customer, or write a private note.

    A reply to a resolved conversation is sent and does not reopen it; an archived one is 409: unarchive it first.
    """
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
    said = Writing(new_id(), body.text, who.actor, who.name, human=who.kind == "agent")
    async with db.begin() as tx:
        await once.start(tx)
        mentioned = await _mentioned(tx, who.account_id, body.mentions) if body.mentions else []
        conversation = await locked(tx, who, conversation_id)

        def write(conversation: Conversation, moment: datetime) -> Change:
            if body.private:
                return writing.note(conversation, said, moment, mentions=body.mentions, mentioned_agents=mentioned)
            return writing.reply(conversation, said, moment)

        change = await apply(tx, who, conversation, write)
        assert change.message
        await _kept_for_people(tx, who, change, mentioned)
        response.headers[SEQUENCE] = str(change.conversation.state.sequence)
        return await once.finish(tx, change.message)


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
    agents = {agent.id for agent in await directory.agents(tx, account_id) if agent.active}
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
            es, en = ("No existe ese agente.", "There is no such agent.")
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

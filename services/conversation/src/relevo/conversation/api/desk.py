"""What each agent has of their own: what they have not read, where they are mentioned, what they are writing."""

from datetime import datetime
from operator import itemgetter
from typing import Annotated, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, Field, StringConstraints

from relevo.chassis import directory, paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Tx
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.chassis.problems import Problem
from relevo.contracts.base import now
from relevo.contracts.inbound import MAX_TEXT
from relevo.contracts.permissions import Permission
from relevo.contracts.snapshots import MessageSnapshot
from relevo.conversation import lists, mentions
from relevo.conversation.api.common import Body, Reader, after, agent_of, no_conversation
from relevo.conversation.store import desk as store
from relevo.conversation.store import joins
from relevo.conversation.store.messages import message_of
from relevo.conversation.store.rows import Row
from relevo.kernel.names import folded_name, name_rank

router = APIRouter(tags=["conversations"])

Noter = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_NOTE))]


class Unread(BaseModel):
    """How much of a conversation one has not seen."""

    conversation_id: str
    seen: int = Field(description="The number of the last event that one has seen; 0: none.")
    unread: int = Field(description="The customer's messages since then, counted up to 100.")


class UnreadList(BaseModel):
    """How much of each conversation one has not seen, in the order asked."""

    items: list[Unread]


class Seen(Body):
    """Up to where one has seen a conversation."""

    through: int | None = Field(default=None, ge=0, description="A `sequence`; null: all that there is now.")


class Mentioned(BaseModel):
    """A private note that mentions one, by name or by team."""

    mentioned_at: datetime
    message: MessageSnapshot


class Mentionable(BaseModel):
    """Somebody whom a note can mention; `mention` is what to put into `mentions`."""

    mention: str
    kind: Literal["agent", "team"]
    id: str
    name: str


class Mentionables(BaseModel):
    """Whom a note can mention."""

    items: list[Mentionable]


class NewDraft(Body):
    """What one is writing."""

    text: Annotated[str, StringConstraints(max_length=MAX_TEXT)]
    private: bool = False


class Draft(BaseModel):
    """What one was writing in a conversation, and has not sent."""

    conversation_id: str
    text: str
    private: bool
    updated_at: datetime


@router.get("/conversations/unread")
async def count_unread(
    who: Reader, db: Db, ids: Annotated[list[UUID], Query(alias="id", min_length=1, max_length=200)]
) -> UnreadList:
    """How much of each of these conversations one has not seen. Each agent has their own count."""
    agent_id = agent_of(who)
    async with db.begin() as tx:
        seen = await store.visible_among(tx, who.viewer, [str(id_) for id_ in ids])
        rows = await store.unread(tx, who.account_id, agent_id, [str(id_) for id_ in ids if str(id_) in seen])
    return UnreadList(items=[Unread(conversation_id=row["id"], seen=row["seen"], unread=row["unread"]) for row in rows])


@router.post("/conversations/{conversation_id}/seen")
async def mark_seen(who: Reader, db: Db, once: Idempotency, conversation_id: UUID, body: Seen) -> Unread:
    """Say that one has seen a conversation, when it is opened or scrolled. Never makes anything unread again."""
    agent_id = agent_of(who)
    async with db.begin() as tx:
        await once.start(tx)
        last = await _last(who, tx, conversation_id)
        through = last if body.through is None else min(body.through, last)
        await store.see(tx, who.account_id, agent_id, str(conversation_id), through)
        await joins.see_parts(tx, who.account_id, agent_id, str(conversation_id), through)
        return await once.finish(tx, await _unread(tx, who.account_id, agent_id, str(conversation_id)))


@router.post("/conversations/{conversation_id}/unseen")
async def mark_unseen(who: Reader, db: Db, once: Idempotency, conversation_id: UUID) -> Unread:
    """Make the customer's last message unread again, for oneself."""
    agent_id = agent_of(who)
    async with db.begin() as tx:
        await once.start(tx)
        await _last(who, tx, conversation_id)
        incoming = await store.last_incoming(tx, who.account_id, str(conversation_id))
        if incoming is None:
            raise Problem(
                409,
                "nothing_to_read",
                es="El cliente no ha escrito en esta conversación: no hay nada que dejar sin leer.",
                en="The customer has not written in this conversation: there is nothing to leave unread.",
            )
        await store.see(tx, who.account_id, agent_id, str(conversation_id), incoming - 1, back=True)
        return await once.finish(tx, await _unread(tx, who.account_id, agent_id, str(conversation_id)))


@router.get("/mentions")
async def list_mentions(who: Reader, db: Db, limit: Limit = 50, cursor: Cursor = None) -> Page[Mentioned]:
    """The private notes that mention one, by name or by team, the newest first."""
    agent_of(who)
    async with db.begin() as tx:
        rows = await store.page(tx, store.page_of_mentions(who.viewer, limit, after(cursor)))
    return paging.page(
        rows,
        limit,
        lambda row: (row["mentioned_at"].isoformat(), row["id"]),
        lambda row: Mentioned(mentioned_at=row["mentioned_at"], message=message_of(row)),
    )


@router.get("/mentionable")
async def list_mentionable(
    who: Noter, db: Db, q: Annotated[str, Query(max_length=100, description="A part of a name.")] = ""
) -> Mentionables:
    """Whom a note can mention, while typing: teams, and active agents who may read conversations at all.

    Those whose name begins so come first, then those with another word that does, then those who have it anywhere.
    """
    async with db.begin() as tx:
        agents = await mentions.agents(tx, who.account_id)
        teams = await directory.teams(tx, who.account_id)
    found = [Mentionable(mention=f"team:{t.id}", kind="team", id=t.id, name=t.name) for t in teams]
    found += [Mentionable(mention=f"agent:{a.id}", kind="agent", id=a.id, name=a.name) for a in agents]
    wanted = folded_name(q)
    fitting = [(rank, folded_name(one.name), one.id, one) for one in found if (rank := name_rank(one.name, wanted))]
    return Mentionables(items=[one for *_, one in sorted(fitting, key=itemgetter(0, 1, 2))[:50]])


@router.get("/drafts")
async def list_drafts(who: Reader, db: Db, limit: Limit = 50, cursor: Cursor = None) -> Page[Draft]:
    """What one was writing and has not sent, the newest first."""
    agent_of(who)
    async with db.begin() as tx:
        rows = await store.page(tx, store.page_of_drafts(who.viewer, limit, after(cursor)))
    return paging.page(rows, limit, lambda row: (row["updated_at"].isoformat(), row["conversation_id"]), _draft)


@router.get("/conversations/{conversation_id}/draft")
async def get_draft(who: Reader, db: Db, conversation_id: UUID) -> Draft:
    """What one was writing in a conversation."""
    agent_id = agent_of(who)
    async with db.begin() as tx:
        await _last(who, tx, conversation_id)
        row = await store.draft(tx, who.account_id, agent_id, str(conversation_id))
    if row is None:
        raise Problem(404, "draft_not_found", es="No hay ningún borrador aquí.", en="There is no draft here.")
    return _draft(row)


@router.put("/conversations/{conversation_id}/draft")
async def keep_draft(who: Reader, db: Db, conversation_id: UUID, body: NewDraft) -> Draft:
    """Keep what one is writing; only oneself sees it. Sending a message of its kind ends it."""
    agent_id = agent_of(who)
    at = now()
    async with db.begin() as tx:
        await _last(who, tx, conversation_id)
        await store.keep_draft(
            tx, who.account_id, agent_id, str(conversation_id), said=_storable(body.text), private=body.private, at=at
        )
    return Draft(conversation_id=str(conversation_id), text=_storable(body.text), private=body.private, updated_at=at)


@router.delete("/conversations/{conversation_id}/draft", status_code=204)
async def drop_draft(who: Reader, db: Db, conversation_id: UUID) -> Response:
    """Forget what one was writing; also when there is nothing."""
    agent_id = agent_of(who)
    async with db.begin() as tx:
        await _last(who, tx, conversation_id)
        await store.drop_draft(tx, who.account_id, agent_id, str(conversation_id))
    return Response(status_code=204)


async def _last(who: Principal, tx: Tx, conversation_id: UUID) -> int:
    """The number of the conversation's last event. Raises Problem 404 when it is not there for whoever asks."""
    row = await lists.conversation(tx, who.viewer, str(conversation_id))
    if row is None:
        raise no_conversation()
    last: int = row["sequence"]
    return last


async def _unread(tx: Tx, account_id: str, agent_id: str, conversation_id: str) -> Unread:
    (row,) = await store.unread(tx, account_id, agent_id, [conversation_id])
    return Unread(conversation_id=row["id"], seen=row["seen"], unread=row["unread"])


def _draft(row: Row) -> Draft:
    return Draft.model_validate(dict(row))


def _storable(value: str) -> str:
    # What is being typed stays as it is, spaces at its end too; but a database takes no NUL.
    return value.replace("\0", "")

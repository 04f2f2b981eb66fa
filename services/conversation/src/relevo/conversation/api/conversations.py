"""Conversations: lists, counts, and the acts that change their state."""

from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import psycopg.errors
from fastapi import APIRouter, Depends, Query, Response
from pydantic import AfterValidator, BaseModel, Field, StringConstraints
from pydantic_core import PydanticCustomError

from relevo.chassis import paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.chassis.problems import FieldError, Problem
from relevo.contracts.permissions import Permission
from relevo.contracts.snapshots import ConversationSnapshot, ConversationStatus, Stage
from relevo.conversation import lists
from relevo.conversation.api.common import Body, Reader, act_on, after, no_conversation
from relevo.conversation.domain import life, properties
from relevo.conversation.domain.state import Change, Conversation
from relevo.conversation.lists import Filters
from relevo.conversation.store.conversations import snapshot_of
from relevo.kernel.text import clean

router = APIRouter(tags=["conversations"])

Resolver = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_RESOLVE))]
Updater = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_UPDATE))]
Archiver = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_ARCHIVE))]
Labeller = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_LABEL))]


def _label(value: str) -> str:
    label = " ".join(clean(value).split())
    if not label:
        es, en = "Una etiqueta no puede estar vacía.", "A label cannot be empty."
        raise PydanticCustomError("empty_label", "{en}", {"es": es, "en": en})
    return label


Label = Annotated[str, StringConstraints(max_length=60), AfterValidator(_label)]


class LabelChange(Body):
    """Labels to put on and to take off; one named in both stays."""

    add: list[Label] = Field(default=[], max_length=50)
    remove: list[Label] = Field(default=[], max_length=50)


class Labels(BaseModel):
    """The labels in use."""

    items: list[str]


class Count(BaseModel):
    """A count; with ``more`` there are more than it says."""

    count: int
    more: bool = False


class Counts(BaseModel):
    """How many unresolved conversations one sees; ``mine`` is null for a key that stands for no agent."""

    open: Count
    unassigned: Count
    mine: Count | None = None


@router.get("/conversations")
async def list_conversations(
    *,
    who: Reader,
    db: Db,
    status: Annotated[list[ConversationStatus] | None, Query()] = None,
    stage: Annotated[list[Stage] | None, Query()] = None,
    channel: Annotated[list[str] | None, Query(max_length=20)] = None,
    inbox: UUID | None = None,
    assignee: Annotated[UUID | Literal["me", "none"] | None, Query(description="An id, `me` or `none`.")] = None,
    team: UUID | None = None,
    label: Annotated[str | None, Query(max_length=60)] = None,
    contact: UUID | None = None,
    source: Annotated[
        str | None, Query(max_length=512, description="The channel's own id of the person; needs `inbox`.")
    ] = None,
    archived: Annotated[bool | None, Query(description="True: only archived ones. They are in no other list.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[ConversationSnapshot]:
    """The conversations that one may see, newest activity first."""
    if assignee == "me" and who.viewer.agent_id is None:
        raise Problem(
            422,
            "not_an_agent",
            es="Esta clave no representa a ningún agente: indica un id en lugar de «me».",
            en="This key stands for no agent: give an id instead of `me`.",
            errors=(FieldError("/query/assignee", es="Usa el id de un agente.", en="Use an agent's id."),),
        )
    if source is not None and inbox is None:
        raise Problem(
            422,
            "source_needs_inbox",
            es="El identificador del canal solo dice algo dentro de una bandeja: indica también `inbox`.",
            en="A channel's id means something within an inbox only: give `inbox` too.",
            errors=(FieldError("/query/inbox", es="Falta.", en="It is missing."),),
        )
    filters = Filters(
        status=tuple(status or ()),
        stage=tuple(stage or ()),
        channel=tuple(channel or ()),
        inbox_id=_text(inbox),
        assignee_id=who.viewer.agent_id if assignee == "me" else _text(assignee) if assignee != "none" else None,
        unassigned=assignee == "none",
        team_id=_text(team),
        label=_label(label) if label and label.strip() else None,
        contact_id=_text(contact),
        source_id=source,
        archived=archived,
    )
    async with db.begin() as tx:
        rows = await lists.conversations_page(tx, who.viewer, filters, limit, after(cursor))
    return paging.page(rows, limit, lambda r: (r["last_activity_at"].isoformat(), r["id"]), snapshot_of)


@router.get("/conversations/counts")
async def count_conversations(who: Reader, db: Db) -> Counts:
    """How many unresolved conversations one sees: all, unassigned, mine. Exact up to 1,000."""
    async with db.begin() as tx:
        found = await lists.counts(tx, who.viewer)
    return Counts.model_validate(
        {name: Count(count=min(n, lists.COUNT_LIMIT), more=n > lists.COUNT_LIMIT) for name, n in found.items()}
    )


@router.get("/conversations/{conversation_id}")
async def get_conversation(who: Reader, db: Db, conversation_id: UUID) -> ConversationSnapshot:
    """One conversation."""
    async with db.begin() as tx:
        row = await lists.conversation(tx, who.viewer, str(conversation_id))
    if row is None:
        raise no_conversation()
    return snapshot_of(row)


@router.post("/conversations/{conversation_id}/resolve")
async def resolve_conversation(
    *, who: Resolver, db: Db, once: Idempotency, response: Response, conversation_id: UUID
) -> ConversationSnapshot:
    """Close a conversation."""
    return await act_on(life.resolve, db, once=once, who=who, response=response, conversation_id=conversation_id)


@router.post("/conversations/{conversation_id}/reopen")
async def reopen_conversation(
    *, who: Updater, db: Db, once: Idempotency, response: Response, conversation_id: UUID
) -> ConversationSnapshot:
    """Open a resolved conversation again; an archived one loses that flag first."""
    try:
        return await act_on(life.reopen, db, once=once, who=who, response=response, conversation_id=conversation_id)
    except psycopg.errors.UniqueViolation as error:
        if error.diag.constraint_name != "conversations_one_unresolved":
            raise
        raise Problem(
            409,
            "another_conversation_is_open",
            es="Este contacto ya tiene otra conversación abierta en esta bandeja: continúa en ella.",
            en="This contact has another open conversation on this inbox: go on in that one.",
        ) from None


@router.post("/conversations/{conversation_id}/archive")
async def archive_conversation(
    *, who: Archiver, db: Db, once: Idempotency, response: Response, conversation_id: UUID
) -> ConversationSnapshot:
    """Put a conversation away for the record; one that is not resolved is resolved first."""
    return await act_on(life.archive, db, once=once, who=who, response=response, conversation_id=conversation_id)


@router.post("/conversations/{conversation_id}/unarchive")
async def unarchive_conversation(
    *, who: Archiver, db: Db, once: Idempotency, response: Response, conversation_id: UUID
) -> ConversationSnapshot:
    """Take an archived conversation back; it is resolved."""
    return await act_on(life.unarchive, db, once=once, who=who, response=response, conversation_id=conversation_id)


@router.post("/conversations/{conversation_id}/labels")
async def change_labels(
    *, who: Labeller, db: Db, once: Idempotency, response: Response, conversation_id: UUID, body: LabelChange
) -> ConversationSnapshot:
    """Put labels on a conversation, take others off. What is so already stays so."""

    def act(conversation: Conversation, moment: datetime) -> Change:
        return properties.change_labels(conversation, body.add, body.remove, moment)

    return await act_on(act, db, once=once, who=who, response=response, conversation_id=conversation_id)


@router.get("/labels")
async def list_labels(who: Reader, db: Db) -> Labels:
    """The labels that conversations have, in order."""
    async with db.begin() as tx:
        return Labels(items=await lists.labels(tx, who.account_id))


def _text(value: object) -> str | None:
    return None if value is None else str(value)

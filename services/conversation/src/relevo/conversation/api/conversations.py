"""Conversations: lists, counts, and the acts that change their state."""

import json
from datetime import datetime
from typing import Annotated
from uuid import UUID

import psycopg.errors
from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from relevo.chassis import paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Tx
from relevo.chassis.http import Db
from relevo.chassis.paging import Page
from relevo.chassis.problems import Problem
from relevo.contracts.permissions import Permission
from relevo.contracts.snapshots import ConversationSnapshot
from relevo.conversation import labels, lists
from relevo.conversation.api.asked import Asked, Label, filters_of, resolved_filters
from relevo.conversation.api.common import Act, Acting, Body, Reader, no_conversation
from relevo.conversation.api.views import saved
from relevo.conversation.domain import life, properties
from relevo.conversation.filters import Standing
from relevo.conversation.lists import Place, Sort
from relevo.conversation.store import counts
from relevo.conversation.store.conversations import snapshot_of

router = APIRouter(tags=["conversations"])

Resolver = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_RESOLVE))]
Updater = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_UPDATE))]
Archiver = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_ARCHIVE))]
Labeller = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_LABEL))]


class LabelChange(Body):
    """Labels to put on and to take off; one named in both stays."""

    add: list[Label] = Field(default=[], max_length=50)
    remove: list[Label] = Field(default=[], max_length=50)


class Count(BaseModel):
    """A count; with ``more`` there are more than it says."""

    count: int
    more: bool = False


class Counts(BaseModel):
    """How many unresolved conversations one sees in each standing view, `open` being all of them.

    What concerns an agent is null for a key that stands for none. `mentions` and `participating` are exact up to 1,000.
    """

    open: Count
    unassigned: Count
    unattended: Count
    mine: Count | None = None
    mentions: Count | None = None
    participating: Count | None = None


class ListQuery(Asked):
    """What a list is asked for, and which page of it."""

    saved: UUID | None = Field(default=None, description="A saved view, in place of all other filters and the order.")
    limit: int = Field(default=50, ge=1, le=paging.MAX_LIMIT, description="How many items at most.")
    cursor: str | None = Field(default=None, max_length=2000, description="`next` of the page before.")


@router.get("/conversations")
async def list_conversations(who: Reader, db: Db, query: Annotated[ListQuery, Query()]) -> Page[ConversationSnapshot]:
    """The conversations that one may see: filtered, in one of four orders."""
    async with db.begin() as tx:
        asked = await saved(tx, who, query.saved) if query.saved else query
        place = _place(asked.sort, query.cursor)
        rows = await lists.conversations_page(
            tx, who.viewer, await resolved_filters(tx, asked, who), query.limit, after=place, sort=asked.sort
        )
    return paging.page(rows, query.limit, lambda r: _cursor(asked.sort, r[1]), lambda r: snapshot_of(r[0]))


@router.get("/conversations/counts")
async def count_conversations(who: Reader, db: Db) -> Counts:
    """How many unresolved conversations one sees in each standing view."""
    mine: tuple[Standing, ...] = () if who.viewer.agent_id is None else ("mentions", "participating")
    async with db.begin() as tx:
        found = {name: Count(count=n) for name, n in (await counts.standing(tx, who.viewer)).items()}
        for view in mine:
            found[view] = _count(await lists.count(tx, who.viewer, filters_of(Asked(view=view), who)))
    return Counts.model_validate(found)


@router.get("/conversations/count")
async def count_some_conversations(who: Reader, db: Db, asked: Annotated[Asked, Query()]) -> Count:
    """How many conversations of these filters one sees. Exact up to 1,000."""
    async with db.begin() as tx:
        return _count(await lists.count(tx, who.viewer, await resolved_filters(tx, asked, who)))


@router.get("/conversations/{conversation_id}")
async def get_conversation(who: Reader, db: Db, conversation_id: UUID) -> ConversationSnapshot:
    """One conversation."""
    async with db.begin() as tx:
        row = await lists.conversation(tx, who.viewer, str(conversation_id))
    if row is None:
        raise no_conversation()
    return snapshot_of(row)


@router.post("/conversations/{conversation_id}/resolve")
async def resolve_conversation(who: Resolver, acting: Acting, conversation_id: UUID) -> ConversationSnapshot:
    """Close a conversation."""
    return await acting(who, conversation_id, life.resolve)


@router.post("/conversations/{conversation_id}/reopen")
async def reopen_conversation(who: Updater, acting: Acting, conversation_id: UUID) -> ConversationSnapshot:
    """Open a resolved conversation again; an archived one loses that flag first."""
    try:
        return await acting(who, conversation_id, life.reopen)
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
async def archive_conversation(who: Archiver, acting: Acting, conversation_id: UUID) -> ConversationSnapshot:
    """Put a conversation away for the record; one that is not resolved is resolved first."""
    return await acting(who, conversation_id, life.archive)


@router.post("/conversations/{conversation_id}/unarchive")
async def unarchive_conversation(who: Archiver, acting: Acting, conversation_id: UUID) -> ConversationSnapshot:
    """Take an archived conversation back; it is resolved."""
    return await acting(who, conversation_id, life.unarchive)


@router.post("/conversations/{conversation_id}/labels")
async def change_labels(
    who: Labeller, acting: Acting, conversation_id: UUID, body: LabelChange
) -> ConversationSnapshot:
    """Put labels on a conversation, take others off. What is so already stays so."""

    async def act(tx: Tx) -> Act:
        add = await labels.keys(tx, who.account_id, body.add, used_by=who.actor)
        remove = await labels.keys(tx, who.account_id, body.remove)
        return lambda conversation, moment: properties.change_labels(conversation, add, remove, moment)

    return await acting.prepared(who, conversation_id, act)


def _count(n: int) -> Count:
    return Count(count=min(n, lists.COUNT_LIMIT), more=n > lists.COUNT_LIMIT)


def _cursor(sort: Sort, place: Place) -> tuple[str, int, str]:
    part, keys = place
    return sort, part, json.dumps([key.isoformat() if isinstance(key, datetime) else key for key in keys])


def _place(sort: Sort, cursor: str | None) -> Place | None:
    """The place that a cursor of this order stands for. Raises Problem 422."""
    if cursor is None:
        return None
    of, part, keys = paging.decode(cursor, str, int, str)
    try:
        if of != sort:
            raise ValueError(of)
        return lists.read_place(sort, part, json.loads(keys))
    except (ValueError, LookupError, TypeError):
        raise paging.invalid_cursor() from None

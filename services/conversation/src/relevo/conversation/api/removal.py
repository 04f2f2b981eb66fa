"""Conversations that should not be here: spam, put away, and those that are deleted."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import AfterValidator, BaseModel, StringConstraints

from relevo.chassis import paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Tx
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.contracts.base import now
from relevo.contracts.permissions import Permission
from relevo.contracts.snapshots import ConversationSnapshot
from relevo.conversation import lists
from relevo.conversation.api.common import SEQUENCE, Body, after, apply, locked, no_conversation, of_locked
from relevo.conversation.api.contacts import write as write_contact
from relevo.conversation.changes import Changes
from relevo.conversation.domain import removal
from relevo.conversation.domain.profile import edit
from relevo.conversation.domain.state import Conversation
from relevo.conversation.store import conversations, joins, profiles
from relevo.conversation.store import removal as store
from relevo.conversation.store.rows import Key
from relevo.kernel.text import clean

router = APIRouter(tags=["conversations"])

Deleter = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_DELETE))]
Spammer = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_SPAM))]
Auditor = Annotated[Principal, Depends(require(Permission.AUDIT_READ))]


class Deletion(Body):
    """Why a conversation is deleted."""

    reason: Annotated[
        str,
        AfterValidator(lambda value: " ".join(clean(value).split())),
        StringConstraints(min_length=3, max_length=500),
    ]


class Deleted(BaseModel):
    """A conversation that was deleted: by whom, why, when."""

    id: str
    number: int
    actor: str
    actor_name: str
    reason: str
    deleted_at: datetime


@router.get("/conversations/deleted")
async def list_deleted(who: Auditor, db: Db, limit: Limit = 50, cursor: Cursor = None) -> Page[Deleted]:
    """The conversations that were deleted, the latest first."""
    async with db.begin() as tx:
        rows = await store.page(tx, who.account_id, limit, after(cursor))
    return paging.page(
        rows,
        limit,
        lambda row: (row["deleted_at"].isoformat(), row["id"]),
        lambda row: Deleted.model_validate(dict(row)),
    )


@router.post("/conversations/{conversation_id}/delete", status_code=204)
async def delete_conversation(
    *, who: Deleter, db: Db, once: Idempotency, conversation_id: UUID, body: Deletion
) -> Response:
    """Delete a conversation with all that was said in it and in its parts, for good. Who did it and why is kept."""
    async with db.begin() as tx:
        await once.start(tx)
        held = await _with_parts(tx, who.account_id, str(conversation_id))
        conversation = of_locked(who, held, conversation_id)
        at = now()
        changes = Changes(held)
        parts = [one for one in held.values() if one is not conversation]
        gone = [removal.delete(one, body.reason, at) for one in (*parts, conversation)]
        for change in gone:
            changes.apply(change, actor=who.actor)
        await changes.save(tx)
        for change in gone:
            state = change.conversation.state
            await store.delete(tx, state, actor=who.actor, name=who.name, reason=body.reason, at=at)
        await once.finish(tx, None)
    return Response(status_code=204)


async def _with_parts(tx: Tx, account_id: str, conversation_id: str) -> dict[Key, Conversation]:
    """A conversation and its parts, locked in the order of their ids, as by every door that locks several."""
    held: dict[Key, Conversation] = {}
    asked: set[Key] = set()
    while True:
        parts = (await joins.parts(tx, account_id, [conversation_id])).get(conversation_id, [])
        wanted = {(account_id, id_) for id_ in (conversation_id, *parts)}
        # Nobody adds a part while the conversation is locked: what is found then is all.
        if wanted <= asked:
            return held
        asked |= wanted
        held |= await conversations.lock(tx, wanted)


@router.post("/conversations/{conversation_id}/spam")
async def mark_spam(
    *, who: Spammer, db: Db, once: Idempotency, response: Response, conversation_id: UUID
) -> ConversationSnapshot:
    """Say that a conversation is spam: its contact is blocked, and it is resolved and archived."""
    async with db.begin() as tx:
        await once.start(tx)
        row = await lists.conversation(tx, who.viewer, str(conversation_id))
        if row is None:
            raise no_conversation()
        # Contacts are locked before conversations, by every door.
        person = await profiles.read(tx, who.account_id, row["contact_id"], lock="edit")
        change = await apply(tx, who, await locked(tx, who, conversation_id), removal.mark_spam)
        if person is not None:
            await write_contact(tx, who, edit(profiles.person_of(person), {"blocked": True}, {}))
        response.headers[SEQUENCE] = str(change.conversation.state.sequence)
        return await once.finish(tx, change.conversation.state)

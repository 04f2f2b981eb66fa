"""Two conversations of one contact: made one, and told apart again."""

from typing import Annotated, Final
from uuid import UUID

import psycopg.errors
from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel

from relevo.chassis import timers
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Tx
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.problems import FieldError, Problem
from relevo.contracts.base import Time, new_id, now
from relevo.contracts.permissions import Permission
from relevo.contracts.snapshots import ConversationSnapshot
from relevo.conversation import lists
from relevo.conversation.api.common import SEQUENCE, Body, Reader, can_be_undone, no_conversation, problem_of
from relevo.conversation.changes import Changes
from relevo.conversation.domain import joining
from relevo.conversation.domain.state import Change, Conversation, Refused
from relevo.conversation.resolutions import SURVEY
from relevo.conversation.store import conversations
from relevo.conversation.store import joins as store
from relevo.conversation.store.merges import UNDOABLE
from relevo.conversation.store.rows import Row
from relevo.kernel.access import ConversationFacts, may_see

router = APIRouter(tags=["conversations"])

Merger = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_MERGE))]
_MOST: Final = 200
"""Parts of one conversation."""


class MergeConversation(Body):
    """The conversation that becomes part of the one in the address, and is over then."""

    other_id: UUID


class ConversationMerge(BaseModel):
    """A merge. `place`: the `sequence` in the base where the other's messages are shown."""

    id: str
    base_id: str
    other_id: str
    other_number: int
    place: int
    author: str
    author_name: str
    merged_at: Time
    undoable_until: Time


class ConversationMerges(BaseModel):
    """Merges into a conversation, the newest first."""

    items: list[ConversationMerge]


class MergedConversations(BaseModel):
    """What came of a merge: the conversation that goes on."""

    merge_id: str
    conversation: ConversationSnapshot


class SplitConversations(BaseModel):
    """What came of undoing a merge: the conversation that had gone on, and the one that is by itself again."""

    conversation: ConversationSnapshot
    restored: ConversationSnapshot


@router.get("/conversations/{conversation_id}/merges")
async def list_conversation_merges(who: Reader, db: Db, conversation_id: UUID) -> ConversationMerges:
    """The conversations that became part of this one, the newest first."""
    async with db.begin() as tx:
        if await lists.conversation(tx, who.viewer, str(conversation_id)) is None:
            raise no_conversation()
        rows = await store.of_base(tx, who.account_id, str(conversation_id))
    return ConversationMerges(items=[_shown(row) for row in rows])


@router.post("/conversations/{conversation_id}/merge", status_code=201)
async def merge_conversations(
    *, who: Merger, db: Db, once: Idempotency, response: Response, conversation_id: UUID, body: MergeConversation
) -> MergedConversations:
    """Make another conversation of the same contact part of this one. It can be undone for thirty days.

    What was said there is shown here, in its own order, where this one tells of the merge. The other is resolved and
    archived; what its customer writes goes where the inbox would put it without that one.
    """
    if body.other_id == conversation_id:
        raise Problem(
            422,
            "merge_with_itself",
            es="Una conversación no se combina consigo misma: elige otra.",
            en="A conversation is not merged with itself: choose another one.",
            errors=(FieldError("/other_id", es="Elige otra conversación.", en="Choose another conversation."),),
        )
    account, moment = who.account_id, now()
    async with db.begin() as tx:
        await once.start(tx)
        base, other = await _both(tx, who, str(conversation_id), str(body.other_id))
        if base.state.merged_into is not None or other.state.merged_into is not None:
            raise problem_of(joining.over())
        parts = await store.parts(tx, account, [base.state.id, other.state.id])
        if other.state.id in parts:
            raise Problem(
                409,
                "has_parts",
                es="Otras conversaciones ya forman parte de esa: combínalas al revés.",
                en="Other conversations are part of that one already: merge them the other way round.",
            )
        if len(parts.get(base.state.id, ())) >= _MOST:
            raise Problem(
                409,
                "too_many_parts",
                es=f"Una conversación reúne como mucho otras {_MOST}.",
                en=f"At most {_MOST} others become part of a conversation.",
            )
        if await store.messages_wait(tx, account, other.state.id):
            raise Problem(
                409,
                "messages_wait",
                es="En la otra hay mensajes programados: espera a que salgan o quítalos.",
                en="Messages wait in the other one to be sent: wait for them, or take them back.",
            )
        try:
            record, kept, gone = joining.join(base, other, new_id(), moment)
        except Refused as refused:
            raise problem_of(refused) from None
        await _written(tx, who, [base, other], [gone, kept])
        await timers.cancel(tx, SURVEY, other.state.id)  # nobody is asked how a merge served them
        await store.add(tx, account, record, actor=who.actor, actor_name=who.name, at=moment)
        response.headers[SEQUENCE] = str(kept.conversation.state.sequence)
        return await once.finish(tx, MergedConversations(merge_id=record.id, conversation=kept.conversation.state))


@router.post("/conversations/merges/{merge_id}/undo")
async def undo_conversation_merge(
    *, who: Merger, db: Db, once: Idempotency, response: Response, merge_id: UUID
) -> SplitConversations:
    """Tell two conversations apart again: the other is by itself as before, open if it was. What came since stays here."""
    account, moment = who.account_id, now()
    try:
        async with db.begin() as tx:
            await once.start(tx)
            named = can_be_undone(await store.read(tx, account, str(merge_id)), moment)
            base, other = await _both(tx, who, named["base_id"], named["other_id"], part=True)
            record = store.join_of(can_be_undone(await store.read(tx, account, str(merge_id)), moment))
            kept, back = joining.split(base, other, record, moment)
            await _written(tx, who, [base, other], [kept, back])
            await store.undone(tx, account, record, moment)
            response.headers[SEQUENCE] = str(kept.conversation.state.sequence)
            answer = SplitConversations(conversation=kept.conversation.state, restored=back.conversation.state)
            return await once.finish(tx, answer)
    except psycopg.errors.UniqueViolation:
        raise Problem(
            409,
            "conversation_goes_on",
            es="El cliente tiene ya otra conversación abierta en esa bandeja: resuélvela antes.",
            en="The customer has another open conversation on that inbox by now: resolve it first.",
        ) from None


async def _both(
    tx: Tx, who: Principal, base_id: str, other_id: str, *, part: bool = False
) -> tuple[Conversation, Conversation]:
    """Both, locked; who sees the base sees its part. Raises Problem 404."""
    held = await conversations.lock(tx, [(who.account_id, base_id), (who.account_id, other_id)])
    found = []
    for id_ in (base_id, other_id):
        one = held.get((who.account_id, id_))
        seen = one is not None and may_see(who.viewer, ConversationFacts.of(who.account_id, one.state.access))
        if one is None or not (seen or (part and id_ == other_id)):
            raise no_conversation()
        found.append(one)
    return found[0], found[1]


async def _written(tx: Tx, who: Principal, held: list[Conversation], acts: list[Change]) -> None:
    changes = Changes({(one.state.account_id, one.state.id): one for one in held})
    for act in acts:
        changes.apply(act, actor=who.actor)
    await changes.save(tx)


def _shown(row: Row) -> ConversationMerge:
    return ConversationMerge(
        id=row["id"],
        base_id=row["base_id"],
        other_id=row["other_id"],
        other_number=row["other_number"],
        place=row["place"],
        author=row["actor"],
        author_name=row["actor_name"],
        merged_at=row["merged_at"],
        undoable_until=row["merged_at"] + UNDOABLE,
    )

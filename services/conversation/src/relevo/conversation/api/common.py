"""What the routes of this service share: who may ask, how an act on a conversation is carried out, how errors read."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from datetime import datetime
from typing import Annotated, Final
from uuid import UUID

from fastapi import Depends, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints

from relevo.chassis import paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Tx
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.problems import FieldError, Problem
from relevo.contracts.base import now
from relevo.contracts.permissions import Permission
from relevo.contracts.snapshots import ConversationSnapshot
from relevo.conversation.changes import Changes
from relevo.conversation.domain import joining
from relevo.conversation.domain.state import Change, Conversation, Refused
from relevo.conversation.store import conversations
from relevo.conversation.store.merges import UNDOABLE
from relevo.conversation.store.rows import Key, Row
from relevo.kernel.access import ConversationFacts, may_see
from relevo.kernel.text import clean

SEQUENCE: Final = "Relevo-Sequence"

Reader = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_READ))]
"""Whoever may read conversations: those that the access rule shows them."""

Act = Callable[[Conversation, datetime], Change]
"""An act on a conversation at a moment. Raises Refused."""


class Body(BaseModel):
    """A body of a request; what it does not know is refused."""

    model_config = ConfigDict(extra="forbid")


Remark = Annotated[str, StringConstraints(max_length=500), AfterValidator(lambda value: clean(value).strip())]
"""A sentence or two that somebody may write beside something."""


class ActOnce:
    """Carries out the one act on one conversation that a request is."""

    def __init__(self, db: Db, once: Idempotency, response: Response) -> None:
        self._db, self._once, self._response = db, once, response

    async def __call__(self, who: Principal, conversation_id: UUID, act: Act) -> ConversationSnapshot:
        """Carry it out, once; answers the conversation after it. Raises Problem."""

        async def as_it_is(_: Tx) -> Act:
            return act

        return await self.prepared(who, conversation_id, as_it_is)

    async def prepared(
        self, who: Principal, conversation_id: UUID, make: Callable[[Tx], Awaitable[Act]]
    ) -> ConversationSnapshot:
        """The same for an act that must be looked up for first, before the conversation is locked."""
        async with self._db.begin() as tx:
            await self._once.start(tx)
            act = await make(tx)
            change = await apply(tx, who, await locked(tx, who, conversation_id), act)
            state: ConversationSnapshot = change.conversation.state
            self._response.headers[SEQUENCE] = str(state.sequence)
            return await self._once.finish(tx, state)


async def _acting(db: Db, once: Idempotency, response: Response) -> ActOnce:
    return ActOnce(db, once, response)


Acting = Annotated[ActOnce, Depends(_acting)]


async def locked(tx: Tx, who: Principal, conversation_id: UUID) -> Conversation:
    """The conversation, locked. Raises Problem 404 when it is not there for this principal, 409 when it is part of another one."""
    return of_locked(who, await conversations.lock(tx, [(who.account_id, str(conversation_id))]), conversation_id)


def of_locked(who: Principal, held: Mapping[Key, Conversation], conversation_id: UUID) -> Conversation:
    """One of the conversations that are locked. Raises Problem as `locked` does."""
    conversation = held.get((who.account_id, str(conversation_id)))
    if conversation is None:
        raise no_conversation()
    if not may_see(who.viewer, ConversationFacts.of(who.account_id, conversation.state.access)):
        raise no_conversation()
    if conversation.state.merged_into is not None:
        raise problem_of(joining.over())
    return conversation


async def apply(tx: Tx, who: Principal, conversation: Conversation, act: Act) -> Change:
    """Carry an act out on a conversation that is locked, and write what came of it. Raises Problem 409 or 422."""
    try:
        change = act(conversation, now())
    except Refused as refused:
        raise problem_of(refused) from None
    changes = Changes({(conversation.state.account_id, conversation.state.id): conversation})
    changes.apply(change, actor=who.actor)
    await changes.save(tx)
    return change


async def apply_to_all(tx: Tx, who: Principal, ids: Iterable[str], act: Act) -> None:
    """Lock conversations of the principal's account and carry the act out on each, whoever may see them."""
    changes, moment = Changes(await conversations.lock(tx, [(who.account_id, id_) for id_ in ids])), now()
    for _, conversation in sorted(changes.conversations.items()):
        changes.apply(act(conversation, moment), actor=who.actor)
    await changes.save(tx)


def can_be_undone(merge: Row | None, moment: datetime) -> Row:
    """The record of a merge, of contacts or of conversations. Raises Problem 404 or 409."""
    if merge is None or merge["merged_at"] <= moment - UNDOABLE:
        raise Problem(
            404,
            "merge_not_found",
            es="No existe esa combinación, o hace más de treinta días.",
            en="There is no such merge, or it was more than thirty days ago.",
        )
    if merge["undone_at"] is not None:
        raise Problem(409, "merge_undone", es="Esa combinación ya se deshizo.", en="That merge was undone already.")
    return merge


def problem_of(refused: Refused) -> Problem:
    """422 naming the field at fault, or 409 when it is the state."""
    if refused.pointer is None:
        return Problem(409, refused.code, es=refused.es, en=refused.en)
    field = FieldError(refused.pointer, es=refused.es, en=refused.en)
    return Problem(422, refused.code, es=refused.es, en=refused.en, errors=(field,))


def after(cursor: str | None) -> tuple[datetime, str] | None:
    """The place that a cursor of a list by time stands for. Raises Problem 422."""
    if cursor is None:
        return None
    moment, id_ = paging.decode(cursor, str, str)
    try:
        return datetime.fromisoformat(moment), cursor_id(id_)
    except ValueError:
        raise paging.invalid_cursor() from None


def cursor_id(value: str) -> str:
    """The id within a cursor. Raises Problem 422."""
    try:
        return str(UUID(value))
    except ValueError:
        raise paging.invalid_cursor() from None


def agent_of(who: Principal) -> str:
    """The agent who asks. Raises Problem 403 for a key that stands for none."""
    if who.viewer.agent_id is None:
        raise Problem(
            403,
            "not_an_agent",
            es="Esto es de cada agente, y esta clave no representa a ninguno.",
            en="This is each agent's own, and this key stands for none.",
        )
    return who.viewer.agent_id


def no_conversation() -> Problem:
    """404: it does not exist, or not for whoever asks."""
    return Problem(404, "conversation_not_found", es="No existe esa conversación.", en="There is no such conversation.")

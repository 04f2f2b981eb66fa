"""A conversation to take away."""

from collections.abc import Sequence
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import PlainTextResponse

from relevo.chassis import directory
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Tx
from relevo.chassis.http import Db
from relevo.chassis.problems import Problem, language_of
from relevo.contracts.permissions import Permission
from relevo.contracts.snapshots import ConversationSnapshot, MessageSnapshot
from relevo.conversation import lists
from relevo.conversation.api.common import no_conversation
from relevo.conversation.domain.transcript import written
from relevo.conversation.store import joins
from relevo.conversation.store import messages as store
from relevo.conversation.store.conversations import snapshot_of

router = APIRouter(tags=["conversations"])

Forwarder = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_FORWARD))]

_MOST: Final = 5000


@router.get("/conversations/{conversation_id}/transcript", response_class=PlainTextResponse)
async def get_transcript(who: Forwarder, db: Db, request: Request, conversation_id: UUID) -> PlainTextResponse:
    """What the customer has seen of a conversation, as plain text, in the language asked for. Never a private note."""
    async with db.begin() as tx:
        row = await lists.conversation(tx, who.viewer, str(conversation_id))
        if row is None:
            raise no_conversation()
        state = snapshot_of(row)
        said = await messages_of(tx, state)
        account = (await directory.accounts(tx, [who.account_id])).get(who.account_id)
    text = written(state, said, language_of(request), account.time_zone if account else "UTC")
    name = f"attachment; filename=conversation-{state.number}.txt"
    return PlainTextResponse(text, headers={"Content-Disposition": name})


async def messages_of(tx: Tx, state: ConversationSnapshot) -> Sequence[MessageSnapshot]:
    """All that is in a conversation and its parts. Raises Problem 422 when that is too much for one transcript."""
    rows = await joins.page(tx, state.account_id, state.id, _MOST, None, newest_first=False)
    if len(rows) > _MOST:
        raise too_long()
    return [store.message_of(row) for row in rows]


def too_long() -> Problem:
    """422: more than one transcript holds."""
    return Problem(
        422,
        "conversation_too_long",
        es="La conversación es demasiado larga para transcribirla entera: léela por páginas en /messages.",
        en="The conversation is too long for one transcript: read it page by page, at /messages.",
    )

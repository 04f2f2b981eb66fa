"""A conversation to take away."""

from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import PlainTextResponse

from relevo.chassis import directory
from relevo.chassis.auth import Principal, require
from relevo.chassis.http import Db
from relevo.chassis.problems import Problem, language_of
from relevo.contracts.permissions import Permission
from relevo.conversation import lists
from relevo.conversation.api.common import no_conversation
from relevo.conversation.domain.transcript import written
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
        rows = await store.page(tx, who.account_id, str(conversation_id), _MOST, None, newest_first=False)
        account = (await directory.accounts(tx, [who.account_id])).get(who.account_id)
    if len(rows) > _MOST:
        raise Problem(
            422,
            "conversation_too_long",
            es="La conversación es demasiado larga para transcribirla entera: léela por páginas en /messages.",
            en="The conversation is too long for one transcript: read it page by page, at /messages.",
        )
    state = snapshot_of(row)
    zone = account.time_zone if account else "UTC"
    text = written(state, map(store.message_of, rows), language_of(request), zone)
    name = f"attachment; filename=conversation-{state.number}.txt"
    return PlainTextResponse(text, headers={"Content-Disposition": name})

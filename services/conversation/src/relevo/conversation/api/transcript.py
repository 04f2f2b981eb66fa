"""A conversation to take away: as text, or as PDF."""

import time
from collections.abc import Sequence
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import PlainTextResponse

from relevo.chassis import directory
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Tx
from relevo.chassis.http import Db, Rt
from relevo.chassis.problems import Language, Problem, language_of, unavailable
from relevo.contracts.permissions import Permission
from relevo.contracts.snapshots import ConversationSnapshot, MessageSnapshot
from relevo.conversation import lists, printing
from relevo.conversation.api.common import no_conversation
from relevo.conversation.domain.transcript import Transcript, transcript, written
from relevo.conversation.store import joins
from relevo.conversation.store import messages as store
from relevo.conversation.store.conversations import snapshot_of
from relevo.kernel.rate import Buckets

router = APIRouter(tags=["conversations"])

Forwarder = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_FORWARD))]

_MOST: Final = 5000
_BUCKETS: Final = "print_buckets"


@router.get("/conversations/{conversation_id}/transcript", response_class=PlainTextResponse)
async def get_transcript(who: Forwarder, db: Db, request: Request, conversation_id: UUID) -> PlainTextResponse:
    """What the customer has seen of a conversation, as plain text, in the language asked for. Never a private note."""
    async with db.begin() as tx:
        state, text = await _read(tx, who, conversation_id, language_of(request))
    return PlainTextResponse(written(text), headers=_named(state, "txt"))


@router.get(
    "/conversations/{conversation_id}/transcript.pdf",
    response_class=Response,
    responses={200: {"content": {"application/pdf": {"schema": {"type": "string", "format": "binary"}}}}},
)
async def get_transcript_pdf(who: Forwarder, db: Db, runtime: Rt, request: Request, conversation_id: UUID) -> Response:
    """The same as PDF: attachments by name, emoji in black and white. Never a private note."""
    async with db.begin() as tx:
        state, text = await _read(tx, who, conversation_id, language_of(request))
    made = await in_print(runtime, who, text)
    return Response(made, media_type="application/pdf", headers=_named(state, "pdf"))


async def _read(
    tx: Tx, who: Principal, conversation_id: UUID, language: Language
) -> tuple[ConversationSnapshot, Transcript]:
    row = await lists.conversation(tx, who.viewer, str(conversation_id))
    if row is None:
        raise no_conversation()
    state = snapshot_of(row)
    said = await messages_of(tx, state)
    account = (await directory.accounts(tx, [who.account_id])).get(who.account_id)
    return state, transcript(state, said, language, account.time_zone if account else "UTC")


def _named(state: ConversationSnapshot, kind: str) -> dict[str, str]:
    return {"Content-Disposition": f"attachment; filename=conversation-{state.number}.{kind}"}


async def in_print(runtime: Rt, who: Principal, text: Transcript) -> bytes:
    """A transcript as PDF. No transaction should be open meanwhile: it takes seconds. Raises Problem 422, 429 or 503."""
    if printing.too_long(text):
        raise too_long()
    buckets: Buckets = runtime.extra.setdefault(_BUCKETS, Buckets(per_second=1 / 10, burst=10))
    if wait := buckets.take(f"{who.account_id}/{who.id}", time.monotonic()):
        raise Problem(
            429,
            "rate_limited",
            es="Has pedido muchos PDF seguidos: espera un momento.",
            en="You have asked for many PDFs in a row: wait a moment.",
            headers={"Retry-After": str(int(wait) + 1)},
        )
    try:
        return await printing.printed(text)
    except printing.NotPrinted as error:
        runtime.log.warning("not_printed", reason=str(error))
        raise unavailable(
            "not_printed",
            es="Ahora no se pudo hacer el PDF: inténtalo de nuevo en un momento, o pide el texto.",
            en="The PDF could not be made now: try again in a moment, or ask for the text.",
            retry_after=10,
        ) from None


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

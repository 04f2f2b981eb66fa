"""A conversation sent by e-mail: to its customer, to a colleague, to anybody who is to know of it."""

import base64
import time
from datetime import timedelta
from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import AfterValidator, BaseModel, Field, StringConstraints
from pydantic_core import PydanticCustomError

from relevo.chassis import directory
from relevo.chassis.auth import Principal, require, viewer_of
from relevo.chassis.database import Tx
from relevo.chassis.http import Db, Rt
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.problems import FieldError, Language, Problem
from relevo.contracts.base import new_id, now
from relevo.contracts.identity import AccountState
from relevo.contracts.notification import MailFile, Notify
from relevo.contracts.permissions import Permission
from relevo.contracts.snapshots import ConversationSnapshot
from relevo.conversation import lists
from relevo.conversation.api.common import SEQUENCE, Body, apply, locked, no_conversation
from relevo.conversation.api.transcript import in_print, messages_of, too_long
from relevo.conversation.domain.forwarding import forward
from relevo.conversation.domain.transcript import Transcript, transcript, written
from relevo.conversation.store.conversations import snapshot_of
from relevo.kernel.access import ConversationFacts, may
from relevo.kernel.identity import InvalidIdentity, normal_email
from relevo.kernel.rate import Buckets
from relevo.kernel.text import clean

router = APIRouter(tags=["conversations"])

Forwarder = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_FORWARD))]

_LONGEST: Final = 400_000
"""Bytes of a transcript in an e-mail; the bus takes a megabyte in all."""
_LARGEST_FILE: Final = 320_000
"""Bytes of a PDF beside it: a third more as the bus carries it."""
_GOOD_FOR: Final = timedelta(days=1)
_BUCKETS: Final = "forward_buckets"


def _address(value: str) -> str:
    try:
        return normal_email(value)
    except InvalidIdentity:
        es = "No es una dirección de correo: escríbela como nombre@ejemplo.com."
        en = "Not an e-mail address: write it as name@example.com."
        raise PydanticCustomError("email", "{en}", {"es": es, "en": en}) from None


Address = Annotated[str, StringConstraints(max_length=320), AfterValidator(_address)]


class Forwarding(Body):
    """To whom a conversation is sent, and what is said of it."""

    to: list[Address] = Field(
        default=[], max_length=5, description="E-mail addresses; none: the customer's own, as it is known."
    )
    comment: Annotated[str, StringConstraints(max_length=5000), AfterValidator(clean)] = Field(
        default="", description="Stands above the transcript."
    )
    message_id: UUID | None = Field(default=None, description="Only this message, one that the customer has seen.")
    with_notes: bool = Field(
        default=False, description="Private notes too: only to colleagues who may see the conversation."
    )
    pdf: bool = Field(default=False, description="Attach it as PDF too. Private notes are in no PDF: not both.")
    language: Language | None = Field(default=None, description="Of the e-mail; null: the account's.")


class Forwarded(BaseModel):
    """What waits to be sent; notification tries for a day."""

    addresses: list[str]


@router.post("/conversations/{conversation_id}/forward", status_code=202)
async def forward_conversation(
    *,
    who: Forwarder,
    db: Db,
    runtime: Rt,
    once: Idempotency,
    response: Response,
    conversation_id: UUID,
    body: Forwarding,
) -> Forwarded:
    """Send a conversation, or one message of it, by e-mail: what its customer has seen, and never a private note but to colleagues."""
    if body.with_notes:
        await require(Permission.CONVERSATIONS_NOTE)(who)
        if body.pdf:
            raise _bad(
                "notes_in_no_pdf",
                "/pdf",
                "Un PDF nunca lleva notas internas: pide una cosa o la otra.",
                "A PDF never has private notes: ask for one or the other.",
            )
    file = await _file(db, runtime, who, conversation_id, body) if body.pdf else None
    async with db.begin() as tx:
        await once.start(tx)
        conversation = await locked(tx, who, conversation_id)
        state = conversation.state
        addresses = list(dict.fromkeys(body.to or ([state.contact.email] if state.contact.email else [])))
        if not addresses:
            raise _bad(
                "no_address",
                "/to",
                "No se conoce el correo del cliente: indica una dirección.",
                "The customer's e-mail address is not known: give one.",
            )
        if body.with_notes:
            await _colleagues(tx, who, state, addresses)
        _not_too_often(runtime, who, len(addresses))
        account = (await directory.accounts(tx, [who.account_id])).get(who.account_id)
        told = await _told(tx, state, account, body)
        language, text = told.language, written(told)
        if len(text.encode()) > _LONGEST:
            raise too_long()
        change = await apply(
            tx, who, conversation, lambda c, moment: forward(c, addresses, moment, with_notes=body.with_notes)
        )
        for address in addresses:
            command = Notify(
                dedup_key=f"forward:{new_id()}",
                kind="transcript",
                address=address,
                language=language,
                template="transcript",
                data={
                    "account": account.name if account else "Relevo",
                    "number": state.number,
                    "comment": f"{body.comment.strip()}\n\n" if body.comment.strip() else "",
                    "transcript": text,
                },
                conversation_id=state.id,
                useless_after=now() + _GOOD_FOR,
                file=file,
            )
            tx.emit(command, account=who.account_id, entity=state.id, actor=who.actor)
        response.headers[SEQUENCE] = str(change.conversation.state.sequence)
        return await once.finish(tx, Forwarded(addresses=addresses))


async def _told(tx: Tx, state: ConversationSnapshot, account: AccountState | None, body: Forwarding) -> Transcript:
    """What is sent of a conversation. Raises Problem 422."""
    said = await messages_of(tx, state)
    if body.message_id is not None:
        said = [one for one in said if one.id == str(body.message_id) and one.kind in ("incoming", "outgoing")]
        if not said:
            raise _bad(
                "unknown_message",
                "/message_id",
                "No es un mensaje que el cliente haya visto en esta conversación.",
                "Not a message of this conversation that the customer has seen.",
            )
    language: Language = body.language or (account.language if account else "es")
    return transcript(state, said, language, account.time_zone if account else "UTC", notes=body.with_notes)


async def _file(db: Db, runtime: Rt, who: Principal, conversation_id: UUID, body: Forwarding) -> MailFile:
    """What is sent, as PDF, made before the conversation is locked. Raises Problem."""
    async with db.begin() as tx:
        row = await lists.conversation(tx, who.viewer, str(conversation_id))
        if row is None:
            raise no_conversation()
        state = snapshot_of(row)
        account = (await directory.accounts(tx, [who.account_id])).get(who.account_id)
        told = await _told(tx, state, account, body)
    made = await in_print(runtime, who, told)
    if len(made) > _LARGEST_FILE:
        raise too_long()
    return MailFile(name=f"conversation-{state.number}.pdf", content=base64.b64encode(made).decode())


async def _colleagues(tx: Tx, who: Principal, state: ConversationSnapshot, addresses: list[str]) -> None:
    """Raises Problem 422 naming each address that is not of a colleague who may read this conversation's notes."""
    roles = {role.id: role for role in await directory.roles(tx, who.account_id)}
    facts = ConversationFacts.of(who.account_id, state.access)
    known = {
        agent.email.lower()
        for agent in await directory.agents(tx, who.account_id)
        if agent.active
        and agent.role_id in roles
        and may(viewer_of(agent, roles[agent.role_id]), Permission.CONVERSATIONS_READ, facts)
    }
    es = "Las notas internas solo se envían a colegas que pueden ver la conversación."
    en = "Private notes go only to colleagues who may see the conversation."
    errors = [FieldError(f"/to/{n}", es=es, en=en) for n, one in enumerate(addresses) if one.lower() not in known]
    if errors:
        raise Problem(422, "notes_stay_inside", es=es, en=en, errors=errors)


def _not_too_often(runtime: Rt, who: Principal, mails: int) -> None:
    buckets: Buckets = runtime.extra.setdefault(_BUCKETS, Buckets(per_second=1 / 30, burst=20))
    wait = max(buckets.take(f"{who.account_id}/{who.id}", time.monotonic()) for _ in range(mails))
    if wait:
        raise Problem(
            429,
            "rate_limited",
            es="Has enviado muchas conversaciones seguidas: espera un momento.",
            en="You have sent many conversations in a row: wait a moment.",
            headers={"Retry-After": str(int(wait) + 1)},
        )


def _bad(code: str, pointer: str, es: str, en: str) -> Problem:
    return Problem(422, code, es=es, en=en, errors=(FieldError(pointer, es=es, en=en),))

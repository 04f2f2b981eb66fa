"""Conversations that the team begins."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import AfterValidator, StringConstraints

from relevo.chassis import directory
from relevo.chassis.auth import Principal, require
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.problems import FieldError, Problem, unavailable
from relevo.contracts.base import new_id, now
from relevo.contracts.permissions import Permission
from relevo.contracts.snapshots import ConversationSnapshot
from relevo.conversation import store
from relevo.conversation.api.common import SEQUENCE, Body, locked, problem_of
from relevo.conversation.api.messages import Said
from relevo.conversation.changes import Changes
from relevo.conversation.domain import life, reach, writing
from relevo.conversation.domain.contacts import Sighting
from relevo.conversation.domain.state import Refused, Writing
from relevo.conversation.store import profiles
from relevo.conversation.store.rows import LostRace
from relevo.kernel.access import ConversationFacts, may_see
from relevo.kernel.identity import sender_key
from relevo.kernel.text import clean

router = APIRouter(tags=["conversations"])

Starter = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_CREATE))]


class NewConversation(Body):
    """The first words to a contact, on an inbox that reaches them."""

    contact_id: UUID
    inbox_id: UUID
    text: Said
    subject: Annotated[
        str, StringConstraints(max_length=998), AfterValidator(lambda value: " ".join(clean(value).split()))
    ] = ""


@router.post("/conversations", status_code=201)
async def start_conversation(
    *, who: Starter, db: Db, once: Idempotency, response: Response, body: NewConversation
) -> ConversationSnapshot:
    """Write to a contact first. Where the inbox keeps one conversation a person, theirs is reopened if it is resolved.

    One that goes on already is 409 with its id in `conversation_id`, if one may see it.
    """
    await require(Permission.CONVERSATIONS_REPLY)(who)
    try:
        async with db.begin() as tx:
            await once.start(tx)
            row = await profiles.read(tx, who.account_id, str(body.contact_id), lock="edit")
            if row is None:
                raise _unknown("/contact_id", "unknown_contact", "No existe ese contacto.", "There is no such contact.")
            inbox = (await directory.inboxes(tx, [str(body.inbox_id)])).get(str(body.inbox_id))
            mine = who.viewer.inbox_ids is None or str(body.inbox_id) in who.viewer.inbox_ids
            if inbox is None or inbox.account_id != who.account_id or not mine:
                raise _unknown("/inbox_id", "unknown_inbox", "No existe esa bandeja.", "There is no such inbox.")
            contact = profiles.person_of(row).snapshot
            channels = await store.contacts.channels(tx, who.account_id, contact.id)
            known = next((one["source_id"] for one in channels if one["inbox_id"] == inbox.id), None)
            source = reach.source_of(inbox, contact, known)
            key = sender_key(source)
            seen = Sighting(who.account_id, inbox.id, source, key)
            (found,) = await store.contacts.find_senders(tx, [seen])
            if found.contact is not None and found.contact.id != contact.id:
                raise Problem(
                    409,
                    "address_is_of_another",
                    es="Desde esa dirección escribe otro contacto: unifica los dos contactos.",
                    en="Another contact writes from that address: merge the two contacts.",
                )
            if not found.channel_known:
                await store.contacts.add_channels(tx, [(seen, contact)], now())
            keys = [(who.account_id, found.conversation_id)] if found.conversation_id else []
            changes = Changes(await store.conversations.lock(tx, keys))
            present = changes.conversations.get(keys[0]) if keys else None
            moment = now()
            match life.destination(present, inbox.reopen):
                case "append":
                    assert present
                    seen_by = may_see(who.viewer, ConversationFacts.of(present.state.account_id, present.state.access))
                    raise Problem(
                        409,
                        "conversation_goes_on",
                        es="Ya hay una conversación abierta con este contacto en esta bandeja: continúa en ella.",
                        en="There is an open conversation with this contact on this inbox: go on in that one.",
                        extra={"conversation_id": present.state.id} if seen_by else {},
                    )
                case "reopen":
                    assert present
                    await locked(tx, who, UUID(present.state.id))
                    begun = life.reopen(present, moment)
                case "open":
                    numbers = await store.conversations.new_numbers(tx, {who.account_id: 1})
                    begun = life.begin(
                        id=new_id(),
                        number=numbers[who.account_id][0],
                        inbox=inbox,
                        contact=contact,
                        source_id=source,
                        recipient_key=key,
                        occurred_at=moment,
                        now=moment,
                        subject=body.subject,
                    )
            changes.apply(begun, actor=who.actor)
            said = Writing(new_id(), body.text, who.actor, who.name, human=who.kind == "agent")
            written = writing.reply(begun.conversation, said, moment)
            changes.apply(written, actor=who.actor)
            await changes.save(tx)
            state = written.conversation.state
            response.headers[SEQUENCE] = str(state.sequence)
            return await once.finish(tx, state)
    except Refused as refused:
        raise problem_of(refused) from None
    except LostRace:
        raise unavailable(
            "written_at_once",
            es="Alguien escribe a este contacto en este mismo momento: inténtalo de nuevo.",
            en="Somebody writes to this contact at this very moment: try again.",
        ) from None


def _unknown(pointer: str, code: str, es: str, en: str) -> Problem:
    return Problem(422, code, es=es, en=en, errors=(FieldError(pointer, es=es, en=en),))

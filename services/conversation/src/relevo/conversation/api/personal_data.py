"""Personal data: everything there is of one person, told and erased."""

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from relevo.chassis import erasing
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Database, Tx
from relevo.chassis.erasing import Person
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.problems import Problem
from relevo.contracts.base import Time, new_id, now
from relevo.contracts.catalogue import HOLDERS
from relevo.contracts.conversation import ContactErased
from relevo.contracts.erasure import ErasePerson, SenderRef
from relevo.contracts.permissions import Permission
from relevo.conversation.api.contacts import contact_out, no_contact
from relevo.conversation.changes import Changes
from relevo.conversation.domain.erasure import erased, without_person
from relevo.conversation.domain.life import resolve
from relevo.conversation.domain.state import Conversation
from relevo.conversation.store import contacts as channels
from relevo.conversation.store import conversations, erasures, merges, messages, notes, profiles, surveys

router = APIRouter(tags=["contacts"])

Eraser = Annotated[Principal, Depends(require(Permission.CONTACTS_ERASE))]

_PAGE = 500


class ErasurePart(BaseModel):
    """What one service does: `data`, its tables, log and streams; `streams`, those that several services fill, after it."""

    service: str
    task: Literal["data", "streams"]
    done_at: Time | None


class Erasure(BaseModel):
    """An erasure. Lists, search and conversations show nothing of the person at once; `done_at` is when no log, stream,
    or other service held anything either.
    """

    contact_id: str
    author: str
    author_name: str
    progress: float
    asked_at: Time
    done_at: Time | None
    services: list[ErasurePart]


@router.get(
    "/contacts/{contact_id}/personal-data",
    response_class=StreamingResponse,
    responses={200: {"content": {"application/json": {"schema": {"type": "object"}}}, "description": "All of it"}},
)
async def export_personal_data(who: Eraser, db: Db, contact_id: UUID) -> StreamingResponse:
    """Everything that is kept of one person: profile, channels, notes, conversations with their messages, as JSON.

    Private notes are among it: what is written about a person is theirs to know. Written while it is read.
    """
    account, id_ = who.account_id, str(contact_id)
    async with db.begin() as tx:
        row = await profiles.read(tx, account, id_)
        if row is None:
            raise no_contact()
        profile = contact_out(row).model_dump(mode="json")
        found = [dict(one) for one in await channels.channels(tx, account, id_)]
        ids = sorted(await merges.conversations_of(tx, account, id_))

    async def parts() -> AsyncIterator[str]:
        yield f'{{"contact": {_json(profile)}, "channels": {_json(found)}, "notes": ['
        async for text in _joined(_notes(db, account, id_)):
            yield text
        yield '], "conversations": ['
        for at, conversation_id in enumerate(ids):
            async with db.begin() as tx:
                held = await conversations.lock(tx, [(account, conversation_id)])
            for conversation in held.values():
                state = conversation.state.model_dump(mode="json", exclude={"contact"})
                yield f'{", " if at else ""}{{"conversation": {_json(state)}, "messages": ['
                async for text in _joined(_messages(db, account, conversation_id)):
                    yield text
                yield f'], "surveys": {_json(await _surveys(db, account, conversation_id))}}}'
        yield "]}"

    headers = {"Content-Disposition": f'attachment; filename="contact-{id_}.json"'}
    return StreamingResponse(parts(), media_type="application/json", headers=headers)


@router.post("/contacts/{contact_id}/erase", status_code=202)
async def erase_contact(*, who: Eraser, db: Db, once: Idempotency, contact_id: UUID) -> Erasure:
    """Erase a person for ever: who they are, how they are reached, what was written to, by and about them.

    Open conversations are resolved; conversations stay, nameless and empty, so that numbers stay what they were. Who
    writes again is a new contact. This cannot be undone. Other services hear of it and do the same.
    """
    account, id_ = who.account_id, str(contact_id)
    async with db.begin() as tx:
        await once.start(tx)
        row = await profiles.read(tx, account, id_, lock="delete")
        if row is None:
            raise no_contact()
        before = await erasures.read(tx, account, id_)
        if before is None:
            person = profiles.person_of(row)
            nobody = erased(person)
            also = await erasures.also(tx, account, id_)
            ids = sorted(await merges.conversations_of(tx, account, id_))
            deleted = await erasures.deleted(tx, account, [id_, *also])
            told = ErasePerson(
                erasure_id=new_id(),
                contact_id=id_,
                merged_ids=tuple(also),
                conversation_ids=(*ids, *deleted),
                senders=tuple(
                    SenderRef(inbox_id=inbox, sender_key=key)
                    for inbox, key in await erasures.senders(tx, account, [id_, *also], ids)
                ),
                asked_at=now(),
            )
            whom = Person.named(account, told)
            await profiles.update(tx, [nobody])
            known = [value for value in (person.email, person.phone, person.identifier) if value]
            await erasures.erase(tx, whom, known)
            await _close(tx, who, ids, nobody)
            await erasures.add(tx, account, told, actor=who.actor, actor_name=who.name)
            await erasing.forget_answers(tx, whom)
            await erasing.add(tx, account, told)
            tx.emit(
                ContactErased(contact_id=id_, conversation_ids=tuple(ids), merged_ids=tuple(also)),
                account=account,
                entity=id_,
                actor=who.actor,
                sequence=nobody.sequence,
            )
            tx.emit(told, account=account, entity=id_, actor=who.actor)
        return await once.finish(tx, await _erasure(tx, account, id_))


@router.get("/contacts/{contact_id}/erasure")
async def get_contact_erasure(who: Eraser, db: Db, contact_id: UUID) -> Erasure:
    """How far the erasure of a person is."""
    async with db.begin() as tx:
        return await _erasure(tx, who.account_id, str(contact_id))


async def _close(tx: Tx, who: Principal, ids: list[str], nobody: Any) -> None:
    held = await conversations.lock(tx, [(who.account_id, id_) for id_ in ids])
    bare = {
        key: Conversation(without_person(one.state, nobody), one.recipient_key, one.exclusive)
        for key, one in held.items()
    }
    changes, moment = Changes(bare), now()
    for key in sorted(bare):
        if bare[key].unresolved:
            changes.apply(resolve(bare[key], moment), actor=who.actor)
    await changes.save(tx)


async def _erasure(tx: Tx, account_id: str, contact_id: str) -> Erasure:
    row = await erasures.read(tx, account_id, contact_id)
    if row is None:
        raise Problem(404, "erasure_not_found", es="Ese contacto no se ha borrado.", en="That contact was not erased.")
    parts = await erasures.parts(tx, account_id, contact_id)
    done = sum(part["done_at"] is not None for part in parts)
    return Erasure(
        contact_id=contact_id,
        author=row["actor"],
        author_name=row["actor_name"],
        progress=1.0 if row["done_at"] else round(done / (len(HOLDERS) + len(erasures.SWEEPERS)), 4),
        asked_at=row["asked_at"],
        done_at=row["done_at"],
        services=[
            ErasurePart(service=part["service"], task="streams" if part["sweep"] else "data", done_at=part["done_at"])
            for part in parts
        ],
    )


async def _notes(db: Database, account_id: str, contact_id: str) -> AsyncIterator[Any]:
    place: str | None = None
    while True:
        async with db.begin() as tx:
            rows = await notes.page(tx, account_id, contact_id, _PAGE, place)
        for row in rows[:_PAGE]:
            yield dict(row)
        if len(rows) <= _PAGE:
            return
        place = rows[_PAGE - 1]["id"]


async def _messages(db: Database, account_id: str, conversation_id: str) -> AsyncIterator[Any]:
    place: tuple[int, int] | None = None
    while True:
        async with db.begin() as tx:
            rows = await messages.page(tx, account_id, conversation_id, _PAGE, place, newest_first=False)
        for row in rows[:_PAGE]:
            kept = ("id", "kind", "text", "author", "author_name", "attachments", "status", "occurred_at", "created_at")
            yield {name: row[name] for name in kept}
        if len(rows) <= _PAGE:
            return
        place = rows[_PAGE - 1]["sequence"], 0


async def _surveys(db: Database, account_id: str, conversation_id: str) -> list[Any]:
    async with db.begin() as tx:
        found = await surveys.of_conversation(tx, account_id, conversation_id)
    return [{name: getattr(one, name) for name in ("sent_at", "rating", "comment", "answered_at")} for one in found]


async def _joined(values: AsyncIterator[Any]) -> AsyncIterator[str]:
    first = True
    async for value in values:
        yield _json(value) if first else f", {_json(value)}"
        first = False


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)

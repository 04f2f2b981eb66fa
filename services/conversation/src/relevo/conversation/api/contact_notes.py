"""Notes on a contact: what the team should know, never shown to them."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter
from pydantic import AfterValidator, BaseModel, StringConstraints
from pydantic_core import PydanticCustomError

from relevo.chassis import paging
from relevo.chassis.auth import Principal
from relevo.chassis.database import Tx
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.chassis.problems import Problem
from relevo.contracts.base import Time, new_id
from relevo.contracts.permissions import Permission
from relevo.conversation.api.common import Body, cursor_id
from relevo.conversation.api.contacts import ContactReader, ContactWriter, no_contact
from relevo.conversation.store import notes, profiles
from relevo.conversation.store.rows import Row
from relevo.kernel.text import clean

router = APIRouter(tags=["contacts"])


def _written(value: str) -> str:
    text = clean(value)
    if not text.strip():
        es, en = "Escribe algo: una nota no puede estar vacía.", "Write something: a note cannot be empty."
        raise PydanticCustomError("empty_text", "{en}", {"es": es, "en": en})
    return text


NoteText = Annotated[str, StringConstraints(max_length=20_000), AfterValidator(_written)]


class ContactNoteBody(Body):
    """A note."""

    text: NoteText


class ContactNote(BaseModel):
    """A note on a contact."""

    id: str
    contact_id: str
    text: str
    author: str
    author_name: str
    created_at: Time
    edited_at: Time | None


@router.get("/contacts/{contact_id}/notes")
async def list_contact_notes(
    *, who: ContactReader, db: Db, contact_id: UUID, limit: Limit = 50, cursor: Cursor = None
) -> Page[ContactNote]:
    """A contact's notes, the newest first."""
    place = cursor_id(paging.decode(cursor, str)[0]) if cursor else None
    async with db.begin() as tx:
        if await profiles.read(tx, who.account_id, str(contact_id)) is None:
            raise no_contact()
        rows = await notes.page(tx, who.account_id, str(contact_id), limit, place)
    return paging.page(rows, limit, lambda row: (row["id"],), _note)


@router.post("/contacts/{contact_id}/notes", status_code=201)
async def write_contact_note(
    *, who: ContactWriter, db: Db, once: Idempotency, contact_id: UUID, body: ContactNoteBody
) -> ContactNote:
    """Write a note on a contact."""
    async with db.begin() as tx:
        await once.start(tx)
        if await profiles.read(tx, who.account_id, str(contact_id), lock="edit") is None:
            raise no_contact()
        row = await notes.add(
            tx, who.account_id, str(contact_id), id=new_id(), text=body.text, author=who.actor, author_name=who.name
        )
        return await once.finish(tx, _note(row))


@router.patch("/contacts/{contact_id}/notes/{note_id}")
async def edit_contact_note(
    *, who: ContactWriter, db: Db, contact_id: UUID, note_id: UUID, body: ContactNoteBody
) -> ContactNote:
    """Write one's own note anew."""
    async with db.begin() as tx:
        await _own(tx, who, contact_id, note_id)
        return _note(await notes.edit(tx, who.account_id, str(contact_id), str(note_id), body.text))


@router.delete("/contacts/{contact_id}/notes/{note_id}", status_code=204)
async def delete_contact_note(*, who: ContactWriter, db: Db, contact_id: UUID, note_id: UUID) -> None:
    """Delete one's own note; anybody's for who may erase contacts."""
    async with db.begin() as tx:
        await _own(tx, who, contact_id, note_id, or_=Permission.CONTACTS_ERASE)
        await notes.delete(tx, who.account_id, str(contact_id), str(note_id))


async def _own(tx: Tx, who: Principal, contact_id: UUID, note_id: UUID, or_: Permission | None = None) -> None:
    row = await notes.read(tx, who.account_id, str(contact_id), str(note_id))
    if row is None:
        raise Problem(404, "note_not_found", es="No existe esa nota.", en="There is no such note.")
    if row["author"] != who.actor and not (or_ and who.can(or_)):
        raise Problem(
            403,
            "note_of_another",
            es="Esta nota es de otra persona: escribe una tuya.",
            en="This note is another person's: write one of your own.",
        )


def _note(row: Row) -> ContactNote:
    return ContactNote.model_validate(dict(row))

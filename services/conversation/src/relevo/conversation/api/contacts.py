"""Contacts: the people who write to the account, made, read, edited and deleted."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any, Final, Literal
from uuid import UUID

import psycopg.errors
from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel, Field, StringConstraints
from sqlalchemy import ColumnElement

from relevo.chassis import paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Database, Tx
from relevo.chassis.editing import IfMatch, check_match, tag
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency, Once
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.chassis.problems import FieldError, Problem
from relevo.contracts.base import Time, new_id, now
from relevo.contracts.conversation import ContactCreated, ContactDeleted, ContactUpdated
from relevo.contracts.permissions import Permission
from relevo.contracts.snapshots import AttributeValue, ContactSnapshot
from relevo.conversation import labels
from relevo.conversation.api.common import SEQUENCE, Body, after
from relevo.conversation.api.editing import Faults, attribute_values
from relevo.conversation.domain.attributes import Definition
from relevo.conversation.domain.profile import EMPTY, READERS, Edited, Person, edit, label, read_label
from relevo.conversation.domain.state import Refused
from relevo.conversation.store import attributes as definitions
from relevo.conversation.store import contacts as channels
from relevo.conversation.store import merges
from relevo.conversation.store import profiles as store
from relevo.conversation.store.rows import Row
from relevo.conversation.tables import contacts
from relevo.kernel.text import clean

router = APIRouter(tags=["contacts"])

ContactReader = Annotated[Principal, Depends(require(Permission.CONTACTS_READ))]
ContactWriter = Annotated[Principal, Depends(require(Permission.CONTACTS_WRITE))]

_KEYS: Final = ("email", "phone", "identifier")
_c = contacts.c


class ContactChannel(BaseModel):
    """From where a contact writes: an inbox, and the channel's own identifier of the person."""

    inbox_id: str
    source_id: str


class ContactOut(ContactSnapshot):
    """A contact. Its ETag is `"SEQUENCE"`; `last_activity_at` is when they wrote last, to the minute."""

    identifier: str | None = None
    company: str = ""
    city: str = ""
    country: str | None = None
    attributes: Mapping[str, AttributeValue] = {}
    created_at: Time
    last_activity_at: Time | None = None
    erased_at: Time | None = None
    sequence: int


class ContactDetail(ContactOut):
    """A contact with the channels that reach them."""

    channels: list[ContactChannel]


Raw = Annotated[str, StringConstraints(max_length=2000)]
Attributes = Annotated[dict[Annotated[str, StringConstraints(max_length=60)], Any], Field(max_length=100)]


class ContactFields(Body):
    """What people write about a contact."""

    name: Raw | None = None
    email: Raw | None = None
    phone: Raw | None = Field(default=None, description="With its country code: +34600111222.")
    identifier: Raw | None = Field(default=None, description="Theirs in another system; unique within the account.")
    company: Raw | None = None
    city: Raw | None = None
    country: Raw | None = Field(default=None, description="ISO 3166, two letters.")
    language: Raw | None = Field(default=None, description="A language tag: es, es-MX.")
    attributes: Attributes = Field(default={}, description="Custom attributes by key; null takes one away.")


class NewContact(ContactFields):
    """A contact made by hand: a name, an e-mail address, a telephone number or an identifier at least."""

    labels: list[Raw] = Field(default=[], max_length=50)


class ContactEdit(ContactFields):
    """What to change: a field that is left out stays, null empties it."""


class ContactLabels(Body):
    """Labels to put on and to take off; one named in both stays."""

    add: list[Raw] = Field(default=[], max_length=50)
    remove: list[Raw] = Field(default=[], max_length=50)


@router.get("/contacts")
async def list_contacts(
    *,
    who: ContactReader,
    db: Db,
    email: Annotated[str | None, Query(max_length=320)] = None,
    phone: Annotated[str | None, Query(max_length=64, description="With its country code: +34600111222.")] = None,
    identifier: Annotated[str | None, Query(max_length=255)] = None,
    label: Annotated[str | None, Query(max_length=60)] = None,
    order: Annotated[
        store.Order, Query(description="`active`: who wrote last first; those who never wrote are left out.")
    ] = "newest",
    owner: Annotated[UUID | None, Query(description="The agent or team whose customers they are.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[ContactOut]:
    """The contacts of the account, the newest first."""
    faults = Faults()
    conditions: list[ColumnElement[bool]] = [
        _c[name] == faults.read(f"/query/{name}", lambda n=name, v=value: READERS[n](v))  # type: ignore[misc]
        for name, value in (("email", email), ("phone", phone), ("identifier", identifier))
        if value
    ]
    faults.check()
    if owner is not None:
        conditions.append((_c.owner_id == str(owner)) | (_c.owner_team_id == str(owner)))
    async with db.begin() as tx:
        if label:
            conditions.append(_c.labels.contains(await labels.keys(tx, who.account_id, [clean(label)])))
        rows = await store.page(tx, store.page_of_contacts(who.account_id, conditions, limit, after(cursor), order))
    return page_of(rows, limit, order)


@router.get("/contacts/{contact_id}")
async def get_contact(who: ContactReader, db: Db, response: Response, contact_id: UUID) -> ContactDetail:
    """One contact, with the channels that reach them. Their conversations: `GET /conversations?contact=ID`."""
    async with db.begin() as tx:
        row = await store.read(tx, who.account_id, str(contact_id))
        if row is None:
            raise no_contact(await merges.into(tx, who.account_id, str(contact_id)))
        found = await channels.channels(tx, who.account_id, str(contact_id))
    tag(response, row["sequence"])
    return ContactDetail(**contact_out(row).model_dump(), channels=[ContactChannel(**channel) for channel in found])


@router.post("/contacts", status_code=201)
async def create_contact(
    *, who: ContactWriter, db: Db, once: Idempotency, response: Response, body: NewContact
) -> ContactOut:
    """Make a contact. 409 with the other's id when one has this e-mail, phone or identifier already."""
    person = Person(id=new_id(), account_id=who.account_id, created_at=now())
    try:
        async with db.begin() as tx:
            await once.start(tx)
            person = _filled(person, body, await definitions.definitions(tx, who.account_id, "contact"))
            # Labels are held first; what is wrong with the rest was answered by now.
            person = replace(
                person, labels=tuple(await labels.keys(tx, who.account_id, person.labels, used_by=who.actor))
            )
            await store.insert(tx, [person], person.created_at or now())
            tx.emit(
                ContactCreated(contact=person.snapshot, profile=person.profile, origin="manual"),
                account=who.account_id,
                entity=person.id,
                actor=who.actor,
                sequence=1,
            )
            answer = answered(response, person, None)
            return await once.finish(tx, answer)
    except psycopg.errors.UniqueViolation as violation:
        raise await _taken(db, person, violation) from None


@router.patch("/contacts/{contact_id}")
async def edit_contact(
    *, who: ContactWriter, db: Db, response: Response, contact_id: UUID, body: ContactEdit, if_match: IfMatch = None
) -> ContactOut:
    """Change fields of a contact. 409 with the other's id when one has this e-mail, phone or identifier already."""
    person = Person(id=str(contact_id), account_id=who.account_id)
    try:
        async with db.begin() as tx:
            row = await _present(tx, who, contact_id, if_match)
            person = store.person_of(row)
            known = await definitions.definitions(tx, who.account_id, "contact")
            edited = _edited(person, body, known)
            person = edited.person
            await write(tx, who, edited)
            return answered(response, person, row["last_activity_at"])
    except psycopg.errors.UniqueViolation as violation:
        raise await _taken(db, person, violation) from None


@router.delete("/contacts/{contact_id}", status_code=204)
async def delete_contact(*, who: ContactWriter, db: Db, contact_id: UUID, if_match: IfMatch = None) -> None:
    """Delete a contact who never wrote and was never written to, with their notes. 409 for one with messages."""
    async with db.begin() as tx:
        row = await _present(tx, who, contact_id, if_match, lock="delete")
        if await store.has_messages(tx, who.account_id, str(contact_id)):
            raise Problem(
                409,
                "contact_has_messages",
                es="Este contacto tiene conversaciones: combínalo con otro o borra sus datos personales.",
                en="This contact has conversations: merge it with another one, or erase their personal data.",
            )
        await store.delete(tx, who.account_id, str(contact_id))
        tx.emit(
            ContactDeleted(contact_id=str(contact_id)),
            account=who.account_id,
            entity=str(contact_id),
            actor=who.actor,
            sequence=row["sequence"] + 1,
        )


@router.post("/contacts/{contact_id}/labels")
async def change_contact_labels(
    *, who: ContactWriter, db: Db, once: Idempotency, response: Response, contact_id: UUID, body: ContactLabels
) -> ContactOut:
    """Put labels on a contact, take others off."""
    faults = Faults()
    add, remove = (
        [faults.read(f"/{name}/{at}", lambda v=value: read_label(v)) or "" for at, value in enumerate(given)]  # type: ignore[misc]
        for name, given in (("add", body.add), ("remove", body.remove))
    )
    faults.check()

    async def relabel(tx: Tx) -> Callable[[Person], Edited]:
        on = await labels.keys(tx, who.account_id, add, used_by=who.actor)
        off = await labels.keys(tx, who.account_id, remove)
        return lambda person: label(person, on, off)

    return await _change(db, relabel, once, who, response, contact_id)


@router.post("/contacts/{contact_id}/block")
async def block_contact(
    *, who: ContactWriter, db: Db, once: Idempotency, response: Response, contact_id: UUID
) -> ContactOut:
    """From now on this contact's messages are kept, open nothing and notify nobody."""
    return await _change(db, _blocking(blocked=True), once, who, response, contact_id)


@router.post("/contacts/{contact_id}/unblock")
async def unblock_contact(
    *, who: ContactWriter, db: Db, once: Idempotency, response: Response, contact_id: UUID
) -> ContactOut:
    """From now on this contact's messages reach conversations again."""
    return await _change(db, _blocking(blocked=False), once, who, response, contact_id)


async def write(tx: Tx, who: Principal, edited: Edited) -> None:
    """Write an edit of a contact that is locked, and tell of it; nothing when it changed nothing."""
    if edited.changed:
        person = edited.person
        await store.update(tx, [person])
        tx.emit(
            ContactUpdated(contact=person.snapshot, profile=person.profile, changed=edited.changed),
            account=person.account_id,
            entity=person.id,
            actor=who.actor,
            sequence=person.sequence,
        )


def answered(response: Response, person: Person, last_activity_at: datetime | None) -> ContactOut:
    """A contact as it is answered, its sequence and ETag in the headers."""
    response.headers[SEQUENCE] = str(person.sequence)
    tag(response, person.sequence)
    return ContactOut(
        **{**person.snapshot.model_dump(), **person.profile.model_dump()},
        created_at=person.created_at or now(),
        last_activity_at=last_activity_at,
        sequence=person.sequence,
    )


def contact_out(row: Row) -> ContactOut:
    """The contact within a row of a list."""
    return ContactOut.model_validate(dict(row))


def page_of(rows: Any, limit: int, order: store.Order) -> Page[ContactOut]:
    """A page of contacts in this order."""
    moment = "last_activity_at" if order == "active" else "created_at"
    return paging.page(rows, limit, lambda r: (r[moment].isoformat(), r["id"]), contact_out)


def no_contact(merged_into: str | None = None) -> Problem:
    """404: there is no such contact in this account, or no more since they were merged into another one."""
    if merged_into is not None:
        return Problem(
            404,
            "contact_merged",
            es="Ese contacto se combinó con otro: usa el de «merged_into».",
            en="That contact was merged with another one: use that of `merged_into`.",
            extra={"merged_into": merged_into},
        )
    return Problem(404, "contact_not_found", es="No existe ese contacto.", en="There is no such contact.")


async def _present(
    tx: Tx, who: Principal, contact_id: UUID, if_match: str | None, lock: Literal["edit", "delete"] = "edit"
) -> Row:
    row = await store.read(tx, who.account_id, str(contact_id), lock=lock)
    if row is None:
        raise no_contact()
    check_match(if_match, row["sequence"], contact_out(row))
    return row


def _blocking(*, blocked: bool) -> Callable[[Tx], Awaitable[Callable[[Person], Edited]]]:
    async def prepared(_: Tx) -> Callable[[Person], Edited]:
        return lambda person: edit(person, {"blocked": blocked}, {})

    return prepared


async def _change(  # noqa: PLR0917  (what a route has in hand)
    db: Database,
    prepare: Callable[[Tx], Awaitable[Callable[[Person], Edited]]],
    once: Once,
    who: Principal,
    response: Response,
    contact_id: UUID,
) -> ContactOut:
    async with db.begin() as tx:
        await once.start(tx)
        act = await prepare(tx)
        row = await store.read(tx, who.account_id, str(contact_id), lock="edit")
        if row is None:
            raise no_contact()
        try:
            edited = act(store.person_of(row))
        except Refused as refused:
            raise Problem(409, refused.code, es=refused.es, en=refused.en) from None
        await write(tx, who, edited)
        return await once.finish(tx, answered(response, edited.person, row["last_activity_at"]))


def _edited(person: Person, body: ContactFields, known: Mapping[str, Definition]) -> Edited:
    faults = Faults()
    values: dict[str, Any] = {}
    for name, read in READERS.items():
        if name in body.model_fields_set:
            raw = getattr(body, name)
            given = isinstance(raw, str) and raw.strip()
            values[name] = faults.read(f"/{name}", lambda r=read, v=raw: r(v)) if given else EMPTY[name]  # type: ignore[misc]
    held = attribute_values(faults, known, body.attributes)
    faults.check()
    edited = edit(person, values, held)
    if not edited.person.reachable:
        raise Problem(
            422,
            "contact_is_nobody",
            es="Indica al menos un nombre, un correo, un teléfono o un identificador.",
            en="Give a name, an e-mail address, a telephone number or an identifier at least.",
            errors=(FieldError("/name", es="Escribe un nombre, por ejemplo.", en="Write a name, for instance."),),
        )
    return edited


def _filled(person: Person, body: NewContact, known: Mapping[str, Definition]) -> Person:
    faults = Faults()
    names = [faults.read(f"/labels/{at}", lambda v=raw: read_label(v)) or "" for at, raw in enumerate(body.labels)]  # type: ignore[misc]
    faults.check()
    # However much was filled in, it is the first event.
    return replace(label(_edited(person, body, known).person, names).person, sequence=1)


async def _taken(db: Database, person: Person, violation: psycopg.errors.UniqueViolation) -> Problem:
    """409: another contact has it. They may have let go of it since; then only what it was is told."""
    async with db.begin() as tx:
        others = await store.with_keys(tx, person)
    errors, extra = [], {}
    for other in others:
        for name in _KEYS:
            if other[name] is not None and other[name] == getattr(person, name):
                extra["contact_id"] = other["id"]
                errors.append(
                    FieldError(
                        f"/{name}",
                        es="Lo tiene otro contacto: edita ese o combínalos.",
                        en="Another contact has it: edit that one, or merge them.",
                    )
                )
    if not errors:
        constraint = violation.diag.constraint_name or ""
        name = constraint.removeprefix("contacts_")
        errors.append(FieldError(f"/{name}", es="Otro contacto lo tenía.", en="Another contact had it."))
    return Problem(
        409,
        "contact_exists",
        es="Ya hay un contacto con ese correo, teléfono o identificador.",
        en="There is a contact with that e-mail address, telephone number or identifier already.",
        errors=errors,
        extra=extra,
    )

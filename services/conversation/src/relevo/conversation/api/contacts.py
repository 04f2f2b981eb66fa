"""Contacts: the people who write to the account."""

from collections.abc import Callable
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from pydantic import BaseModel

from relevo.chassis import paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Database
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency, Once
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.chassis.problems import FieldError, Problem
from relevo.contracts.base import Time
from relevo.contracts.conversation import ContactUpdated
from relevo.contracts.permissions import Permission
from relevo.contracts.snapshots import ContactSnapshot
from relevo.conversation.api.common import SEQUENCE, after
from relevo.conversation.store import contacts as store
from relevo.kernel.identity import InvalidIdentity, normal_email, normal_phone

router = APIRouter(tags=["contacts"])

ContactReader = Annotated[Principal, Depends(require(Permission.CONTACTS_READ))]
ContactWriter = Annotated[Principal, Depends(require(Permission.CONTACTS_WRITE))]


class ContactChannel(BaseModel):
    """From where a contact writes: an inbox, and the channel's own identifier of the person."""

    inbox_id: str
    source_id: str


class ContactOut(ContactSnapshot):
    """A contact."""

    created_at: Time
    sequence: int


class ContactDetail(ContactOut):
    """A contact with the channels that reach them."""

    channels: list[ContactChannel]


@router.get("/contacts")
async def list_contacts(
    *,
    who: ContactReader,
    db: Db,
    email: Annotated[str | None, Query(max_length=320)] = None,
    phone: Annotated[str | None, Query(max_length=64, description="With its country code: +34600111222.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[ContactOut]:
    """The contacts of the account, the newest first."""
    async with db.begin() as tx:
        rows = await store.page(
            tx,
            who.account_id,
            limit,
            after(cursor),
            email=_normal("email", email, normal_email) if email else None,
            phone=_normal("phone", phone, normal_phone) if phone else None,
        )
    return paging.page(rows, limit, lambda r: (r["created_at"].isoformat(), r["contact_id"]), _contact_out)


@router.get("/contacts/{contact_id}")
async def get_contact(who: ContactReader, db: Db, contact_id: UUID) -> ContactDetail:
    """One contact, with the channels that reach them."""
    async with db.begin() as tx:
        row = await store.read(tx, who.account_id, str(contact_id))
        if row is None:
            raise _no_contact()
        channels = await store.channels(tx, who.account_id, str(contact_id))
    return ContactDetail.model_validate(
        {**_contact_out(row).model_dump(), "channels": [dict(channel) for channel in channels]}
    )


@router.post("/contacts/{contact_id}/block")
async def block_contact(
    *, who: ContactWriter, db: Db, once: Idempotency, response: Response, contact_id: UUID
) -> ContactOut:
    """From now on this contact's messages are kept, open nothing and notify nobody."""
    return await _block(db, once=once, who=who, response=response, contact_id=contact_id, blocked=True)


@router.post("/contacts/{contact_id}/unblock")
async def unblock_contact(
    *, who: ContactWriter, db: Db, once: Idempotency, response: Response, contact_id: UUID
) -> ContactOut:
    """From now on this contact's messages reach conversations again."""
    return await _block(db, once=once, who=who, response=response, contact_id=contact_id, blocked=False)


async def _block(
    db: Database, *, once: Once, who: Principal, response: Response, contact_id: UUID, blocked: bool
) -> ContactOut:
    async with db.begin() as tx:
        await once.start(tx)
        row = await store.read(tx, who.account_id, str(contact_id), lock=True)
        if row is None:
            raise _no_contact()
        contact = _contact_out(row)
        if contact.blocked != blocked:
            contact = contact.model_copy(update={"blocked": blocked, "sequence": contact.sequence + 1})
            await store.block(tx, who.account_id, contact.id, blocked=blocked, sequence=contact.sequence)
            tx.emit(
                ContactUpdated(contact=ContactSnapshot.model_validate(contact.model_dump())),
                account=who.account_id,
                entity=contact.id,
                actor=who.actor,
                sequence=contact.sequence,
            )
        response.headers[SEQUENCE] = str(contact.sequence)
        return await once.finish(tx, contact)


def _contact_out(row: Any) -> ContactOut:
    contact = store.contact_of(row)
    return ContactOut.model_validate(
        {**contact.model_dump(), "created_at": row["created_at"], "sequence": row["sequence"]}
    )


def _normal(name: str, value: str, normal: Callable[[str], str]) -> str:
    try:
        return normal(value)
    except InvalidIdentity as invalid:
        es = "No es una dirección de correo." if name == "email" else "No es un teléfono con prefijo de país."
        raise Problem(
            422,
            f"invalid_{name}",
            es=es,
            en=str(invalid),
            errors=(FieldError(f"/query/{name}", es=es, en=f"{invalid.reason} {invalid.mend}"),),
        ) from None


def _no_contact() -> Problem:
    return Problem(404, "contact_not_found", es="No existe ese contacto.", en="There is no such contact.")

"""Notes on contacts."""

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import text

from relevo.chassis.database import Tx
from relevo.conversation.store.rows import Row, plain

_COLUMNS: Final = (
    "cast(id as text) as id, cast(contact_id as text) as contact_id, text, author, author_name, created_at, edited_at"
)
_OF_CONTACT: Final = "account_id = cast(:account as uuid) and contact_id = cast(:contact as uuid)"
_PAGE = text(
    f"""
    select {_COLUMNS} from contact_notes
    where {_OF_CONTACT} and (cast(:after as uuid) is null or id < cast(:after as uuid))
    order by id desc limit :limit
    """
)
_READ = text(f"select {_COLUMNS} from contact_notes where {_OF_CONTACT} and id = cast(:id as uuid) for update")
_ADD = text(
    f"""
    insert into contact_notes (id, account_id, contact_id, text, author, author_name, created_at)
    values (cast(:id as uuid), cast(:account as uuid), cast(:contact as uuid), :text, :author, :author_name, now())
    returning {_COLUMNS}
    """
)
_EDIT = text(
    f"""
    update contact_notes set text = :text, edited_at = now()
    where {_OF_CONTACT} and id = cast(:id as uuid) returning {_COLUMNS}
    """
)
_DELETE = text(f"delete from contact_notes where {_OF_CONTACT} and id = cast(:id as uuid)")


async def page(tx: Tx, account_id: str, contact_id: str, limit: int, after: str | None) -> Sequence[Row]:
    """One page of a contact's notes, the newest first, one row more than asked."""
    asked = {"account": account_id, "contact": contact_id, "after": after, "limit": limit + 1}
    return list(plain(await tx.execute(_PAGE, asked)))


async def read(tx: Tx, account_id: str, contact_id: str, note_id: str) -> Row | None:
    """One note, locked."""
    asked = {"account": account_id, "contact": contact_id, "id": note_id}
    return next(plain(await tx.execute(_READ, asked)), None)


async def add(tx: Tx, account_id: str, contact_id: str, **note: Any) -> Row:
    """Write a note: id, text, author, author_name. The contact must be locked."""
    return next(plain(await tx.execute(_ADD, {"account": account_id, "contact": contact_id, **note})))


async def edit(tx: Tx, account_id: str, contact_id: str, note_id: str, text_: str) -> Row:
    """Write a note that is locked anew."""
    asked = {"account": account_id, "contact": contact_id, "id": note_id, "text": text_}
    return next(plain(await tx.execute(_EDIT, asked)))


async def delete(tx: Tx, account_id: str, contact_id: str, note_id: str) -> None:
    """Delete a note."""
    await tx.execute(_DELETE, {"account": account_id, "contact": contact_id, "id": note_id})

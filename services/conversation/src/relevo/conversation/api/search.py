"""Search: messages, notes and subjects; contacts."""

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, Field

from relevo.chassis import paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.http import Db
from relevo.chassis.paging import Cursor, Page
from relevo.contracts.permissions import Permission
from relevo.contracts.snapshots import ContactSnapshot
from relevo.conversation import searching
from relevo.conversation.api.common import Reader, cursor_id
from relevo.conversation.searching import Hit, Place
from relevo.conversation.store.contacts import contact_of
from relevo.kernel.text import clean

router = APIRouter(tags=["search"])

ContactReader = Annotated[Principal, Depends(require(Permission.CONTACTS_READ))]
Typed = Annotated[str, Query(min_length=1, max_length=200)]
Limit = Annotated[int, Query(ge=1, le=50, description="How many items at most.")]


class ContactsFound(BaseModel):
    """Contacts, the newest first. With ``more`` there are more than are shown: type on."""

    items: list[ContactSnapshot]
    more: bool = Field(default=False)


@router.get("/search/messages")
async def search_messages(*, who: Reader, db: Db, q: Typed, limit: Limit = 20, cursor: Cursor = None) -> Page[Hit]:
    """Messages, private notes and subjects within the conversations that one may see.

    Every word must occur, in any form that Spanish or English give it, accents and case aside; the last one may be
    unfinished. `"a phrase"` is looked for word by word; `from:me`, `from:customer`, `from:agent` or `from:NAME`,
    `in:` an inbox or channel, `label:` narrow. The newest first; among a hundred, those spelled as typed come before the
    others. One answer looks at a bounded number of candidates: a page that is short, even empty, may have a `next`.
    """
    async with db.begin() as tx:
        found = await searching.messages_of(tx, who.viewer, clean(q), limit, _place(cursor))
    following = None if found.next is None else paging.encode(found.next[0].isoformat(), *found.next[1:])
    return Page(items=list(found.hits), next=following)


@router.get("/search/contacts")
async def search_contacts(*, who: ContactReader, db: Db, q: Typed, limit: Limit = 20) -> ContactsFound:
    """Contacts by fragments of name, e-mail, phone, identifier or company, each of which must occur; the newest first."""
    async with db.begin() as tx:
        rows = await searching.contacts_of(tx, who.viewer, clean(q), limit)
    return ContactsFound(items=[contact_of(row) for row in rows[:limit]], more=len(rows) > limit)


def _place(cursor: str | None) -> Place | None:
    if cursor is None:
        return None
    at, id_, shown = paging.decode(cursor, str, str, int)
    try:
        return datetime.fromisoformat(at), cursor_id(id_), max(0, shown)
    except ValueError:
        raise paging.invalid_cursor() from None

"""Canned replies: found by code while typing, filled in for a conversation, edited."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import psycopg.errors
from fastapi import APIRouter, Depends, Query, Response
from pydantic import AfterValidator, BaseModel, Field, StringConstraints

from relevo.chassis import directory, paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.editing import IfMatch, check_match, tag
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.chassis.problems import FieldError, Problem
from relevo.contracts.base import new_id
from relevo.contracts.permissions import Permission
from relevo.conversation import lists
from relevo.conversation.api.common import Body, Reader, no_conversation, problem_of
from relevo.conversation.domain import canned
from relevo.conversation.domain.state import Refused
from relevo.conversation.store import canned as store
from relevo.conversation.store.conversations import snapshot_of
from relevo.conversation.store.rows import Row
from relevo.kernel.text import clean, fold
from relevo.kernel.variables import filled

router = APIRouter(tags=["canned replies"])

Manager = Annotated[Principal, Depends(require(Permission.CANNED_MANAGE))]

Code = Annotated[
    str,
    AfterValidator(lambda value: value.strip().removeprefix("/").lower()),
    StringConstraints(pattern=r"^/?[A-Za-z0-9][A-Za-z0-9_.-]{0,49}$"),
]


class NewCanned(Body):
    """A text under a code."""

    code: Code = Field(description="What is typed after `/`: letters, digits, `_`, `.` and `-`; kept in lower case.")
    text: Annotated[str, StringConstraints(min_length=1, max_length=20_000), AfterValidator(clean)] = Field(
        description=f"May have variables, such as {{{{contact.first_name|amigo}}}}: {', '.join(canned.VARIABLES)}."
    )


class Canned(BaseModel):
    """A canned reply."""

    id: str
    code: str
    text: str
    updated_by: str
    updated_at: datetime


class Filled(BaseModel):
    """A canned reply for one conversation."""

    text: str


@router.get("/canned-replies")
async def list_canned(
    who: Reader,
    db: Db,
    q: Annotated[str, Query(max_length=100, description="What the code begins with, or code or text has.")] = "",
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[Canned]:
    """The canned replies that have this, whatever its accents and case: those whose code begins so first."""
    place: tuple[int, str] | None = paging.decode(cursor, int, str) if cursor else None
    async with db.begin() as tx:
        rows = await store.search(tx, who.account_id, fold(clean(q)).strip().removeprefix("/"), limit, place)
    return paging.page(rows, limit, lambda row: (row["rank"], row["code"]), _shown)


@router.post("/canned-replies", status_code=201)
async def create_canned(who: Manager, db: Db, once: Idempotency, response: Response, body: NewCanned) -> Canned:
    """Keep a text under a code."""
    _check(body)
    async with db.begin() as tx:
        await once.start(tx)
        row = await store.add(
            tx,
            who.account_id,
            new_id(),
            code=body.code,
            said=body.text,
            folded=fold(body.text),
            actor=who.actor,
        )
        if row is None:
            raise _taken()
        tag(response, row["version"])
        return await once.finish(tx, _shown(row))


@router.get("/canned-replies/{canned_id}")
async def get_canned(who: Reader, db: Db, response: Response, canned_id: UUID) -> Canned:
    """One canned reply."""
    async with db.begin() as tx:
        row = _found(await store.read(tx, who.account_id, str(canned_id)))
    tag(response, row["version"])
    return _shown(row)


@router.put("/canned-replies/{canned_id}")
async def edit_canned(
    *, who: Manager, db: Db, response: Response, canned_id: UUID, body: NewCanned, if_match: IfMatch = None
) -> Canned:
    """Write a canned reply anew."""
    _check(body)
    try:
        async with db.begin() as tx:
            row = _found(await store.read(tx, who.account_id, str(canned_id)))
            check_match(if_match, row["version"], _shown(row))
            row = await store.write(
                tx,
                who.account_id,
                str(canned_id),
                code=body.code,
                said=body.text,
                folded=fold(body.text),
                actor=who.actor,
            )
    except psycopg.errors.UniqueViolation:
        raise _taken() from None
    tag(response, row["version"])
    return _shown(row)


@router.delete("/canned-replies/{canned_id}", status_code=204)
async def delete_canned(who: Manager, db: Db, canned_id: UUID, if_match: IfMatch = None) -> Response:
    """Remove a canned reply."""
    async with db.begin() as tx:
        row = _found(await store.read(tx, who.account_id, str(canned_id)))
        check_match(if_match, row["version"], _shown(row))
        await store.drop(tx, who.account_id, str(canned_id))
    return Response(status_code=204)


@router.get("/canned-replies/{canned_id}/filled")
async def fill_canned(
    who: Reader, db: Db, canned_id: UUID, conversation: Annotated[UUID, Query(description="For which.")]
) -> Filled:
    """A canned reply with its variables filled in for a conversation, to be looked over before it is sent."""
    async with db.begin() as tx:
        row = _found(await store.read(tx, who.account_id, str(canned_id)))
        found = await lists.conversation(tx, who.viewer, str(conversation))
        if found is None:
            raise no_conversation()
        state = snapshot_of(found)
        inbox = (await directory.inboxes(tx, [state.inbox_id])).get(state.inbox_id)
        account = (await directory.accounts(tx, [who.account_id])).get(who.account_id)
    values = {
        "contact.name": state.contact.name,
        "contact.first_name": canned.first_name(state.contact.name),
        "contact.email": state.contact.email or "",
        "contact.phone": state.contact.phone or "",
        "agent.name": who.name,
        "agent.first_name": canned.first_name(who.name),
        "inbox.name": inbox.name if inbox else "",
        "account.name": account.name if account else "",
        "conversation.number": str(state.number),
        "conversation.subject": state.subject,
    }
    return Filled(text=filled(row["text"], values))


def _check(body: NewCanned) -> None:
    try:
        canned.check(body.text)
    except Refused as refused:
        raise problem_of(refused) from None


def _found(row: Row | None) -> Row:
    if row is None:
        raise Problem(
            404,
            "canned_reply_not_found",
            es="No existe esa respuesta rápida.",
            en="There is no such canned reply.",
        )
    return row


def _taken() -> Problem:
    field = FieldError(
        "/code",
        es="Ya hay una respuesta rápida con ese código: elige otro.",
        en="There is a canned reply with that code already: choose another.",
    )
    return Problem(409, "code_is_taken", es=field.es, en=field.en, errors=(field,))


def _shown(row: Row) -> Canned:
    return Canned.model_validate(dict(row))

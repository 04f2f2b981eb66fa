"""Contacts by filter: lists, counts, saved filters, and the export."""

import json
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from sqlalchemy import ColumnElement

from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Tx
from relevo.chassis.editing import IfMatch, check_match, tag
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.chassis.problems import FieldError, Problem, from_conditions
from relevo.contracts.base import Time, new_id, now
from relevo.contracts.permissions import Permission
from relevo.conversation import labels
from relevo.conversation.api.attributes import Line
from relevo.conversation.api.common import Body, after
from relevo.conversation.api.contacts import ContactOut, ContactReader, page_of
from relevo.conversation.api.contacts_import import csv_answer
from relevo.conversation.domain.contacts_import import ATTRIBUTE, LABELS
from relevo.conversation.domain.csv_files import safe
from relevo.conversation.domain.profile import READERS
from relevo.conversation.domain.segments import condition
from relevo.conversation.store import attributes, profiles
from relevo.conversation.store import labels as label_names
from relevo.conversation.store import segments as store
from relevo.conversation.store.rows import Row
from relevo.kernel.conditions import ConditionError, NotExpressible
from relevo.kernel.conditions.replacing import values_of, with_values

router = APIRouter(tags=["contacts"])

Exporter = Annotated[Principal, Depends(require(Permission.CONTACTS_EXPORT))]

MAX_SEGMENTS: Final = 500
_EXPORT_PAGE: Final = 1000
_PLAIN: Final = frozenset({"email", "phone", "created_at", "last_activity_at"})
"""Columns of an export that can hold no formula."""

_FILTER = Field(
    default=None,
    description=(
        "A condition tree: `all`, `any`, `not`, and comparisons with `field`, `operator`, `value`. Fields: name, email, "
        "phone, identifier, company, city, country, language, labels, blocked, created_at, last_activity_at, "
        "attributes.KEY."
    ),
)


class ContactFilter(Body):
    """Which contacts: those of a filter, of a segment, of both, or all."""

    filter: dict[str, Any] | None = _FILTER
    segment_id: UUID | None = None
    order: profiles.Order = "newest"


class ContactCount(BaseModel):
    """How many contacts; with ``more`` there are more than it says."""

    count: int
    more: bool = False


class ExportOf(ContactFilter):
    """What to export."""

    columns: list[str] | None = Field(
        default=None,
        max_length=150,
        description="In this order; without it all: the fields of an import, then created_at and last_activity_at.",
    )


class SegmentBody(Body):
    """A filter under a name."""

    name: Line
    shared: bool = Field(default=False, description="Everybody sees it; needs the permission `segments.manage`.")
    filter: dict[str, Any]


class SegmentEdit(Body):
    """What to change; what is left out stays."""

    name: Line | None = None
    shared: bool | None = None
    filter: dict[str, Any] | None = None


class Segment(BaseModel):
    """A saved filter of contacts. Its ETag is `"VERSION"`."""

    id: str
    name: str
    shared: bool
    agent_id: str | None = Field(description="Who made it.")
    filter: dict[str, Any]
    version: int
    created_at: Time
    updated_at: Time


class Segments(BaseModel):
    """One's own segments and the shared ones, by name."""

    items: list[Segment]


@router.post("/contacts/filter")
async def filter_contacts(
    *, who: ContactReader, db: Db, body: ContactFilter, limit: Limit = 50, cursor: Cursor = None
) -> Page[ContactOut]:
    """The contacts of a filter, of a segment, or of both."""
    async with db.begin() as tx:
        conditions = await _conditions(tx, who, body)
        statement = profiles.page_of_contacts(who.account_id, conditions, limit, after(cursor), body.order)
        rows = await profiles.page(tx, statement)
    return page_of(rows, limit, body.order)


@router.post("/contacts/count")
async def count_contacts(who: ContactReader, db: Db, body: ContactFilter) -> ContactCount:
    """How many contacts a filter, a segment, or both hold. Exact up to 1,000."""
    async with db.begin() as tx:
        n = await store.count(tx, who.account_id, await _conditions(tx, who, body))
    return ContactCount(count=min(n, store.COUNT_LIMIT), more=n > store.COUNT_LIMIT)


@router.post(
    "/contacts/export",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/csv": {"schema": {"type": "string"}}}, "description": "The contacts"}},
)
async def export_contacts(who: Exporter, db: Db, body: ExportOf) -> StreamingResponse:
    """The contacts of a filter, of a segment, or of both as CSV, written while it is read, whatever their number.

    It can be imported again as it is. A cell that a spreadsheet would take for a formula begins with an apostrophe.
    """
    async with db.begin() as tx:
        conditions = await _conditions(tx, who, body)
        names = await label_names.renamed(tx, who.account_id)
        known = await attributes.definitions(tx, who.account_id, "contact")
    fields = [*READERS, LABELS, *(ATTRIBUTE + key for key in known), "created_at", "last_activity_at"]
    columns = body.columns or fields
    if errors := [
        FieldError(
            f"/columns/{at}",
            es=f"No existe esa columna: usa {', '.join(fields)}.",
            en=f"There is no such column: use {', '.join(fields)}.",
        )
        for at, column in enumerate(columns)
        if column not in fields
    ]:
        raise Problem(
            422, "validation_failed", es="Hay columnas que corregir.", en="Some columns must be mended.", errors=errors
        )

    async def lines() -> AsyncIterator[list[str]]:
        yield columns
        place: tuple[datetime, str] | None = None
        moment = "last_activity_at" if body.order == "active" else "created_at"
        while True:
            # A transaction a page: the one who reads may take hours over it.
            async with db.begin() as tx:
                statement = profiles.page_of_contacts(who.account_id, conditions, _EXPORT_PAGE, place, body.order)
                rows = await profiles.page(tx, statement)
            for row in rows[:_EXPORT_PAGE]:
                yield [_cell(row, column, names) for column in columns]
            if len(rows) <= _EXPORT_PAGE:
                return
            place = (rows[_EXPORT_PAGE - 1][moment], rows[_EXPORT_PAGE - 1]["id"])

    return csv_answer(lines(), "contacts.csv")


@router.get("/segments")
async def list_segments(who: ContactReader, db: Db) -> Segments:
    """One's own segments and the shared ones, by name; a few hundred at most."""
    async with db.begin() as tx:
        return Segments(items=[_shown(row) for row in await store.listed(tx, who.account_id, who.viewer.agent_id)])


@router.post("/segments", status_code=201)
async def create_segment(
    *, who: ContactReader, db: Db, once: Idempotency, response: Response, body: SegmentBody
) -> Segment:
    """Save a filter."""
    await _may_write(who, shared=body.shared)
    async with db.begin() as tx:
        await once.start(tx)
        wanted = await _keyed(tx, who, body.filter)
        await _checked(tx, who, wanted)
        if await store.lock_and_count(tx, who.account_id) >= MAX_SEGMENTS:
            raise Problem(
                409,
                "too_many_segments",
                es=f"Ya hay {MAX_SEGMENTS} segmentos: borra alguno.",
                en=f"There are {MAX_SEGMENTS} segments already: delete one.",
            )
        row = {
            "id": new_id(),
            "agent_id": who.viewer.agent_id,
            "name": body.name,
            "shared": body.shared,
            "filter": json.dumps(wanted),
            "version": 1,
        }
        segment = _shown(await store.save(tx, who.account_id, row))
        tag(response, 1)
        return await once.finish(tx, segment)


@router.patch("/segments/{segment_id}")
async def edit_segment(
    *,
    who: ContactReader,
    db: Db,
    response: Response,
    segment_id: UUID,
    body: SegmentEdit,
    if_match: IfMatch = None,
) -> Segment:
    """Change a segment: one's own, or with `segments.manage` a shared one."""
    async with db.begin() as tx:
        row = await _present(tx, who, segment_id, if_match)
        given = {name: value for name, value in body.model_dump().items() if value is not None}
        if given.get("shared"):
            await _may_write(who, shared=True)
        if body.filter is not None:
            given["filter"] = await _keyed(tx, who, body.filter)
            await _checked(tx, who, given["filter"])
        if any(row[name] != value for name, value in given.items()):
            changed = {**row, **given, "version": row["version"] + 1}
            row = await store.save(tx, who.account_id, changed | {"filter": json.dumps(changed["filter"])})
        tag(response, row["version"])
        return _shown(row)


@router.delete("/segments/{segment_id}", status_code=204)
async def delete_segment(*, who: ContactReader, db: Db, segment_id: UUID, if_match: IfMatch = None) -> None:
    """Delete a segment: one's own, or with `segments.manage` a shared one. Its contacts stay."""
    async with db.begin() as tx:
        await _present(tx, who, segment_id, if_match)
        await store.delete(tx, who.account_id, str(segment_id))


async def _may_write(who: Principal, *, shared: bool) -> None:
    if shared:
        await require(Permission.SEGMENTS_MANAGE)(who)


async def _present(tx: Tx, who: Principal, segment_id: UUID, if_match: str | None) -> Row:
    row = await _read(tx, who, segment_id)
    await _may_write(who, shared=row["shared"])
    check_match(if_match, row["version"], _shown(row))
    return row


async def _read(tx: Tx, who: Principal, segment_id: UUID) -> Row:
    row = await store.read(tx, who.account_id, who.viewer.agent_id, str(segment_id))
    if row is None:
        raise Problem(404, "segment_not_found", es="No existe ese segmento.", en="There is no such segment.")
    return row


async def _conditions(tx: Tx, who: Principal, body: ContactFilter) -> list[ColumnElement[bool]]:
    wanted = [body.filter] if body.filter is not None else []
    if body.segment_id is not None:
        wanted.append((await _read(tx, who, body.segment_id))["filter"])
    return [await _checked(tx, who, await _keyed(tx, who, one)) for one in wanted]


async def _checked(tx: Tx, who: Principal, keyed: dict[str, Any]) -> ColumnElement[bool]:
    """A filter that names labels by their keys, as SQL. Raises Problem 422 with everything that is wrong with it."""
    known = await attributes.definitions(tx, who.account_id, "contact")
    try:
        return store.filtered(condition(keyed, known), known, now())
    except ConditionError as error:
        errors = from_conditions(error, "/filter")
    except NotExpressible as error:
        es = f"El filtro sobre «{error.field}» usa «{error.what}», que las listas no admiten: elige otro operador."
        errors = [FieldError("/filter", es=es, en=f"{str(error).capitalize()}.")]
    raise Problem(
        422, "invalid_filter", es="El filtro no se puede usar.", en="The filter cannot be used.", errors=errors
    )


async def _keyed(tx: Tx, who: Principal, raw: dict[str, Any]) -> dict[str, Any]:
    """The filter with the keys of the labels that it names."""
    named = sorted(values_of(raw, labels.LABEL_FIELDS))
    if not named:
        return raw
    found = await labels.take(tx, (), ((who.account_id, name) for name in named))
    keyed: dict[str, Any] = with_values(raw, labels.LABEL_FIELDS, {name: found[who.account_id, name] for name in named})
    return keyed


def _cell(row: Row, column: str, names: Mapping[str, str]) -> str:
    """``names`` of labels that are called otherwise than their keys."""
    if column.startswith(ATTRIBUTE):
        value = row["attributes"].get(column.removeprefix(ATTRIBUTE))
        if isinstance(value, bool):
            return "true" if value else "false"
        if isinstance(value, int | float):
            return str(value)
    elif column == LABELS:
        value = ", ".join(names.get(key, key) for key in row["labels"])
    else:
        value = row[column]
        if isinstance(value, datetime):
            return value.isoformat()
    text = str(value) if value is not None else ""
    return text if column in _PLAIN else safe(text)


def _shown(row: Row) -> Segment:
    return Segment.model_validate(dict(row))

"""Contacts from a CSV file: upload, map the columns, rehearse, import, and get back what failed."""

import csv
import io
from collections.abc import AsyncIterator, Iterator
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field, StringConstraints

from relevo.chassis import paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Database
from relevo.chassis.http import Db, body_limit
from relevo.chassis.idempotency import Idempotency, Once
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.chassis.problems import FieldError, Problem, language_of
from relevo.contracts.base import Time, new_id
from relevo.contracts.permissions import Permission
from relevo.conversation.api.attributes import Line, NewAttribute, define
from relevo.conversation.api.common import Body, cursor_id
from relevo.conversation.api.import_files import CSV, State, cancelled, found, idle, keep, progress_of, with_file
from relevo.conversation.domain.contacts_import import ATTRIBUTE, LABELS, Mode, suggested
from relevo.conversation.domain.csv_files import MAX_LINE, Place, decoded, delimiter_of
from relevo.conversation.domain.csv_files import read as read_csv
from relevo.conversation.domain.profile import READERS
from relevo.conversation.store import attributes, imports
from relevo.conversation.store.rows import Row

router = APIRouter(tags=["contacts"])

Importer = Annotated[Principal, Depends(require(Permission.CONTACTS_IMPORT))]

MAX_FILE: Final = 50 * 1024 * 1024
MAX_COLUMNS: Final = 200
_CSV: Final = {"text/csv": {"schema": {"type": "string"}}}


class NewImport(Body):
    """An import that waits for its file."""

    file_name: Line = "contacts.csv"


class ImportSettings(Body):
    """What the columns of the file mean, and what its rows may do."""

    columns: list[Annotated[str, StringConstraints(max_length=80)] | None] = Field(
        max_length=MAX_COLUMNS,
        description=(
            "For each column of the header, in its order: `name`, `email`, `phone`, `identifier`, `company`, `city`, "
            "`country`, `language`, `labels` (several with commas), `attributes.KEY`, or null to leave it out."
        ),
    )
    new_attributes: list[NewAttribute] = Field(
        default=[], max_length=100, description="Attributes to define first; needs `attributes.manage`."
    )
    mode: Mode = "create_and_update"
    phone_region: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")] | None = Field(
        default=None, description="The country (ISO 3166) of numbers without a country code."
    )


class ImportOut(BaseModel):
    """An import. `progress` is from 0 to 1; the counts are of rows, of the dry run or of the import, the last begun."""

    id: str
    file_name: str
    state: State
    size: int = Field(description="Bytes.")
    header: list[str]
    columns: list[str | None] = Field(description="Before the first start: what they seem to mean.")
    mode: Mode
    phone_region: str | None
    progress: float
    created: int
    updated: int
    unchanged: int
    skipped: int
    failed: int
    error: str | None = Field(description="Why the import as a whole failed.")
    author: str
    author_name: str
    created_at: Time
    started_at: Time | None
    finished_at: Time | None


class CellFault(BaseModel):
    """What is wrong with a cell; an empty `column` is the row as a whole."""

    column: str
    detail: str


class FailedRow(BaseModel):
    """A row that was not imported. `line` counts from 1, the header included, as an editor shows it."""

    line: int
    cells: list[str]
    errors: list[CellFault]


@router.post("/contacts/imports", status_code=201)
async def create_contact_import(who: Importer, db: Db, once: Idempotency, body: NewImport) -> ImportOut:
    """Begin an import: then send its file."""
    async with db.begin() as tx:
        await once.start(tx)
        row = await imports.add(
            tx, who.account_id, id=new_id(), actor=who.actor, actor_name=who.name, file_name=body.file_name
        )
        return await once.finish(tx, _out(row))


@router.put(
    "/contacts/imports/{import_id}/file",
    openapi_extra={"requestBody": {"required": True, "content": _CSV}},
)
@body_limit(MAX_FILE)
async def upload_contact_import(who: Importer, db: Db, request: Request, import_id: UUID) -> ImportOut:
    """Send the file, up to 50 MB: CSV with a header, delimited by comma, semicolon, tab or bar, in UTF-8, UTF-16 or Latin-1.

    Takes the place of the one sent before. Answers the header, and what its columns seem to mean.
    """
    async with db.begin() as tx:
        idle(await found(tx, who, import_id))
    file_id = new_id()
    size = await keep(db, who.account_id, file_id, request, CSV)
    async with db.begin() as tx:
        row = idle(await found(tx, who, import_id, lock=True))
        head = await imports.window(tx, who.account_id, file_id, 0, MAX_LINE)
        first = decoded(head.partition(b"\n")[0])
        delimiter = delimiter_of(first)
        window = read_csv(head, Place(0, 1), delimiter, last=True, limit=1)
        header = [cell.strip() for cell in window.records[0].cells] if window.records else []
        if not header or window.records[0].broken or len(header) > MAX_COLUMNS:
            raise CSV.bad(
                f"La primera línea debe ser la cabecera, con los nombres de 1 a {MAX_COLUMNS} columnas.",
                f"The first line must be the header, with the names of 1 to {MAX_COLUMNS} columns.",
            )
        known = await attributes.listed(tx, who.account_id, "contact")
        targets = suggested(header, [(one["key"], one["name"]) for one in known])
        if row["file_id"]:
            await imports.drop_file(tx, who.account_id, row["file_id"])
        return _out(
            await imports.uploaded(
                tx,
                who.account_id,
                str(import_id),
                file=file_id,
                size=size,
                delimiter=delimiter,
                header=[name or f"column {at}" for at, name in enumerate(header, 1)],
                columns=[target or "" for target in targets],
                offset=window.next.offset,
                line=window.next.line,
            )
        )


@router.post("/contacts/imports/{import_id}/check", status_code=202)
async def check_contact_import(
    who: Importer, db: Db, once: Idempotency, import_id: UUID, body: ImportSettings
) -> ImportOut:
    """Rehearse: read every row and tell what would come of it, writing nothing."""
    return await _start(db, once, who, import_id, body, "checking")


@router.post("/contacts/imports/{import_id}/start", status_code=202)
async def start_contact_import(
    who: Importer, db: Db, once: Idempotency, import_id: UUID, body: ImportSettings
) -> ImportOut:
    """Import every row. What rows did stays, also when the import is cancelled half-way; none is half done."""
    return await _start(db, once, who, import_id, body, "running")


@router.post("/contacts/imports/{import_id}/cancel")
async def cancel_contact_import(who: Importer, db: Db, once: Idempotency, import_id: UUID) -> ImportOut:
    """Stop an import, or its dry run, after the rows that are done."""
    async with db.begin() as tx:
        await once.start(tx)
        return await once.finish(tx, _out(await cancelled(tx, who, import_id)))


@router.get("/contacts/imports")
async def list_contact_imports(who: Importer, db: Db, limit: Limit = 50, cursor: Cursor = None) -> Page[ImportOut]:
    """The account's imports, the newest first."""
    after = cursor_id(paging.decode(cursor, str)[0]) if cursor else None
    async with db.begin() as tx:
        rows = await imports.page(tx, who.account_id, limit, after)
    return paging.page(rows, limit, lambda row: (row["id"],), _out)


@router.get("/contacts/imports/{import_id}")
async def get_contact_import(who: Importer, db: Db, import_id: UUID) -> ImportOut:
    """One import, and how far it is."""
    async with db.begin() as tx:
        return _out(await found(tx, who, import_id))


@router.get("/contacts/imports/{import_id}/failures")
async def list_contact_import_failures(
    *, who: Importer, db: Db, request: Request, import_id: UUID, limit: Limit = 50, cursor: Cursor = None
) -> Page[FailedRow]:
    """The rows that failed, by line, each with everything that is wrong with it. Kept for thirty days."""
    after = paging.decode(cursor, int)[0] if cursor else 0
    language = language_of(request)
    async with db.begin() as tx:
        await found(tx, who, import_id)
        rows = await imports.failures(tx, who.account_id, str(import_id), after, limit + 1)
    return paging.page(
        rows,
        limit,
        lambda row: (row["line"],),
        lambda row: FailedRow(
            line=row["line"],
            cells=row["cells"],
            errors=[CellFault(column=fault["column"], detail=fault[language]) for fault in row["faults"]],
        ),
    )


@router.get(
    "/contacts/imports/{import_id}/failures.csv",
    response_class=StreamingResponse,
    responses={200: {"content": _CSV, "description": "The rows that failed"}},
)
async def download_contact_import_failures(
    who: Importer, db: Db, request: Request, import_id: UUID
) -> StreamingResponse:
    """The rows that failed as CSV, as they came, with what is wrong in a last column: mend them and import them again."""
    async with db.begin() as tx:
        row = await found(tx, who, import_id)
    language = language_of(request)

    async def lines() -> AsyncIterator[list[str]]:
        yield [*row["header"], "Errores" if language == "es" else "Errors"]
        after = 0
        while True:
            async with db.begin() as tx:
                rows = await imports.failures(tx, who.account_id, str(import_id), after, 1000)
            for failed in rows:
                width = len(row["header"])
                cells = [*failed["cells"], *[""] * width][: max(width, len(failed["cells"]))]
                told = "; ".join(
                    f"{fault['column']}: {fault[language]}" if fault["column"] else fault[language]
                    for fault in failed["faults"]
                )
                yield [*cells, told]
            if len(rows) < 1000:
                return
            after = rows[-1]["line"]

    return csv_answer(lines(), "errores.csv" if language == "es" else "errors.csv")


def csv_answer(lines: AsyncIterator[list[str]], file_name: str) -> StreamingResponse:
    """Lines as a CSV file that is written while it is read; with a byte-order mark, so that spreadsheets read UTF-8."""

    async def chunks() -> AsyncIterator[bytes]:
        buffer = io.StringIO()
        writer = csv.writer(buffer)
        buffer.write("\ufeff")
        async for line in lines:
            writer.writerow(line)
            if buffer.tell() >= 64 * 1024:
                yield buffer.getvalue().encode()
                buffer.seek(0)
                buffer.truncate()
        yield buffer.getvalue().encode()

    headers = {"Content-Disposition": f'attachment; filename="{file_name}"'}
    return StreamingResponse(chunks(), media_type="text/csv", headers=headers)


async def _start(  # noqa: PLR0917  (what a route has in hand)
    db: Database, once: Once, who: Principal, import_id: UUID, body: ImportSettings, state: State
) -> ImportOut:
    async with db.begin() as tx:
        await once.start(tx)
        row = with_file(idle(await found(tx, who, import_id, lock=True)))
        if body.new_attributes:
            await require(Permission.ATTRIBUTES_MANAGE)(who)
            await define(tx, who.account_id, "contact", body.new_attributes)
        known = await attributes.definitions(tx, who.account_id, "contact")
        if errors := list(_column_errors(body.columns, row["header"], known)):
            raise Problem(
                422,
                "validation_failed",
                es="Hay columnas que corregir.",
                en="Some columns must be mended.",
                errors=errors,
            )
        started = await imports.begin(
            tx,
            who.account_id,
            str(import_id),
            state=state,
            columns=body.columns,
            mode=body.mode,
            region=body.phone_region,
        )
        return await once.finish(tx, _out(started))


def _column_errors(columns: list[str | None], header: list[str], known: Any) -> Iterator[FieldError]:
    if len(columns) != len(header):
        yield FieldError(
            "/columns",
            es=f"La cabecera tiene {len(header)} columnas: di qué es cada una, null para dejarla fuera.",
            en=f"The header has {len(header)} columns: tell what each one is, null to leave it out.",
        )
        return
    for at, target in enumerate(columns):
        if target is None:
            continue
        if target in columns[:at]:
            es, en = f"Otra columna ya es {target}: deja una.", f"Another column is {target} already: keep one."
            yield FieldError(f"/columns/{at}", es=es, en=en)
        elif target not in READERS and target != LABELS and target.removeprefix(ATTRIBUTE) not in known:
            fields = ", ".join([*READERS, LABELS])
            es = f"No existe ese campo: usa {fields}, o attributes.CLAVE de un atributo que exista."
            en = f"There is no such field: use {fields}, or attributes.KEY of an attribute that there is."
            yield FieldError(f"/columns/{at}", es=es, en=en)
    if not any(columns):
        yield FieldError(
            "/columns", es="Ninguna columna se importa: elige alguna.", en="No column is imported: choose some."
        )


def _out(row: Row) -> ImportOut:
    return ImportOut(
        **{name: row[name] for name in ImportOut.model_fields if name in row and name != "columns"},
        columns=[target or None for target in row["columns"]],
        phone_region=row["region"],
        progress=progress_of(row),
        author=row["actor"],
        author_name=row["actor_name"],
    )

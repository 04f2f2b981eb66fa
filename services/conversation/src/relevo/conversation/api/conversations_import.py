"""Past conversations from a file of JSON lines: upload, rehearse, import, and get back what failed."""

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field, StringConstraints
from pydantic_core import from_json, to_json

from relevo.chassis import paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.http import Db, body_limit
from relevo.chassis.idempotency import Idempotency, Once
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.chassis.problems import Language, language_of
from relevo.contracts.base import Time, new_id
from relevo.contracts.permissions import Permission
from relevo.conversation.api.attributes import Line
from relevo.conversation.api.common import Body, cursor_id
from relevo.conversation.api.import_files import (
    JSON_LINES,
    State,
    cancelled,
    found,
    idle,
    keep,
    progress_of,
    with_file,
)
from relevo.conversation.store import imports
from relevo.conversation.store.rows import Row

router = APIRouter(tags=["conversations"])

Importer = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_IMPORT))]

MAX_FILE: Final = 200 * 1024 * 1024
_KIND: Final = "conversations"
_JSON_LINES: Final = {"application/jsonl": {"schema": {"type": "string"}}}
_PAGE: Final = 8
"""Failed lines that are read at once: each may have four megabytes."""
_SHOWN: Final = 1000


class NewConversationImport(Body):
    """An import of past conversations that waits for its file."""

    file_name: Line = "conversations.jsonl"


class ConversationImportSettings(Body):
    """How the lines of the file are read."""

    phone_region: Annotated[str, StringConstraints(pattern=r"^[A-Z]{2}$")] | None = Field(
        default=None, description="The country (ISO 3166) of numbers without a country code."
    )


class ConversationImportOut(BaseModel):
    """An import of past conversations. `progress` is from 0 to 1; the counts are of the dry run or of the import, the last begun."""

    id: str
    file_name: str
    state: State
    size: int = Field(description="Bytes.")
    phone_region: str | None
    progress: float
    created: int = Field(description="Conversations that came, or would come.")
    unchanged: int = Field(description="Conversations that an import before this one brought already.")
    failed: int = Field(description="Lines with a fault: none of that conversation is here.")
    error: str | None = Field(description="Why the import as a whole failed.")
    author: str
    author_name: str
    created_at: Time
    started_at: Time | None
    finished_at: Time | None


class LineFault(BaseModel):
    """What is wrong with a field and how to mend it; `pointer` is a JSON pointer, empty for the line as a whole."""

    pointer: str
    detail: str


class FailedLine(BaseModel):
    """A line that was not imported. `line` counts from 1."""

    line: int
    text: str = Field(description=f"As it came, the first {_SHOWN} characters.")
    errors: list[LineFault]


@router.post("/conversations/imports", status_code=201)
async def create_conversation_import(
    who: Importer, db: Db, once: Idempotency, body: NewConversationImport
) -> ConversationImportOut:
    """Begin an import of past conversations: then send its file."""
    async with db.begin() as tx:
        await once.start(tx)
        row = await imports.add(
            tx, who.account_id, _KIND, id=new_id(), actor=who.actor, actor_name=who.name, file_name=body.file_name
        )
        return await once.finish(tx, _out(row))


@router.put(
    "/conversations/imports/{import_id}/file",
    openapi_extra={"requestBody": {"required": True, "content": _JSON_LINES}},
)
@body_limit(MAX_FILE)
async def upload_conversation_import(who: Importer, db: Db, request: Request, import_id: UUID) -> ConversationImportOut:
    """Send the file, up to 200 MB: a JSON object on each line, one conversation each, at most 4 MB.

    Takes the place of the one sent before. The format is in *Importing past conversations* of the documentation.
    """
    async with db.begin() as tx:
        idle(await found(tx, who, import_id, _KIND))
    file_id = new_id()
    size = await keep(db, who.account_id, file_id, request, JSON_LINES)
    async with db.begin() as tx:
        row = idle(await found(tx, who, import_id, _KIND, lock=True))
        if row["file_id"]:
            await imports.drop_file(tx, who.account_id, row["file_id"])
        file = {"file": file_id, "size": size, "delimiter": "", "header": [], "columns": [], "offset": 0, "line": 1}
        return _out(await imports.uploaded(tx, who.account_id, str(import_id), **file))


@router.post("/conversations/imports/{import_id}/check", status_code=202)
async def check_conversation_import(
    who: Importer, db: Db, once: Idempotency, import_id: UUID, body: ConversationImportSettings
) -> ConversationImportOut:
    """Rehearse: read every line and tell what would come of it, writing nothing."""
    return await _start(db, once, who, import_id, body, "checking")


@router.post("/conversations/imports/{import_id}/start", status_code=202)
async def start_conversation_import(
    who: Importer, db: Db, once: Idempotency, import_id: UUID, body: ConversationImportSettings
) -> ConversationImportOut:
    """Import every line without a fault. Nothing is sent and nothing follows; each conversation is here whole or not at all.

    Contacts that are not known come to be. What came stays, also when the import is cancelled half-way; sent again, it comes only once.
    """
    return await _start(db, once, who, import_id, body, "running")


@router.post("/conversations/imports/{import_id}/cancel")
async def cancel_conversation_import(
    who: Importer, db: Db, once: Idempotency, import_id: UUID
) -> ConversationImportOut:
    """Stop an import, or its dry run, after the conversations that are done."""
    async with db.begin() as tx:
        await once.start(tx)
        return await once.finish(tx, _out(await cancelled(tx, who, import_id, _KIND)))


@router.get("/conversations/imports")
async def list_conversation_imports(
    who: Importer, db: Db, limit: Limit = 50, cursor: Cursor = None
) -> Page[ConversationImportOut]:
    """The account's imports of past conversations, the newest first."""
    after = cursor_id(paging.decode(cursor, str)[0]) if cursor else None
    async with db.begin() as tx:
        rows = await imports.page(tx, who.account_id, limit, after, _KIND)
    return paging.page(rows, limit, lambda row: (row["id"],), _out)


@router.get("/conversations/imports/{import_id}")
async def get_conversation_import(who: Importer, db: Db, import_id: UUID) -> ConversationImportOut:
    """One import of past conversations, and how far it is."""
    async with db.begin() as tx:
        return _out(await found(tx, who, import_id, _KIND))


@router.get("/conversations/imports/{import_id}/failures")
async def list_conversation_import_failures(
    *, who: Importer, db: Db, request: Request, import_id: UUID, limit: Limit = 50, cursor: Cursor = None
) -> Page[FailedLine]:
    """The lines that failed, each with what is wrong with it (at most twenty faults). Kept for thirty days."""
    after = paging.decode(cursor, int)[0] if cursor else 0
    language = language_of(request)
    async with db.begin() as tx:
        await found(tx, who, import_id, _KIND)
        rows = await imports.failures(tx, who.account_id, str(import_id), after, limit + 1, cut=_SHOWN)
    return paging.page(
        rows,
        limit,
        lambda row: (row["line"],),
        lambda row: FailedLine(
            line=row["line"],
            text=row["cells"][0],
            errors=[LineFault(pointer=fault["column"], detail=fault[language]) for fault in row["faults"]],
        ),
    )


@router.get(
    "/conversations/imports/{import_id}/failures.jsonl",
    response_class=StreamingResponse,
    responses={200: {"content": _JSON_LINES, "description": "The lines that failed"}},
)
async def download_conversation_import_failures(
    who: Importer, db: Db, request: Request, import_id: UUID
) -> StreamingResponse:
    """The lines that failed, as they came, with `_line` and `_errors` added: mend them and import them again."""
    async with db.begin() as tx:
        await found(tx, who, import_id, _KIND)
    language = language_of(request)

    async def lines() -> AsyncIterator[bytes]:
        after = 0
        while True:
            async with db.begin() as tx:
                rows = await imports.failures(tx, who.account_id, str(import_id), after, _PAGE)
            for row in rows:
                yield to_json(_again(row, language)) + b"\n"
            if len(rows) < _PAGE:
                return
            after = rows[-1]["line"]

    name = "errores.jsonl" if language == "es" else "errors.jsonl"
    headers = {"Content-Disposition": f'attachment; filename="{name}"'}
    return StreamingResponse(lines(), media_type="application/jsonl", headers=headers)


def _again(row: Row, language: Language) -> dict[str, Any]:
    told = [{"pointer": fault["column"], "detail": fault[language]} for fault in row["faults"]]
    try:
        said = from_json(row["cells"][0])
    except ValueError:
        said = None
    # What is no JSON object is put into one, whole.
    shown = said if isinstance(said, dict) else {"_text": row["cells"][0]}
    return {**shown, "_line": row["line"], "_errors": told}


async def _start(  # noqa: PLR0917  (what a route has in hand)
    db: Db, once: Once, who: Principal, import_id: UUID, body: ConversationImportSettings, state: State
) -> ConversationImportOut:
    async with db.begin() as tx:
        await once.start(tx)
        with_file(idle(await found(tx, who, import_id, _KIND, lock=True)))
        # Conversations go into inboxes of whoever starts it, and into no others.
        allowed = None if who.viewer.inbox_ids is None else sorted(who.viewer.inbox_ids)
        row = await imports.begin(
            tx, who.account_id, str(import_id), state=state, region=body.phone_region, inboxes=allowed
        )
        return await once.finish(tx, _out(row))


def _out(row: Row) -> ConversationImportOut:
    return ConversationImportOut(
        **{name: row[name] for name in ConversationImportOut.model_fields if name in row},
        phone_region=row["region"],
        progress=progress_of(row),
        author=row["actor"],
        author_name=row["actor_name"],
    )

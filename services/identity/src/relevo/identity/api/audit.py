"""The audit log."""

import csv
import io
import json
from collections.abc import AsyncIterator
from dataclasses import asdict
from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from fastapi.responses import StreamingResponse
from pydantic import BaseModel

from relevo.chassis import paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Database
from relevo.chassis.http import Db
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.contracts.base import Id, Time, now
from relevo.contracts.permissions import Permission
from relevo.identity.api.common import Called
from relevo.identity.domain.csv_cells import harmless
from relevo.identity.store import audit, directory
from relevo.identity.store.audit import Filters, Record

router = APIRouter(tags=["audit"])
Filter = Annotated[str | None, Query(max_length=100, pattern=r"^[^\x00]*$")]
Reader = Annotated[Principal, Depends(require(Permission.AUDIT_READ))]
_CHUNK = 1000


class AuditOut(BaseModel):
    """One administrative act: who, what, before and after, when, from where."""

    id: Id
    at: Time
    actor: str
    actor_name: str
    action: str
    entity_kind: str
    entity_id: str
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    ip: str
    user_agent: str


async def _filters(  # noqa: PLR0917
    actor: Filter = None,
    action: Filter = None,
    entity_kind: Filter = None,
    entity_id: Filter = None,
    since: Time | None = None,
    until: Time | None = None,
) -> Filters:
    return Filters(actor, action, entity_kind, entity_id, since, until)


Filtered = Annotated[Filters, Depends(_filters)]


@router.get("/audit")
async def list_audit_log(
    who: Reader, db: Db, filters: Filtered, limit: Limit = 50, cursor: Cursor = None
) -> Page[AuditOut]:
    """The newest first. ``since`` inclusive, ``until`` exclusive."""
    before = paging.decode(cursor, int)[0] if cursor else None
    async with db.begin() as tx:
        rows = await audit.page(tx, who.account_id, filters, before=before, limit=limit + 1)
    return paging.page(rows, limit, lambda row: (row["seq"],), lambda row: AuditOut(**row))


@router.get(
    "/audit/export",
    response_class=StreamingResponse,
    responses={200: {"description": "CSV, UTF-8, with a header row.", "content": {"text/csv": {}}}},
)
async def export_audit_log(who: Reader, db: Db, caller: Called, filters: Filtered) -> StreamingResponse:
    """The same, all of it, as CSV. That it was exported stands in the log."""
    asked = {name: str(value) for name, value in asdict(filters).items() if value is not None}
    async with db.begin() as tx:
        await directory.lock_account(tx, who.account_id)
        record = Record("audit.exported", "account", who.account_id, None, asked)
        await audit.append(tx, who.account_id, caller.by(who), [record], at=now())
    return StreamingResponse(
        _lines(db, who.account_id, filters),
        media_type="text/csv; charset=utf-8",
        headers={"Content-Disposition": 'attachment; filename="audit.csv"'},
    )


async def _lines(db: Database, account: str, filters: Filters) -> AsyncIterator[bytes]:
    """A page at a time, each read in a transaction of its own: whoever reads slowly holds nothing."""
    yield _csv([list(AuditOut.model_fields)])
    before: int | None = None
    while True:
        async with db.begin() as tx:
            rows = await audit.page(tx, account, filters, before=before, limit=_CHUNK)
        if rows:
            before = rows[-1]["seq"]
            yield _csv([[harmless(_cell(row[name])) for name in AuditOut.model_fields] for row in rows])
        if len(rows) < _CHUNK:
            return


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, dict):
        return json.dumps(value, ensure_ascii=False, sort_keys=True)
    return value.isoformat() if hasattr(value, "isoformat") else str(value)


def _csv(rows: list[list[str]]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()

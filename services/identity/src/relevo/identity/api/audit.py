"""The audit log."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from relevo.chassis import paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.http import Db
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.contracts.base import Id, Time
from relevo.contracts.permissions import Permission
from relevo.identity.store import audit

router = APIRouter(tags=["audit"])
Filter = Annotated[str | None, Query(max_length=100, pattern=r"^[^\x00]*$")]


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


@router.get("/audit")
async def list_audit_log(
    *,
    who: Annotated[Principal, Depends(require(Permission.AUDIT_READ))],
    db: Db,
    actor: Filter = None,
    action: Filter = None,
    entity_kind: Filter = None,
    entity_id: Filter = None,
    since: Time | None = None,
    until: Time | None = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[AuditOut]:
    """The newest first. ``since`` inclusive, ``until`` exclusive."""
    before = paging.decode(cursor, int)[0] if cursor else None
    async with db.begin() as tx:
        rows = await audit.page(
            tx,
            who.account_id,
            before=before,
            limit=limit + 1,
            actor=actor,
            action=action,
            kind=entity_kind,
            entity=entity_id,
            since=since,
            until=until,
        )
    return paging.page(rows, limit, lambda row: (row["seq"],), lambda row: AuditOut(**row))

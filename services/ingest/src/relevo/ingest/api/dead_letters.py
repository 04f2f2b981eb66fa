"""Dead letters of every service, for the console: what was given up on, and why."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from relevo.chassis.auth import Principal, require
from relevo.chassis.http import Db
from relevo.chassis.paging import Cursor, Limit, Page, page
from relevo.contracts.permissions import Permission
from relevo.ingest.api.common import PathId, after_id, as_text, not_found
from relevo.ingest.store import dead_letters

router = APIRouter(tags=["dead letters"])
Reader = Annotated[Principal, Depends(require(Permission.DEADLETTERS_MANAGE))]


class DeadLetterOut(BaseModel):
    """A message that ``service`` could not handle, read from ``stream`` at ``stream_seq``."""

    id: str
    service: str
    stream: str
    stream_seq: int
    subject: str
    reason: str
    error: str
    attempts: int
    died_at: datetime
    seen_at: datetime
    state: str
    body_bytes: int


class DeadLetterWhole(DeadLetterOut):
    """The same with headers and body."""

    headers: dict[str, str]
    body: str
    body_encoding: str


@router.get("/dead-letters")
async def list_dead_letters(
    who: Reader,
    db: Db,
    *,
    service: Annotated[str | None, Query(max_length=40)] = None,
    reason: Annotated[str | None, Query(max_length=100)] = None,
    state: Literal["open"] = "open",
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[DeadLetterOut]:
    """Newest first."""
    async with db.begin() as tx:
        rows = await dead_letters.page(
            tx,
            who.account_id,
            state=state,
            service=service,
            reason=reason,
            before=after_id(cursor),
            limit=limit + 1,
        )
    return page(rows, limit, lambda row: (row.id,), lambda row: DeadLetterOut(**row._asdict()))


@router.get("/dead-letters/{dead_letter_id}")
async def get_dead_letter(dead_letter_id: PathId, who: Reader, db: Db) -> DeadLetterWhole:
    async with db.begin() as tx:
        row = await dead_letters.one(tx, who.account_id, dead_letter_id)
    if row is None:
        raise not_found("No existe ese mensaje fallido.", "There is no such dead letter.", "dead_letter_not_found")
    members: dict[str, Any] = row._asdict()
    text, _ = as_text(bytes(members.pop("body")))
    return DeadLetterWhole(**members, body=text)

"""Quarantine: refused events from the bus, to look at, mend and retry, or discard."""

from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel, ConfigDict
from starlette.requests import Request

from relevo.chassis import Tx
from relevo.chassis.auth import Principal, require
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.paging import Cursor, Limit, Page, page
from relevo.chassis.problems import Language, Problem, language_of
from relevo.contracts.base import now
from relevo.contracts.permissions import Permission
from relevo.ingest.accept import accept
from relevo.ingest.api.common import Config, PathId, after_id, as_text, field_errors, not_found
from relevo.ingest.domain import delivery
from relevo.ingest.domain.ledger import Verdict, arrival
from relevo.ingest.domain.parsing import Event, Limits, parse_event, parse_json
from relevo.ingest.domain.refusal import Refused
from relevo.ingest.store import inboxes, quarantine

router = APIRouter(tags=["quarantine"])
Keeper = Annotated[Principal, Depends(require(Permission.QUARANTINE_MANAGE))]
State = Literal["open", "retried", "discarded"]


class FaultOut(BaseModel):
    """One reason, in the language asked for."""

    code: str
    pointer: str
    detail: str


class QuarantinedOut(BaseModel):
    """A refused event. ``occurrences`` counts identical deliveries; ``reason`` is the code of the first fault."""

    id: str
    inbox_id: str
    subject: str
    reason: str
    faults: list[FaultOut]
    occurrences: int
    body_bytes: int
    truncated: bool
    received_at: datetime
    last_seen: datetime
    state: State
    resolved_at: datetime | None
    resolved_by: str | None
    resolution: dict[str, Any] | None


class QuarantinedWhole(QuarantinedOut):
    """The same with the body as it came."""

    body: str
    body_encoding: Literal["utf-8", "base64"]


class CountOut(BaseModel):
    """Open ones of one inbox and reason."""

    inbox_id: str
    reason: str
    events: int
    occurrences: int


class Counts(BaseModel):
    """How much is in quarantine."""

    open: int
    groups: list[CountOut]


class Retry(BaseModel):
    """``body``: the event as it should have been; without it the one that came is tried again."""

    model_config = ConfigDict(extra="forbid")

    body: dict[str, Any] | None = None


class Retried(BaseModel):
    """What became of the event."""

    status: Literal["accepted", "duplicate"]
    external_id: str


@router.get("/quarantine")
async def list_quarantine(
    request: Request,
    who: Keeper,
    db: Db,
    *,
    inbox_id: Annotated[str | None, Query(max_length=200)] = None,
    reason: Annotated[str | None, Query(max_length=100)] = None,
    state: State = "open",
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[QuarantinedOut]:
    """Newest first."""
    async with db.begin() as tx:
        rows = await quarantine.page(
            tx,
            who.account_id,
            state=state,
            inbox_id=inbox_id,
            reason=reason,
            before=after_id(cursor),
            limit=limit + 1,
        )
    language = language_of(request)
    return page(rows, limit, lambda row: (row.id,), lambda row: QuarantinedOut(**_members(row, language)))


@router.get("/quarantine/counts")
async def count_quarantine(who: Keeper, db: Db) -> Counts:
    async with db.begin() as tx:
        rows = await quarantine.counts(tx, who.account_id)
    return Counts(open=sum(row.events for row in rows), groups=[CountOut(**row._asdict()) for row in rows])


@router.get("/quarantine/{quarantine_id}")
async def get_quarantined(quarantine_id: PathId, request: Request, who: Keeper, db: Db) -> QuarantinedWhole:
    async with db.begin() as tx:
        row = await quarantine.one(tx, who.account_id, quarantine_id)
    if row is None:
        raise _unknown()
    body, encoding = as_text(bytes(row.body))
    return QuarantinedWhole(**_members(row, language_of(request)), body=body, body_encoding=encoding)


@router.post("/quarantine/{quarantine_id}/retry")
async def retry_quarantined(
    quarantine_id: PathId, who: Keeper, db: Db, *, config: Config, once: Idempotency, body: Retry | None = None
) -> Retried:
    """Take the event now, mended or as it came. It keeps its place in quarantine when it is refused again (422)."""
    at = now()
    async with db.begin() as tx:
        await once.start(tx)
        row = await _locked(tx, who, quarantine_id)
        corrected = body.body if body else None
        try:
            event = _event(row, corrected, at, config.limits)
            known = await inboxes.by_ids(tx, [row.inbox_id]) if delivery.is_uuid(row.inbox_id) else {}
            inbox = delivery.open_inbox(known.get(row.inbox_id), who.account_id)
        except Refused as refused:
            raise Problem(
                422,
                refused.first.code,
                es=f"El evento se rechaza de nuevo: {refused.first.es}",
                en=f"The event is refused again: {refused.first.en}",
                errors=field_errors(refused.faults, "/body" if corrected is not None else ""),
            ) from None
        one = arrival(inbox, event, at=row.received_at, actor=who.actor)
        (verdict,) = await accept([one], tx)
        answer = Retried(
            status="accepted" if verdict is Verdict.ACCEPTED else "duplicate", external_id=event.external_id
        )
        resolution = answer.model_dump() | {"corrected": corrected is not None, "verdict": verdict.value}
        await quarantine.resolve(
            tx, who.account_id, quarantine_id, state="retried", by=who.actor, at=at, resolution=resolution
        )
        return await once.finish(tx, answer)


@router.delete("/quarantine/{quarantine_id}", status_code=204)
async def discard_quarantined(quarantine_id: PathId, who: Keeper, db: Db) -> None:
    """Give the event up. Who did it, and when, stays on record."""
    async with db.begin() as tx:
        await _locked(tx, who, quarantine_id)
        await quarantine.resolve(
            tx, who.account_id, quarantine_id, state="discarded", by=who.actor, at=now(), resolution={}
        )


async def _locked(tx: Tx, who: Principal, quarantine_id: str) -> Any:
    row = await quarantine.one(tx, who.account_id, quarantine_id, lock=True)
    if row is None:
        raise _unknown()
    if row.state != "open":
        raise Problem(
            409,
            "already_resolved",
            es=f"Ya lo resolvió {row.resolved_by}: {row.state}.",
            en=f"It was resolved by {row.resolved_by} already: {row.state}.",
            extra={"state": row.state},
        )
    return row


def _event(row: Any, corrected: dict[str, Any] | None, at: datetime, limits: Limits) -> Event:
    if corrected is not None:
        return parse_event(corrected, now=at, limits=limits)
    if row.truncated:
        raise Problem(
            422,
            "body_truncated",
            es="Del evento solo se guardó el principio: envíalo corregido y completo en «body».",
            en="Only the beginning of the event was kept: send it mended and whole as body.",
        )
    return parse_event(parse_json(bytes(row.body)), now=at, limits=limits)


def _members(row: Any, language: Language) -> dict[str, Any]:
    members: dict[str, Any] = row._asdict()
    members.pop("body", None)
    members["faults"] = [
        FaultOut(code=fault["code"], pointer=fault["pointer"], detail=fault[language]) for fault in row.faults
    ]
    return members


def _unknown() -> Problem:
    return not_found("No está en cuarentena.", "There is no such quarantined event.", "quarantined_not_found")

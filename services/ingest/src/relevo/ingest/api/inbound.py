"""The HTTP door, for adapters without NATS: the same rules, and the answer is true when it comes."""

import asyncio
import math
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field
from starlette.requests import Request

from relevo.chassis.auth import Principal, require_adapter
from relevo.chassis.crash import crash_point
from relevo.chassis.database import is_transient
from relevo.chassis.http import Db
from relevo.chassis.problems import Language, Problem, language_of, unavailable
from relevo.contracts.base import now
from relevo.contracts.inbound import InboundMessage, InboundStatus
from relevo.contracts.ingest import InboxState
from relevo.ingest.accept import accept
from relevo.ingest.api.common import Config, Door, PathId, field_errors, not_found
from relevo.ingest.domain import delivery
from relevo.ingest.domain.ledger import Arrival, Verdict, arrival
from relevo.ingest.domain.parsing import parse_batch, parse_event, shown_id
from relevo.ingest.domain.refusal import ALREADY_ACCEPTED, INBOX_DISABLED, Fault, Refused
from relevo.ingest.store import inboxes

router = APIRouter(tags=["inbound"])
_BREATH: Final = 100
"""Events parsed before other requests get their turn."""
_LONGEST: Final = 60
"""Seconds that an adapter is asked to wait at most."""


class InboundBatch(BaseModel):
    """Documents the request; the service reads the body itself, event by event."""

    events: list[Annotated[InboundMessage | InboundStatus, Field(discriminator="kind")]] = Field(max_length=1000)


class ItemError(BaseModel):
    """Why an event was refused; ``pointer`` leads to the place in the request."""

    code: str
    detail: str
    pointer: str


class ItemResult(BaseModel):
    """What became of one event. A ``duplicate`` was accepted before; with an error when its content differs now."""

    external_id: str | None
    status: Literal["accepted", "duplicate", "rejected"]
    error: ItemError | None = None


class InboundResults(BaseModel):
    """One result per event, in the order of the request."""

    results: list[ItemResult]


_BODY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": InboundBatch.model_json_schema()}},
    }
}


@router.post("/inbound/{inbox_id}", status_code=202, openapi_extra=_BODY)
async def receive_inbound(
    inbox_id: PathId,
    request: Request,
    who: Annotated[Principal, Depends(require_adapter)],
    db: Db,
    *,
    config: Config,
    door: Door,
) -> InboundResults:
    """Accept events of an inbox. What is answered ``accepted`` or ``duplicate`` is committed and will not be lost.

    Answers 429 with Retry-After while services fall behind and the account brings more than its part: nothing of the request is
    taken then.
    """
    if who.inbox_id != inbox_id:
        raise Problem(
            403,
            "wrong_inbox",
            es="Esta clave de adaptador es de otro buzón.",
            en="This adapter key belongs to another inbox.",
        )
    try:
        events = parse_batch(await request.body(), config.inbound_max_events)
    except Refused as refused:
        raise _unreadable(refused) from None
    if (seconds := door.wait_for(who.account_id, len(events))) > 0:
        raise Problem(
            429,
            "account_floods",
            es="La cuenta envía más de lo que le toca ahora: repite la misma petición después del tiempo de Retry-After.",
            en="The account sends more than its part just now: send the same request again after the time in Retry-After.",
            headers={"Retry-After": str(min(math.ceil(seconds), _LONGEST))},
        )
    at = now()
    results: list[ItemResult | None] = [None] * len(events)
    valid = []
    language = language_of(request)
    for index, value in enumerate(events):
        try:
            valid.append((index, parse_event(value, now=at, limits=config.limits)))
        except Refused as refused:
            results[index] = _rejected(value, index, refused.first, language)
        if index % _BREATH == _BREATH - 1:
            await asyncio.sleep(0)
    try:
        async with db.begin() as tx:
            inbox = _open((await inboxes.by_ids(tx, [inbox_id])).get(inbox_id), who)
            arrivals = [arrival(inbox, event, at=at, actor=who.actor) for _, event in valid]
            verdicts = await accept(arrivals, tx)
    except Exception as error:
        if is_transient(error):
            raise unavailable(
                es="La base de datos no responde ahora: repite la misma petición; no se duplicará nada.",
                en="The database does not answer now: send the same request again; nothing will be doubled.",
            ) from error
        raise
    crash_point("ingest.before_answer")
    for (index, _), one, verdict in zip(valid, arrivals, verdicts, strict=True):
        results[index] = _taken(one, index, verdict, language)
    return InboundResults(results=[result for result in results if result is not None])


def _open(inbox: InboxState | None, who: Principal) -> InboxState:
    try:
        return delivery.open_inbox(inbox, who.account_id)
    except Refused as refused:
        fault = refused.first
        if fault is INBOX_DISABLED:
            raise Problem(409, fault.code, es=fault.es, en=fault.en) from None
        raise not_found(fault.es, fault.en, "inbox_not_found") from None


def _unreadable(refused: Refused) -> Problem:
    fault = refused.first
    status = 422 if fault.code == "too_many_events" else 400
    return Problem(status, fault.code, es=fault.es, en=fault.en, errors=field_errors(refused.faults))


def _error(fault: Fault, index: int, language: Language) -> ItemError:
    return ItemError(code=fault.code, detail=fault.text(language), pointer=f"/events/{index}{fault.pointer}")


def _rejected(value: Any, index: int, fault: Fault, language: Language) -> ItemResult:
    return ItemResult(external_id=shown_id(value), status="rejected", error=_error(fault, index, language))


def _taken(one: Arrival, index: int, verdict: Verdict, language: Language) -> ItemResult:
    external_id = one.event.external_id
    match verdict:
        case Verdict.ACCEPTED:
            return ItemResult(external_id=external_id, status="accepted")
        case Verdict.DUPLICATE:
            return ItemResult(external_id=external_id, status="duplicate")
        case Verdict.CONFLICT:
            return ItemResult(
                external_id=external_id, status="duplicate", error=_error(ALREADY_ACCEPTED, index, language)
            )

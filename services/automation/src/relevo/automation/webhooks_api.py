"""HTTP: where the account's events are posted, what became of each, and what a person can do about it."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import datetime
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from relevo.automation.domain.webhooks import TYPES, trial_payload
from relevo.automation.settings import Settings
from relevo.chassis import Runtime, paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Tx
from relevo.chassis.editing import IfMatch, check_match, tag
from relevo.chassis.http import Db, Rt
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.chassis.problems import FieldError, Problem, invalid_fields
from relevo.chassis.webhooks import deliveries, endpoints, sender
from relevo.chassis.webhooks.endpoints import Endpoint, OrderedBy
from relevo.contracts.base import Time, new_id, now
from relevo.contracts.permissions import Permission
from relevo.kernel.addresses import BadAddress, target
from relevo.kernel.text import clean
from relevo.kernel.webhooks import State

router = APIRouter(prefix="/webhooks", tags=["webhooks"])

MAX_ENDPOINTS = 20

Manager = Annotated[Principal, Depends(require(Permission.WEBHOOKS_MANAGE))]
Url = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=2000)]
Description = Annotated[str, StringConstraints(strip_whitespace=True, max_length=200)]
Types = Annotated[
    tuple[Annotated[str, StringConstraints(max_length=100)], ...],
    Field(max_length=len(TYPES), description=f"Event types; none: all that there are. There are: {', '.join(TYPES)}."),
]
Step = Callable[[Tx, str, str, str, datetime], Awaitable[bool]]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class NewWebhook(_Body):
    """An endpoint to be made. ``ordered_by``: what of it keeps its order, each conversation or all; it never changes."""

    url: Url
    description: Description = ""
    types: Types = ()
    ordered_by: OrderedBy = "conversation"
    enabled: bool = True


class WebhookChange(_Body):
    """What shall change; what is not there stays."""

    url: Url | None = None
    description: Description | None = None
    types: Types | None = None
    enabled: bool | None = None


class WebhookOut(BaseModel):
    """An endpoint, and how it does. ``failures``: in a row. ``paused_at``: it took nothing for too long; resume it."""

    id: str
    url: str
    description: str
    types: list[str]
    ordered_by: OrderedBy
    enabled: bool
    failures: int
    failing_since: Time | None
    paused_at: Time | None
    last_error: str | None
    last_tried_at: Time | None
    last_delivered_at: Time | None
    version: int
    created_at: Time
    updated_at: Time
    updated_by: str


class SecretOut(BaseModel):
    """What deliveries are signed with from now on. Shown this once; the one before is good for a day more."""

    secret: str


class DeliveryOut(BaseModel):
    """One event for an endpoint. ``id`` is its `webhook-id`; ``entity_id`` the conversation or contact it tells of."""

    id: str
    entity_id: str
    event_id: str
    type: str
    state: State
    attempts: int
    first_tried_at: Time | None
    last_tried_at: Time | None
    last_status: int | None
    last_error: str | None
    created_at: Time
    done_at: Time | None


class TriedOut(BaseModel):
    """What came of a test."""

    delivered: bool
    status: int | None
    error: str | None


@router.get("")
async def list_webhooks(who: Manager, db: Db, limit: Limit = 50, cursor: Cursor = None) -> Page[WebhookOut]:
    """The account's endpoints, in the order in which they were made."""
    after = paging.decode(cursor, UUID)[0] if cursor else paging.FIRST_ID
    async with db.begin() as tx:
        found = await endpoints.endpoints(tx, who.account_id, after=after, limit=limit + 1)
    return paging.page(found, limit, lambda one: (one.id,), _out)


@router.post("", status_code=201)
async def create_webhook(
    *, body: NewWebhook, who: Manager, db: Db, once: Idempotency, here: Rt, response: Response
) -> WebhookOut:
    """Make an endpoint: events from now on go there. Ask for its secret next (`POST …/secret`)."""
    settings = _settings(here)
    _check(settings, url=body.url, types=body.types)
    at = now()
    made = Endpoint(
        id=new_id(),
        account_id=who.account_id,
        url=body.url,
        description=clean(body.description),
        types=tuple(dict.fromkeys(body.types)),
        ordered_by=body.ordered_by,
        enabled=body.enabled,
        version=1,
        created_at=at,
        updated_at=at,
        updated_by=who.actor,
    )
    async with db.begin() as tx:
        await once.start(tx)
        if await endpoints.count(tx, who.account_id) >= MAX_ENDPOINTS:
            raise Problem(
                409,
                "too_many_webhooks",
                es=f"Una cuenta tiene como mucho {MAX_ENDPOINTS} webhooks: borra uno que no uses.",
                en=f"An account has {MAX_ENDPOINTS} webhooks at most: delete one that you do not use.",
            )
        await endpoints.insert(tx, made, sender.seal(settings.key, sender.new_secret(), made.id))
        answer = await once.finish(tx, _out(made))
    tag(response, made.version)
    return answer


@router.get("/{webhook_id}")
async def get_webhook(webhook_id: UUID, who: Manager, db: Db, response: Response) -> WebhookOut:
    """One endpoint, and how it does."""
    async with db.begin() as tx:
        found = await _found(tx, who, webhook_id)
    tag(response, found.version)
    return _out(found)


@router.patch("/{webhook_id}")
async def edit_webhook(
    *,
    webhook_id: UUID,
    body: WebhookChange,
    who: Manager,
    db: Db,
    here: Rt,
    response: Response,
    if_match: IfMatch = None,
) -> WebhookOut:
    """Change an endpoint. What waits goes to the new address; one that is switched off gets nothing that happens meanwhile."""
    _check(_settings(here), url=body.url, types=body.types or ())
    async with db.begin() as tx:
        before = await _found(tx, who, webhook_id, lock=True)
        check_match(if_match, before.version, _out(before))
        after = replace(
            before,
            url=body.url or before.url,
            description=before.description if body.description is None else clean(body.description),
            types=before.types if body.types is None else tuple(dict.fromkeys(body.types)),
            enabled=before.enabled if body.enabled is None else body.enabled,
            version=before.version + 1,
            updated_at=now(),
            updated_by=who.actor,
        )
        await endpoints.update(tx, after)
    tag(response, after.version)
    return _out(after)


@router.delete("/{webhook_id}", status_code=204)
async def delete_webhook(webhook_id: UUID, who: Manager, db: Db, *, if_match: IfMatch = None) -> None:
    """Delete an endpoint with everything that waits for it."""
    async with db.begin() as tx:
        before = await _found(tx, who, webhook_id, lock=True)
        check_match(if_match, before.version, _out(before))
        await endpoints.delete(tx, who.account_id, str(webhook_id))


@router.post("/{webhook_id}/secret", status_code=201)
async def renew_webhook_secret(webhook_id: UUID, who: Manager, db: Db, here: Rt) -> SecretOut:
    """Make a secret and show it, this once. For a day deliveries are signed with the one before too."""
    secret = sender.new_secret()
    async with db.begin() as tx:
        found = await _found(tx, who, webhook_id, lock=True)
        sealed = sender.seal(_settings(here).key, secret, found.id)
        await endpoints.rotate(tx, who.account_id, found.id, sealed, at=now(), by=who.actor)
    return SecretOut(secret=secret)


@router.post("/{webhook_id}/test")
async def test_webhook(webhook_id: UUID, who: Manager, db: Db, here: Rt) -> TriedOut:
    """Post something of the type `relevo.webhook.test.v1` now, whatever waits, and tell what came of it."""
    async with db.begin() as tx:
        found = await _found(tx, who, webhook_id)
        kept = await endpoints.secrets(tx, who.account_id, found.id)
    if kept is None:
        raise _not_found()
    delivery = new_id()
    head: dict[str, Any] = {"timestamp": now().isoformat(), "id": delivery, "account_id": who.account_id}
    outcome = await _sender(here).attempt(found.url, kept, found.id, delivery, trial_payload(head))
    return TriedOut(delivered=outcome.taken, status=outcome.status, error=outcome.words)


@router.post("/{webhook_id}/resume")
async def resume_webhook(webhook_id: UUID, who: Manager, db: Db, here: Rt, response: Response) -> WebhookOut:
    """Try an endpoint again at once, paused or not, with all that waits for it, in its order."""
    async with db.begin() as tx:
        await _found(tx, who, webhook_id, lock=True)
        await endpoints.resume(tx, who.account_id, str(webhook_id), at=now(), by=who.actor)
        found = await _found(tx, who, webhook_id)
    _sender(here).wake()
    tag(response, found.version)
    return _out(found)


@router.get("/{webhook_id}/deliveries")
async def list_webhook_deliveries(
    *, webhook_id: UUID, who: Manager, db: Db, state: State | None = None, limit: Limit = 50, cursor: Cursor = None
) -> Page[DeliveryOut]:
    """What the endpoint had and has yet to have, of the last two weeks, the newest first."""
    after = paging.decode(cursor, UUID)[0] if cursor else None
    async with db.begin() as tx:
        await _found(tx, who, webhook_id)
        rows = await deliveries.deliveries(
            tx, who.account_id, str(webhook_id), state=state, after=after, limit=limit + 1
        )
    return paging.page(
        rows, limit, lambda row: (row.id,), lambda row: DeliveryOut.model_validate(row, from_attributes=True)
    )


@router.post("/{webhook_id}/deliveries/{delivery_id}/replay")
async def replay_webhook_delivery(webhook_id: UUID, delivery_id: UUID, who: Manager, db: Db, here: Rt) -> DeliveryOut:
    """Send something again that was delivered or given up, under the same `webhook-id`, behind what waits."""
    refused = Problem(
        409,
        "cannot_replay",
        es="Aún espera a enviarse, o su contenido se borró con los datos de la persona.",
        en="It still waits to be sent, or what it said was erased with the person's data.",
    )
    async with db.begin() as tx:
        answer = await _changed(tx, who, webhook_id, delivery_id, by=deliveries.replay, refused=refused)
    _sender(here).wake()
    return answer


@router.post("/{webhook_id}/deliveries/{delivery_id}/skip")
async def skip_webhook_delivery(webhook_id: UUID, delivery_id: UUID, who: Manager, db: Db, here: Rt) -> DeliveryOut:
    """Give up something that waits, so that what waits behind it goes on."""
    refused = Problem(
        409, "does_not_wait", es="Ya no espera: no hay nada que saltar.", en="It waits no more: nothing to skip."
    )
    async with db.begin() as tx:
        answer = await _changed(tx, who, webhook_id, delivery_id, by=deliveries.skip, refused=refused)
    _sender(here).wake()
    return answer


def _settings(here: Runtime) -> Settings:
    assert isinstance(here.settings, Settings)
    return here.settings


def _sender(here: Runtime) -> sender.Sender:
    found: sender.Sender = here.extra["webhooks"]
    return found


def _check(settings: Settings, *, url: str | None, types: tuple[str, ...]) -> None:
    errors = []
    if url is not None:
        private = settings.webhooks_allow_private
        try:
            target(url, allow_private=private, allow_plain=private)
        except BadAddress as refused:
            errors.append(FieldError("/url", es=refused.es, en=refused.en))
    errors += [
        FieldError(
            f"/types/{at}",
            es=f"No hay eventos de este tipo. Hay: {', '.join(TYPES)}.",
            en=f"There are no events of this type. There are: {', '.join(TYPES)}.",
        )
        for at, name in enumerate(types)
        if name not in TYPES
    ]
    if errors:
        raise invalid_fields(errors)


async def _found(tx: Tx, who: Principal, webhook_id: UUID, *, lock: bool = False) -> Endpoint:
    found = await endpoints.read(tx, who.account_id, str(webhook_id), lock=lock)
    if found is None:
        raise _not_found()
    return found


async def _delivery(tx: Tx, who: Principal, webhook_id: UUID, delivery_id: UUID) -> DeliveryOut:
    row = await deliveries.delivery(tx, who.account_id, str(webhook_id), str(delivery_id))
    if row is None:
        raise Problem(404, "delivery_not_found", es="No existe ese envío.", en="There is no such delivery.")
    return DeliveryOut.model_validate(row, from_attributes=True)


async def _changed(
    tx: Tx, who: Principal, webhook_id: UUID, delivery_id: UUID, *, by: Step, refused: Problem
) -> DeliveryOut:
    await _delivery(tx, who, webhook_id, delivery_id)
    if not await by(tx, who.account_id, str(webhook_id), str(delivery_id), now()):
        raise refused
    return await _delivery(tx, who, webhook_id, delivery_id)


def _not_found() -> Problem:
    return Problem(404, "webhook_not_found", es="No existe ese webhook.", en="There is no such webhook.")


def _out(endpoint: Endpoint) -> WebhookOut:
    return WebhookOut.model_validate(endpoint, from_attributes=True)

"""An inbox's connection: where its webhook goes, and its secret."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from relevo.channels import store
from relevo.channels.domain import signing
from relevo.channels.settings import Settings
from relevo.channels.webhook import new_secret
from relevo.chassis import directory, sealing
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Tx
from relevo.chassis.http import Db, Rt
from relevo.chassis.problems import Problem
from relevo.contracts.base import Time, now
from relevo.contracts.ingest import InboxState
from relevo.contracts.permissions import Permission

router = APIRouter(tags=["channels"])

Manager = Annotated[Principal, Depends(require(Permission.INBOXES_MANAGE))]


class WebhookOut(BaseModel):
    """How an API inbox's messages leave. Each is a POST of JSON `{"type": "message", "data": …}`."""

    url: str | None = Field(description="Set with the inbox (`PATCH /inboxes/{id}`); null: nothing is delivered.")
    secret_changed_at: Time | None = Field(description="Null: no secret was asked for yet.")
    timestamp_header: str = signing.TIMESTAMP
    signature_header: str = Field(
        default=signing.SIGNATURE,
        description="`v1=` and the hex of HMAC-SHA256(secret, timestamp + '.' + body); several with commas between.",
    )
    delivery_header: str = Field(
        default=signing.DELIVERY, description="The message's id: the same message may be delivered twice."
    )
    waiting: int
    failed_last_day: int
    last_sent_at: Time | None


class ChannelOut(BaseModel):
    """How an inbox is connected; never with a secret."""

    inbox_id: str
    channel: str
    enabled: bool
    webhook: WebhookOut | None = None


class SecretOut(BaseModel):
    """A new secret. It is shown once; the one before it signs beside it for a day."""

    secret: str


@router.get("/channels/{inbox_id}")
async def get_channel(inbox_id: UUID, who: Manager, db: Db) -> ChannelOut:
    """How an inbox is connected, and how its deliveries are doing."""
    async with db.begin() as tx:
        inbox = await _inbox(tx, who, inbox_id)
        out = ChannelOut(inbox_id=inbox.id, channel=inbox.channel, enabled=inbox.enabled)
        if inbox.channel != "api":
            return out
        found = await store.secrets(tx, who.account_id, inbox.id)
        counts = await store.counts(tx, who.account_id, inbox.id)
    out.webhook = WebhookOut(
        url=inbox.webhook_url,
        secret_changed_at=found.rotated_at if found else None,
        waiting=counts.waiting,
        failed_last_day=counts.failed,
        last_sent_at=counts.last_sent_at,
    )
    return out


@router.post("/channels/{inbox_id}/secret", status_code=201)
async def rotate_channel_secret(inbox_id: UUID, who: Manager, db: Db, rt: Rt) -> SecretOut:
    """Make a new secret for the webhook's signatures, and show it, this once."""
    settings = rt.settings
    assert isinstance(settings, Settings)
    secret = new_secret()
    async with db.begin() as tx:
        inbox = await _inbox(tx, who, inbox_id)
        if inbox.channel != "api":
            raise Problem(
                409,
                "channel_has_no_secret",
                es="Solo los canales de tipo api firman sus webhooks.",
                en="Only channels of type api sign webhooks.",
            )
        sealed = sealing.seal(settings.key, secret.encode(), label=inbox.id)
        await store.rotate(tx, who.account_id, inbox.id, sealed, now())
    return SecretOut(secret=secret)


async def _inbox(tx: Tx, who: Principal, inbox_id: UUID) -> InboxState:
    inbox = (await directory.inboxes(tx, [str(inbox_id)])).get(str(inbox_id))
    if inbox is None or inbox.account_id != who.account_id:
        raise Problem(404, "inbox_not_found", es="No existe esa bandeja.", en="There is no such inbox.")
    return inbox

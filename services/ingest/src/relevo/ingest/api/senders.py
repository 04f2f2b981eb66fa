"""What was accepted of one sender: how an adapter's author sees that events have come through."""

from typing import Annotated

from fastapi import APIRouter, Depends, Query
from pydantic import BaseModel

from relevo.chassis.auth import Principal, require
from relevo.chassis.http import Db
from relevo.contracts.base import Time
from relevo.contracts.permissions import Permission
from relevo.ingest.api.common import PathId, not_found
from relevo.ingest.store import senders
from relevo.kernel.identity import sender_key

router = APIRouter(tags=["inbound"])
Reader = Annotated[Principal, Depends(require(Permission.QUARANTINE_MANAGE, Permission.INBOXES_MANAGE))]


class SenderOut(BaseModel):
    """One sender of an inbox. ``accepted`` counts every event of theirs, messages and delivery reports, each once."""

    id: str
    sender_key: str
    accepted: int
    first_seen: Time
    last_seen: Time


@router.get("/inbound/{inbox_id}/senders")
async def get_sender(
    inbox_id: PathId,
    who: Reader,
    db: Db,
    sender: Annotated[
        str, Query(alias="id", min_length=1, max_length=512, description="The channel's id of the person.")
    ],
) -> SenderOut:
    key = sender_key(sender)
    async with db.begin() as tx:
        row = await senders.one(tx, who.account_id, inbox_id, key)
    if row is None:
        raise not_found(
            "No se ha aceptado nada de ese remitente.", "Nothing of that sender was accepted.", "sender_not_found"
        )
    return SenderOut(
        id=sender, sender_key=key, accepted=row.sequence, first_seen=row.first_seen, last_seen=row.last_seen
    )

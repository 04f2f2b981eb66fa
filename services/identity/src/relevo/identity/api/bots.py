"""Bots: who answers first in an inbox, and their credentials."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends
from pydantic import BaseModel

from relevo.chassis.auth import Principal, require
from relevo.chassis.http import Db
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.contracts.base import Id
from relevo.contracts.permissions import Permission
from relevo.identity import administration, bus_credentials
from relevo.identity.api.bus_credentials import CredentialOut, list_credentials, revoke_credential
from relevo.identity.api.common import Body, Called, Name

router = APIRouter(tags=["bots"])
Manager = Annotated[Principal, Depends(require(Permission.KEYS_MANAGE))]


class NewBot(Body):
    """The name is what customers see beside what it says."""

    inbox_id: UUID
    name: Name


class IssuedBot(BaseModel):
    """Shown this once: ``credentials`` is the text of a NATS .creds file, to be told; ``key`` is to answer over HTTP."""

    id: Id
    credentials: str
    key: str


@router.get("/bots")
async def list_bots(who: Manager, db: Db, limit: Limit = 50, cursor: Cursor = None) -> Page[CredentialOut]:
    """The bots in force."""
    return await list_credentials(db, who, "bot", limit, cursor)


@router.post("/bots", status_code=201)
async def attach_bot(body: NewBot, who: Manager, db: Db, caller: Called) -> IssuedBot:
    """Attach a bot to an inbox. It gets conversations once the inbox says `bot_first`; of several the newest counts."""
    inbox = str(body.inbox_id)
    async with caller.act(db, who) as act:
        administration.check_bot(act, inbox)
    issued = await bus_credentials.issue_bot(
        db,
        caller.bus,
        caller.by(who),
        account=who.account_id,
        inbox=inbox,
        name=body.name,
        created_by=who.viewer.agent_id,
    )
    assert issued.key is not None
    return IssuedBot(id=issued.id, key=issued.key, credentials=issued.credentials)


@router.delete("/bots/{bot_id}", status_code=204)
async def detach_bot(bot_id: UUID, who: Manager, db: Db, caller: Called) -> None:
    """Take a bot away: its connections end, its key is refused. Its conversations go to people when their customers write."""
    await revoke_credential(db, who, caller, "bot", str(bot_id))

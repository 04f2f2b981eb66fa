"""Bots: who answers first in an inbox, and their credentials."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends

from relevo.chassis.auth import Principal, require
from relevo.chassis.http import Db
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.contracts.permissions import Permission
from relevo.identity.api.bus_credentials import (
    CredentialOut,
    IssuedAdapterCredential,
    NewAdapterCredential,
    issue_for_inbox,
    list_credentials,
    revoke_credential,
)
from relevo.identity.api.common import Called

router = APIRouter(tags=["bots"])
Manager = Annotated[Principal, Depends(require(Permission.KEYS_MANAGE))]


class NewBot(NewAdapterCredential):
    """The name is what customers see beside what it says."""


class IssuedBot(IssuedAdapterCredential):
    """Shown this once: ``credentials`` is the text of a NATS .creds file, to be told; ``key`` is to answer over HTTP."""


@router.get("/bots")
async def list_bots(who: Manager, db: Db, limit: Limit = 50, cursor: Cursor = None) -> Page[CredentialOut]:
    """The bots in force."""
    return await list_credentials(db, who, "bot", limit, cursor)


@router.post("/bots", status_code=201)
async def attach_bot(body: NewBot, who: Manager, db: Db, caller: Called) -> IssuedBot:
    """Attach a bot to an inbox. It gets conversations once the inbox says `bot_first`; of several the newest counts."""
    return IssuedBot.of(await issue_for_inbox(db, who, caller, "bot", body))


@router.delete("/bots/{bot_id}", status_code=204)
async def detach_bot(bot_id: UUID, who: Manager, db: Db, caller: Called) -> None:
    """Take a bot away: its connections end, its key is refused. Its conversations go to people when their customers write."""
    await revoke_credential(db, who, caller, "bot", str(bot_id))

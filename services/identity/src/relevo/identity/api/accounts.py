"""The account and its settings."""

from typing import Annotated

from fastapi import APIRouter, Depends

from relevo.chassis.auth import Principal, require
from relevo.chassis.http import Db
from relevo.contracts.identity import AccountState
from relevo.contracts.permissions import Permission
from relevo.identity import administration, problems
from relevo.identity.api.common import Anyone, Body, Called, Language, Name, TimeZone
from relevo.identity.store import directory

router = APIRouter(tags=["account"])


class AccountPatch(Body):
    """The fields that are given are changed."""

    name: Name | None = None
    language: Language | None = None
    time_zone: TimeZone | None = None


@router.get("/account")
async def get_account(who: Anyone, db: Db) -> AccountState:
    async with db.begin() as tx:
        found = await directory.account(tx, who.account_id)
    if found is None:
        raise problems.not_found("account")
    return found.state


@router.patch("/account")
async def edit_account(
    body: AccountPatch,
    who: Annotated[Principal, Depends(require(Permission.SETTINGS_MANAGE))],
    db: Db,
    caller: Called,
) -> AccountState:
    async with caller.act(db, who) as act:
        return (await administration.edit_account(act, body.model_dump(exclude_none=True))).state

"""One person in several accounts: where they work, and the way from one to another."""

from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, Field

from relevo.chassis.http import Db
from relevo.contracts.base import Id
from relevo.identity import switching
from relevo.identity.api.common import AnyText, Body, Called, Person
from relevo.identity.api.sessions import SignedIn, signed_in

router = APIRouter(tags=["sessions"])


class MyAccount(BaseModel):
    """An account that I work in. ``role``: the predefined ones have a fixed English name."""

    id: Id
    name: str
    role: str
    current: bool


class MyAccounts(BaseModel):
    """The accounts that I work in, by name; of more than a hundred the first."""

    items: list[MyAccount]


class Switch(Body):
    """``code`` when that was answered with `second_factor_needed`: six digits of that account's entry in the app."""

    account_id: UUID
    code: AnyText | None = Field(default=None, repr=False)


@router.get("/me/accounts")
async def list_my_accounts(who: Person, db: Db) -> MyAccounts:
    """The accounts that I work in: those that know me by this address, where I have confirmed it as here."""
    async with db.begin() as tx:
        found = await switching.accounts(tx, who.account_id, who.id)
    return MyAccounts(
        items=[
            MyAccount(id=one.account_id, name=one.account_name, role=one.role, current=one.account_id == who.account_id)
            for one in found
        ]
    )


@router.post("/sessions/switch", status_code=201)
async def switch_account(body: Switch, who: Person, db: Db, caller: Called) -> SignedIn:
    """Begin a session in another account of mine. This one goes on; each token is good for its own account only."""
    to = switching.To(str(body.account_id), body.code, caller.ip, caller.user_agent)
    return await signed_in(db, await switching.switch(db, caller.settings, who.account_id, who.id, to))

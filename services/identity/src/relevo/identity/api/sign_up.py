"""An account for whoever asks, where the operator lets them (RELEVO_SIGN_UP)."""

from fastapi import APIRouter
from pydantic import BaseModel, Field

from relevo.chassis.http import Db
from relevo.contracts.base import Time, new_id, now
from relevo.identity import sign_up
from relevo.identity.api.common import AnyText, Body, Called, Email, Language, Name, TimeZone, Token
from relevo.identity.api.sessions import SignedIn, signed_in
from relevo.identity.sign_up import LIFETIME, Confirmation
from relevo.identity.store.sign_ups import SignUp

router = APIRouter(tags=["sign-up"])


class SignUpOpen(BaseModel):
    """Whether one can sign up here."""

    open: bool


class WantedAccount(Body):
    """The account, and who will administer it."""

    account_name: Name
    name: Name
    email: Email
    language: Language = "es"
    time_zone: TimeZone = "Europe/Madrid"


class SignUpOut(BaseModel):
    """What a link is for."""

    account_name: str
    name: str
    email: str
    language: Language
    expires_at: Time


class ConfirmSignUp(Token):
    password: AnyText = Field(repr=False)


@router.get("/sign-up")
async def get_sign_up(caller: Called) -> SignUpOpen:
    """Whether one can sign up here."""
    return SignUpOpen(open=caller.settings.sign_up)


@router.post("/sign-up", status_code=202)
async def ask_for_account(body: WantedAccount, db: Db, caller: Called) -> None:
    """Have a link sent to the address; the account is made once it is used. The answer is the same for every address."""
    wanted = SignUp(
        account_id=new_id(),
        email=body.email,
        name=body.name,
        account_name=body.account_name,
        language=body.language,
        time_zone=body.time_zone,
        expires_at=now() + LIFETIME,
    )
    await sign_up.ask(db, caller.settings, wanted, caller.ip)


@router.post("/sign-up/read")
async def read_sign_up(body: Token, db: Db, caller: Called) -> SignUpOut:
    """What a link is for. It stays good. (POST: a token must not stand in an address.)"""
    found = await sign_up.read(db, caller.settings, body.token, caller.ip)
    return SignUpOut(
        account_name=found.account_name,
        name=found.name,
        email=found.email,
        language=found.language,
        expires_at=found.expires_at,
    )


@router.post("/sign-up/confirm", status_code=201)
async def confirm_sign_up(body: ConfirmSignUp, db: Db, caller: Called) -> SignedIn:
    """Choose a password: the account is made, and the first session begins. The link is used up."""
    given = Confirmation(body.token, body.password, caller.ip, caller.user_agent)
    return await signed_in(db, await sign_up.confirm(db, caller.settings, caller.passwords, given))

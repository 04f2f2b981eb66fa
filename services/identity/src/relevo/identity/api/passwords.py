"""The forgotten password."""

from fastapi import APIRouter
from pydantic import Field

from relevo.chassis.http import Db, Rt
from relevo.identity import recovery
from relevo.identity.api.common import AnyText, Body, Called, Token
from relevo.identity.store.resets import Request
from relevo.kernel.identity import email_or_none

router = APIRouter(tags=["passwords"])


class Forgotten(Body):
    email: AnyText


class NewPassword(Token):
    password: AnyText = Field(repr=False)


@router.post("/password-resets", status_code=202)
async def request_password_reset(body: Forgotten, db: Db, rt: Rt, caller: Called) -> None:
    """Have a link sent to the address, if somebody has it. The answer does not tell."""
    email = email_or_none(body.email)
    if email is not None:
        await recovery.ask(db, rt.extra["reset_asked"], Request(email, caller.ip, caller.user_agent))


@router.post("/password-resets/complete", status_code=204)
async def complete_password_reset(body: NewPassword, db: Db, caller: Called) -> None:
    """Choose another password by the link that was sent; all sessions end. The link is used up."""
    await recovery.complete(
        db,
        caller.settings,
        caller.passwords,
        token=body.token,
        password=body.password,
        ip=caller.ip,
        user_agent=caller.user_agent,
    )

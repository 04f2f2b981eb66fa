"""Sign-in at the operator's identity provider."""

from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, Field

from relevo.chassis.http import Db, Rt
from relevo.identity import oidc, problems
from relevo.identity.api.common import AnyText, Body, Called
from relevo.identity.api.sessions import SignedIn, signed_in
from relevo.identity.oidc import Provider, Return

router = APIRouter(tags=["oidc"])


class OidcOut(BaseModel):
    """Whether people can sign in at a provider, and how it is called."""

    enabled: bool
    name: str | None


class Begun(BaseModel):
    """Keep ``state`` and ``flow`` in this browser, and go to ``url``.

    The provider sends the browser back to ``/oidc/callback`` of the console with ``code`` and ``state``; go on only if the
    state is the one that was kept.
    """

    url: str
    state: str
    flow: str


class Back(Body):
    """``code``: the provider's; left out when this is sent again with what was missing."""

    state: AnyText = Field(repr=False)
    flow: AnyText = Field(repr=False)
    code: AnyText | None = Field(default=None, repr=False)
    account_id: UUID | None = None
    second_factor: AnyText | None = Field(default=None, repr=False)


@router.get("/oidc")
async def get_oidc(caller: Called, rt: Rt) -> OidcOut:
    """Whether people can sign in at a provider."""
    enabled = rt.extra["oidc"] is not None
    return OidcOut(enabled=enabled, name=caller.settings.oidc_name if enabled else None)


@router.post("/oidc/start", status_code=201)
async def begin_oidc(db: Db, rt: Rt, caller: Called) -> Begun:
    """Begin to sign in at the provider."""
    begun = await oidc.begin(db, _provider(rt.extra["oidc"]), caller.ip)
    return Begun(url=begun.url, state=begun.state, flow=begun.flow)


@router.post("/oidc/complete", status_code=201)
async def complete_oidc(body: Back, db: Db, rt: Rt, caller: Called) -> SignedIn:
    """Sign in with what the provider sent the browser back with. Answers as `POST /sessions` does."""
    back = Return(
        body.state,
        body.flow,
        body.code,
        str(body.account_id) if body.account_id else None,
        body.second_factor,
        caller.ip,
        caller.user_agent,
    )
    return await signed_in(db, await oidc.complete(db, caller.settings, _provider(rt.extra["oidc"]), back))


def _provider(configured: Provider | None) -> Provider:
    if configured is None:
        raise problems.oidc_off()
    return configured

"""Two-step verification."""

from uuid import UUID

from fastapi import APIRouter
from pydantic import BaseModel, Field

from relevo.chassis.auth import Principal
from relevo.chassis.database import Database
from relevo.chassis.http import Db
from relevo.chassis.sealing import key_bytes
from relevo.contracts.base import Time
from relevo.identity import administration, limits, second_factor
from relevo.identity.api.agents import Manager
from relevo.identity.api.common import AnyText, Body, Called, Person
from relevo.identity.api.me import verified_password
from relevo.identity.domain import totp
from relevo.identity.domain.sign_in import PER_SECOND_FACTOR
from relevo.identity.store import second_factor as store
from relevo.identity.store import sign_in

router = APIRouter(tags=["second-factor"])


class SecondFactorOut(BaseModel):
    """Whether signing in asks me for a code, since when, and how many recovery codes are left."""

    enabled: bool
    since: Time | None
    recovery_codes_left: int


class MyPassword(Body):
    password: AnyText = Field(repr=False)


class MyCode(Body):
    """Six digits of the app."""

    code: AnyText = Field(repr=False)


class MyPasswordAndCode(MyPassword):
    """``code``: six digits of the app, or a recovery code."""

    code: AnyText = Field(repr=False)


class Enrolment(BaseModel):
    """What the app is to know; shown this once. ``uri`` is what the picture (QR) holds."""

    secret: str
    uri: str


class RecoveryCodes(BaseModel):
    """Each works once, in the place of a code; shown this once."""

    recovery_codes: list[str]


@router.get("/me/second-factor")
async def get_second_factor(who: Person, db: Db) -> SecondFactorOut:
    """Whether signing in asks me for a code."""
    async with db.begin() as tx:
        found = await store.confirmed(tx, who.account_id, who.id)
    since, left = found or (None, 0)
    return SecondFactorOut(enabled=found is not None, since=since, recovery_codes_left=left)


@router.post("/me/second-factor", status_code=201)
async def begin_second_factor(body: MyPassword, who: Person, db: Db, caller: Called) -> Enrolment:
    """Begin to set it up. It is asked for when it has been confirmed."""
    await verified_password(db, caller, who, body.password, "/password")
    async with caller.act(db, who) as act:
        agent = (await administration.agent(act, who.id)).state
        secret = await second_factor.begin(act, agent, key_bytes(caller.settings.master_key))
    return Enrolment(secret=totp.shown(secret), uri=totp.uri(secret, agent.email))


@router.post("/me/second-factor/confirm")
async def confirm_second_factor(body: MyCode, who: Person, db: Db, caller: Called) -> RecoveryCodes:
    """Show that the app works: codes are asked for from now on."""
    await _count(db, who)
    async with caller.act(db, who) as act:
        agent = (await administration.agent(act, who.id)).state
        codes = await second_factor.confirm(act, agent, key_bytes(caller.settings.master_key), body.code)
        await _forgive(act, who)
    return RecoveryCodes(recovery_codes=codes)


@router.post("/me/second-factor/recovery-codes")
async def renew_recovery_codes(body: MyPasswordAndCode, who: Person, db: Db, caller: Called) -> RecoveryCodes:
    """Other recovery codes; those before are no longer good."""
    await verified_password(db, caller, who, body.password, "/password")
    await _count(db, who)
    async with caller.act(db, who) as act:
        agent = (await administration.agent(act, who.id)).state
        codes = await second_factor.renew_codes(act, agent, key_bytes(caller.settings.master_key), body.code)
        await _forgive(act, who)
    return RecoveryCodes(recovery_codes=codes)


@router.post("/me/second-factor/disable", status_code=204)
async def disable_second_factor(body: MyPasswordAndCode, who: Person, db: Db, caller: Called) -> None:
    """Ask me for no code any more."""
    await verified_password(db, caller, who, body.password, "/password")
    await _count(db, who)
    async with caller.act(db, who) as act:
        agent = (await administration.agent(act, who.id)).state
        await second_factor.disable(act, agent, key_bytes(caller.settings.master_key), body.code)
        await _forgive(act, who)


@router.delete("/agents/{agent_id}/second-factor", status_code=204)
async def remove_second_factor(agent_id: UUID, who: Manager, db: Db, caller: Called) -> None:
    """Take an agent's second factor away: they lost it. Their sessions go on, and they are told."""
    async with caller.act(db, who) as act:
        agent = (await administration.agent(act, str(agent_id))).state
        administration.check_reach(act, await administration.role(act, agent.role_id))
        administration.check_not_oneself(act, agent)
        await second_factor.take_away(act, agent)


async def _count(db: Database, who: Principal) -> None:
    await limits.check(db, (PER_SECOND_FACTOR, "code", who.id))


async def _forgive(act: administration.Act, who: Principal) -> None:
    await sign_in.forgive_attempts(act.tx, [limits.subject("code", who.id)])

"""HTTP: how I want to hear of what, and what holds in the account for whoever has not chosen."""

from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import BaseModel, Field

from relevo.chassis import directory
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Tx
from relevo.chassis.http import Db
from relevo.contracts.base import Time
from relevo.contracts.permissions import Permission
from relevo.notification.api.me import Me
from relevo.notification.domain.deciding import KINDS, Choice, Choices, chosen
from relevo.notification.store import access, choices, mails

router = APIRouter()

Kind = Literal["assignment", "mention", "message", "reminder", "alert"]


class Preference(BaseModel):
    """How one kind of news is told."""

    kind: Kind = Field(
        description="assignment: given to me; mention: of me or my team in a note; message: a customer wrote where I am "
        "assigned or take part; alert: everything else."
    )
    in_app: bool = Field(description="In the list and over the socket.")
    email: bool = Field(description="By e-mail, unless it is read in the list within some minutes.")
    push: bool = Field(default=True, description="On devices that subscribed to web push.")


class PreferenceOut(Preference):
    """How one kind of news is told, and who says so."""

    own: bool = Field(description="I chose it; else the account's default holds.")


class Preferences(BaseModel):
    """How news are told, by kind; a kind that is left out of a PUT stays as it is."""

    items: Annotated[list[Preference], Field(max_length=len(KINDS))]


class PreferencesOut(BaseModel):
    """How I hear of every kind of news."""

    items: list[PreferenceOut]
    email_problem: str | None = Field(
        default=None, description="Why nothing is sent to my address: a mail server refused it for good."
    )


class BounceOut(BaseModel):
    """An agent whose address a mail server refused for good."""

    agent_id: str
    address: str
    reason: str
    at: Time


class Bounces(BaseModel):
    """All of the account."""

    items: list[BounceOut]


Manager = Annotated[Principal, Depends(require(Permission.SETTINGS_MANAGE))]
PeopleManager = Annotated[Principal, Depends(require(Permission.AGENTS_MANAGE))]


@router.get("/notifications/preferences")
async def get_notification_preferences(me: Me, db: Db) -> PreferencesOut:
    """How I hear of what."""
    async with db.begin() as tx:
        return await _mine(me, tx)


@router.put("/notifications/preferences")
async def put_notification_preferences(body: Preferences, me: Me, db: Db) -> PreferencesOut:
    """Choose how I hear of what."""
    async with db.begin() as tx:
        await choices.save(tx, me.account_id, me.id, _choices(body))
        return await _mine(me, tx)


@router.delete("/notifications/preferences/{kind}")
async def delete_notification_preference(kind: Kind, me: Me, db: Db) -> PreferencesOut:
    """Have the account's default again for one kind."""
    async with db.begin() as tx:
        await choices.drop(tx, me.account_id, me.id, kind)
        return await _mine(me, tx)


@router.get("/notifications/defaults")
async def get_notification_defaults(me: Manager, db: Db) -> Preferences:
    """What holds in the account for whoever has not chosen."""
    async with db.begin() as tx:
        return await _defaults(me, tx)


@router.put("/notifications/defaults")
async def put_notification_defaults(body: Preferences, me: Manager, db: Db) -> Preferences:
    """Choose what holds in the account for whoever has not chosen."""
    async with db.begin() as tx:
        await choices.save_defaults(tx, me.account_id, _choices(body))
        return await _defaults(me, tx)


@router.get("/notifications/bounces")
async def list_notification_bounces(me: PeopleManager, db: Db) -> Bounces:
    """Agents whom no e-mail reaches: a mail server refused their address for good. Goes away when one arrives."""
    async with db.begin() as tx:
        agents = await directory.agents(tx, me.account_id)
        refused = await mails.bounces(tx, [me.account_id], [agent.email for agent in agents])
    found = [(agent, refused.get((me.account_id, agent.email.lower()))) for agent in agents]
    return Bounces(
        items=[
            BounceOut(agent_id=agent.id, address=agent.email, reason=row.reason, at=row.at)
            for agent, row in found
            if row is not None
        ]
    )


async def _mine(me: Principal, tx: Tx) -> PreferencesOut:
    known = await choices.of(tx, [me.account_id], [me.id])
    person = (await access.people(tx, [me.account_id], [me.id])).get(me.id)
    address = person.agent.email if person else ""
    bounce = (await mails.bounces(tx, [me.account_id], [address])).get((me.account_id, address.lower()))
    items = [
        PreferenceOut(**_shown(known, me.account_id, me.id, kind).model_dump(), own=(me.id, kind) in known)
        for kind in KINDS
    ]
    return PreferencesOut(items=items, email_problem=bounce.reason if bounce else None)


async def _defaults(me: Principal, tx: Tx) -> Preferences:
    known = await choices.of(tx, [me.account_id], [])
    return Preferences(items=[_shown(known, me.account_id, "", kind) for kind in KINDS])


def _shown(known: Choices, account_id: str, agent_id: str, kind: str) -> Preference:
    choice = chosen(known, account_id, agent_id, kind)
    return Preference.model_validate(
        {"kind": kind, "in_app": choice.in_app, "email": choice.email, "push": choice.push}
    )


def _choices(body: Preferences) -> dict[str, Choice]:
    return {one.kind: Choice(one.in_app, one.email, one.push) for one in body.items}

"""HTTP: what a supervisor wants to be told of about the statuses of others."""

from dataclasses import replace
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field

from relevo.automation import alerts
from relevo.automation import alerts_store as store
from relevo.automation.domain.alerts import Alert, Kind
from relevo.chassis import directory, paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Tx
from relevo.chassis.editing import IfMatch, check_match, tag
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.chassis.problems import FieldError, Problem, invalid_fields
from relevo.contracts.base import Time, new_id, now
from relevo.contracts.permissions import Permission
from relevo.contracts.presence import RoutingState

router = APIRouter(prefix="/alerts", tags=["alerts"])

MAX_ALERTS = 100

Supervisor = Annotated[Principal, Depends(require(Permission.PRESENCE_OTHERS))]


class NewAlert(BaseModel):
    """Be told when it has been so for ``minutes``: an agent, or each of a team, in one of these states (`status`), there though
    off shift (`outside_shift`), or nobody of a team available (`nobody_available`). Once while it stays so, and of the same
    agent or team not again within ``quiet_minutes``.
    """

    model_config = ConfigDict(extra="forbid")

    kind: Kind
    agent_id: UUID | None = None
    team_id: UUID | None = None
    states: Annotated[tuple[RoutingState, ...], Field(max_length=4)] = ()
    minutes: Annotated[int, Field(ge=0, le=1440)] = 5
    quiet_minutes: Annotated[int, Field(ge=0, le=1440)] = 30
    enabled: bool = True


class AlertOut(BaseModel):
    """One of one's own alerts."""

    id: str
    kind: Kind
    agent_id: str | None
    team_id: str | None
    states: list[RoutingState]
    minutes: int
    quiet_minutes: int
    enabled: bool
    version: int
    created_at: Time
    updated_at: Time


@router.get("")
async def list_alerts(who: Supervisor, db: Db, limit: Limit = 50, cursor: Cursor = None) -> Page[AlertOut]:
    """One's own alerts, in the order in which they were made."""
    after = paging.decode(cursor, UUID)[0] if cursor else paging.FIRST_ID
    async with db.begin() as tx:
        found = await store.mine(tx, who.account_id, _person(who), after=after, limit=limit + 1)
    return paging.page(found, limit, lambda one: (one.id,), _out)


@router.post("", status_code=201)
async def create_alert(body: NewAlert, who: Supervisor, db: Db, once: Idempotency, response: Response) -> AlertOut:
    """Be told of something: in one's list, and by e-mail or push as one chooses for alerts; webhooks hear of it too."""
    at = now()
    made = _of(
        body,
        Alert(
            id=new_id(),
            account_id=who.account_id,
            subscriber_id=_person(who),
            kind=body.kind,
            agent_id=None,
            team_id=None,
            states=(),
            minutes=0,
            quiet_minutes=0,
            enabled=True,
            version=0,
            created_at=at,
            updated_at=at,
        ),
    )
    async with db.begin() as tx:
        await once.start(tx)
        if await store.count(tx, who.account_id, made.subscriber_id) >= MAX_ALERTS:
            raise Problem(
                409,
                "too_many_alerts",
                es=f"Tienes ya {MAX_ALERTS} avisos: borra alguno.",
                en=f"You have {MAX_ALERTS} alerts already: delete one.",
            )
        await _check(tx, made)
        await store.save(tx, made)
        await alerts.watch(tx, {who.account_id})
        answer = await once.finish(tx, _out(made))
    tag(response, made.version)
    return answer


@router.get("/{alert_id}")
async def get_alert(alert_id: UUID, who: Supervisor, db: Db, response: Response) -> AlertOut:
    """One of one's own alerts."""
    async with db.begin() as tx:
        found = await _found(tx, who, alert_id)
    tag(response, found.version)
    return _out(found)


@router.put("/{alert_id}")
async def edit_alert(
    *, alert_id: UUID, body: NewAlert, who: Supervisor, db: Db, response: Response, if_match: IfMatch = None
) -> AlertOut:
    """Change an alert."""
    async with db.begin() as tx:
        before = await _found(tx, who, alert_id, lock=True)
        check_match(if_match, before.version, _out(before))
        after = _of(body, before)
        await _check(tx, after)
        await store.save(tx, after)
        await alerts.watch(tx, {who.account_id})
    tag(response, after.version)
    return _out(after)


@router.delete("/{alert_id}", status_code=204)
async def delete_alert(alert_id: UUID, who: Supervisor, db: Db, *, if_match: IfMatch = None) -> None:
    """Be told of it no more."""
    async with db.begin() as tx:
        before = await _found(tx, who, alert_id, lock=True)
        check_match(if_match, before.version, _out(before))
        await store.delete(tx, who.account_id, before.subscriber_id, before.id)


def _of(body: NewAlert, before: Alert) -> Alert:
    return replace(
        before,
        kind=body.kind,
        agent_id=str(body.agent_id) if body.agent_id else None,
        team_id=str(body.team_id) if body.team_id else None,
        states=tuple(dict.fromkeys(body.states)) if body.kind == "status" else (),
        minutes=body.minutes,
        quiet_minutes=body.quiet_minutes,
        enabled=body.enabled,
        version=before.version + 1,
        updated_at=now(),
    )


async def _check(tx: Tx, alert: Alert) -> None:
    errors = []
    if (alert.agent_id is None) == (alert.team_id is None) or (alert.kind == "nobody_available" and not alert.team_id):
        errors.append(
            FieldError(
                "/team_id",
                es="Da un agente o un equipo, uno solo; nobody_available quiere un equipo.",
                en="Give an agent or a team, one of them; nobody_available wants a team.",
            )
        )
    if alert.kind == "status" and not alert.states:
        errors.append(FieldError("/states", es="Di de qué estados.", en="Say of which states."))
    if alert.agent_id and alert.agent_id not in {one.id for one in await directory.agents(tx, alert.account_id)}:
        errors.append(FieldError("/agent_id", es="No existe ese agente.", en="There is no such agent."))
    if alert.team_id and alert.team_id not in {one.id for one in await directory.teams(tx, alert.account_id)}:
        errors.append(FieldError("/team_id", es="No existe ese equipo.", en="There is no such team."))
    if errors:
        raise invalid_fields(errors)


def _person(who: Principal) -> str:
    if who.kind != "agent":
        raise Problem(
            403,
            "people_only",
            es="Los avisos son de personas: entra con tu usuario.",
            en="Alerts are people's: sign in as one.",
        )
    return who.id


async def _found(tx: Tx, who: Principal, alert_id: UUID, *, lock: bool = False) -> Alert:
    found = await store.read(tx, who.account_id, _person(who), str(alert_id), lock=lock)
    if found is None:
        raise Problem(404, "alert_not_found", es="No tienes ese aviso.", en="You have no such alert.")
    return found


def _out(alert: Alert) -> AlertOut:
    return AlertOut.model_validate(alert, from_attributes=True)

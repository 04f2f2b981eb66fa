"""HTTP: policies of service levels, and the clocks of a conversation."""

from dataclasses import asdict, replace
from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Response
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from relevo.automation import sla, sla_store
from relevo.automation.domain.fields import SNAPSHOT_FIELDS
from relevo.automation.domain.sla import MEASURES, ClockState, Measure, Targets, Terms
from relevo.chassis import paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Tx
from relevo.chassis.editing import IfMatch, check_match, tag
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.chassis.problems import Problem, from_conditions, invalid_fields
from relevo.contracts.base import Time, new_id, now
from relevo.contracts.permissions import Permission
from relevo.kernel import access
from relevo.kernel.conditions import ConditionError, parse
from relevo.kernel.text import clean

router = APIRouter(tags=["service levels"])

MAX_POLICIES = 50
_YEAR = 366 * 86_400

Manager = Annotated[Principal, Depends(require(Permission.SLA_MANAGE))]
Reader = Annotated[Principal, Depends(require(Permission.CONVERSATIONS_READ))]
Name = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200)]
Seconds = Annotated[int | None, Field(ge=60, le=_YEAR, description="None: not measured.")]
Level = Literal["default", "low", "medium", "high", "urgent"]


class TargetsModel(BaseModel):
    """Seconds to the first reply, to each further one, and to the resolution."""

    model_config = ConfigDict(extra="forbid")

    first_response: Seconds = None
    next_response: Seconds = None
    resolution: Seconds = None

    @model_validator(mode="after")
    def _something(self) -> "TargetsModel":
        if self.first_response is None and self.next_response is None and self.resolution is None:
            raise ValueError("give at least one of first_response, next_response, resolution")
        return self


class NewPolicy(BaseModel):
    """A policy. Of those that are enabled the first by ``position`` whose conditions hold applies to a conversation.

    ``targets`` are by priority; `default` is for all that are not named. With ``business_hours`` only the hours of the calendar
    count that counts there (the inbox's, else the team's, else the account's; every second where there is none). Time in
    which a conversation is snoozed or with a bot never counts; with ``pause_on_customer`` the resolution also waits for
    the customer. A warning comes when ``warn_percent`` of the time is over.
    """

    model_config = ConfigDict(extra="forbid")

    name: Name
    position: Annotated[int, Field(ge=0, le=1_000_000)] = 0
    enabled: bool = True
    conditions: Any = Field(default_factory=lambda: {"all": []}, description="Condition tree; `all` of nothing holds.")
    targets: Annotated[dict[Level, TargetsModel], Field(min_length=1)]
    business_hours: bool = True
    pause_on_customer: bool = False
    warn_percent: Annotated[int, Field(ge=1, le=99)] = 80


class PolicyOut(BaseModel):
    """A policy."""

    id: str
    name: str
    position: int
    enabled: bool
    conditions: Any
    targets: dict[Level, TargetsModel]
    business_hours: bool
    pause_on_customer: bool
    warn_percent: int
    version: int
    created_at: Time
    updated_at: Time
    updated_by: str


class ClockOut(BaseModel):
    """A clock. `running`, `paused`, `met`, `missed`, or `void`: the resolution came before it was due, and no reply.

    ``overdue``: it was due and is not met. Without ``due_at`` it stands still.
    """

    measure: Measure
    state: ClockState
    overdue: bool
    target_seconds: int
    started_at: Time
    due_at: Time | None
    warn_at: Time | None
    done_at: Time | None


class SlaOut(BaseModel):
    """The clocks of a conversation's present cycle, and the version of the policy and of the calendar that they follow.

    ``next_due_at`` is of the running clock that is due first.
    """

    policy_id: str | None = None
    policy_version: int | None = None
    calendar_id: str | None = None
    calendar_version: int | None = None
    next_due_at: Time | None = None
    clocks: list[ClockOut] = []


@router.get("/sla/policies")
async def list_sla_policies(who: Manager, db: Db, limit: Limit = 50, cursor: Cursor = None) -> Page[PolicyOut]:
    """The account's policies, in the order in which they are tried."""
    after: tuple[int, str] = paging.decode(cursor, int, UUID) if cursor else (-1, paging.FIRST_ID)
    async with db.begin() as tx:
        found = await sla_store.policies(tx, who.account_id, after=after, limit=limit + 1)
    return paging.page(found, limit, lambda one: (one.position, one.id), _out)


@router.post("/sla/policies", status_code=201)
async def create_sla_policy(body: NewPolicy, who: Manager, db: Db, once: Idempotency, response: Response) -> PolicyOut:
    """Make a policy. A conversation comes under it with its next event."""
    at = now()
    made = sla_store.Policy(
        id=new_id(),
        account_id=who.account_id,
        name=clean(body.name),
        position=body.position,
        enabled=body.enabled,
        conditions=_condition(body.conditions),
        terms=_terms(body),
        version=1,
        created_at=at,
        updated_at=at,
        updated_by=who.actor,
    )
    async with db.begin() as tx:
        await once.start(tx)
        if await sla_store.count(tx, who.account_id) >= MAX_POLICIES:
            raise Problem(
                409,
                "too_many_policies",
                es=f"Una cuenta tiene como mucho {MAX_POLICIES} acuerdos de servicio: borra uno que no uses.",
                en=f"An account has {MAX_POLICIES} service level policies at most: delete one that you do not use.",
            )
        await sla_store.save(tx, made)
        answer = await once.finish(tx, _out(made))
    tag(response, made.version)
    return answer


@router.get("/sla/policies/{policy_id}")
async def get_sla_policy(policy_id: UUID, who: Manager, db: Db, response: Response) -> PolicyOut:
    """One policy."""
    async with db.begin() as tx:
        found = await _found(tx, who, policy_id)
    tag(response, found.version)
    return _out(found)


@router.put("/sla/policies/{policy_id}")
async def edit_sla_policy(
    *, policy_id: UUID, body: NewPolicy, who: Manager, db: Db, response: Response, if_match: IfMatch = None
) -> PolicyOut:
    """Change a policy. Open conversations under it are computed anew from the start of their cycle."""
    async with db.begin() as tx:
        before = await _found(tx, who, policy_id, lock=True)
        check_match(if_match, before.version, _out(before))
        after = replace(
            before,
            name=clean(body.name),
            position=body.position,
            enabled=body.enabled,
            conditions=_condition(body.conditions),
            terms=_terms(body),
            version=before.version + 1,
            updated_at=now(),
            updated_by=who.actor,
        )
        await sla_store.save(tx, after)
        await sla.reckon(tx, who.account_id, after.id)
    tag(response, after.version)
    return _out(after)


@router.delete("/sla/policies/{policy_id}", status_code=204)
async def delete_sla_policy(policy_id: UUID, who: Manager, db: Db, *, if_match: IfMatch = None) -> None:
    """Delete a policy. Conversations under it have no clocks until another one applies, with their next event."""
    async with db.begin() as tx:
        before = await _found(tx, who, policy_id, lock=True)
        check_match(if_match, before.version, _out(before))
        await sla_store.delete(tx, who.account_id, before.id)
        await sla.reckon(tx, who.account_id, before.id)


@router.get("/conversations/{conversation_id}/sla")
async def get_conversation_sla(conversation_id: UUID, who: Reader, db: Db) -> SlaOut:
    """The clocks of a conversation: what is due, and when."""
    async with db.begin() as tx:
        asked = str(conversation_id)
        found = (await sla_store.followed(tx, {who.account_id}, [asked], lock=False)).get(asked)
    if found is None or not access.may_see(who.viewer, found.whose.access(found.account_id)):
        raise Problem(
            404,
            "no_clocks",
            es="No hay plazos de una conversación así: no existe, no la ves, o ningún acuerdo la ha seguido.",
            en="There are no clocks of such a conversation: it does not exist, you do not see it, or no policy followed it.",
        )
    present = now()
    clocks = [_clock(kept.clock, present) for kept in found.clocks.values()]
    dues = [one.due_at for one in clocks if one.state == "running" and one.due_at is not None]
    return SlaOut(
        policy_id=found.policy_id,
        policy_version=found.policy_version,
        calendar_id=found.calendar_id,
        calendar_version=found.calendar_version,
        next_due_at=min(dues, default=None),
        clocks=sorted(clocks, key=lambda one: MEASURES.index(one.measure)),
    )


def _clock(clock: Any, present: datetime) -> ClockOut:
    running_late = clock.state == "running" and clock.due_at is not None and clock.due_at <= present
    return ClockOut(
        measure=clock.measure,
        state=clock.state,
        overdue=clock.state == "missed" or running_late,
        target_seconds=clock.target,
        started_at=clock.started_at,
        due_at=clock.due_at,
        warn_at=clock.warn_at,
        done_at=clock.done_at,
    )


def _terms(body: NewPolicy) -> Terms:
    return Terms(
        {level: Targets(**one.model_dump()) for level, one in body.targets.items()},
        body.business_hours,
        body.pause_on_customer,
        body.warn_percent,
    )


def _condition(raw: Any) -> Any:
    try:
        return parse(raw, SNAPSHOT_FIELDS).to_json()
    except ConditionError as refused:
        raise invalid_fields(from_conditions(refused, "/conditions")) from None


async def _found(tx: Tx, who: Principal, policy_id: UUID, *, lock: bool = False) -> sla_store.Policy:
    found = await sla_store.policy(tx, who.account_id, str(policy_id), lock=lock)
    if found is None:
        raise Problem(404, "policy_not_found", es="No existe ese acuerdo.", en="There is no such policy.")
    return found


def _out(one: sla_store.Policy) -> PolicyOut:
    return PolicyOut(
        id=one.id,
        name=one.name,
        position=one.position,
        enabled=one.enabled,
        conditions=one.conditions,
        version=one.version,
        created_at=one.created_at,
        updated_at=one.updated_at,
        updated_by=one.updated_by,
        **asdict(one.terms),
    )

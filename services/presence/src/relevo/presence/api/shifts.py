"""HTTP: schedules, absences, the coverage that is planned, and how the plan was kept."""

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

import psycopg.errors
from fastapi import APIRouter, Depends, Query, Response
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from relevo.chassis import directory, paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.database import Tx
from relevo.chassis.editing import IfMatch, check_match, tag
from relevo.chassis.http import Db, Rt
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.chassis.problems import FieldError, Problem
from relevo.contracts.base import Id, Time, new_id, now
from relevo.contracts.permissions import Permission
from relevo.contracts.presence import RoutingState
from relevo.kernel.business_time import Calendar, CalendarError
from relevo.kernel.text import clean
from relevo.presence import changes
from relevo.presence.api.moments import Moment
from relevo.presence.domain.shifts import LONGEST_ABSENCE, shift_at
from relevo.presence.problems import name_taken
from relevo.presence.settings import limits_of
from relevo.presence.store import rules as store
from relevo.presence.store import statuses

router = APIRouter(tags=["presence"])

_LONGEST_PLAN = timedelta(days=31)
_LONGEST_LOOK = timedelta(days=92)
_HOUR = timedelta(hours=1)

Reader = Annotated[Principal, Depends(require(Permission.PRESENCE_READ, Permission.SHIFTS_MANAGE))]
Manager = Annotated[Principal, Depends(require(Permission.SHIFTS_MANAGE))]
Others = Annotated[Principal, Depends(require(Permission.PRESENCE_OTHERS))]


class ScheduleIn(BaseModel):
    """When people are planned to work, and who."""

    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, StringConstraints(min_length=1, max_length=80, strip_whitespace=True), AfterValidator(clean)]
    calendar: dict[str, Any] = Field(
        description="`time_zone` (IANA), `weekly` by weekday with pairs of times (an end at or before its start is on the "
        "next day), and `overrides` by date: `[]` closes it.",
        examples=[
            {
                "time_zone": "America/Bogota",
                "weekly": {"monday": [["08:00", "12:00"], ["13:00", "18:00"]], "friday": [["22:00", "06:00"]]},
                "overrides": {"2026-12-25": []},
            }
        ],
    )
    agent_ids: list[Id] = Field(
        default_factory=list, max_length=2_000, description="Their own counts, not their teams'."
    )
    team_ids: list[Id] = Field(
        default_factory=list, max_length=500, description="For members without one of their own."
    )


class ScheduleOut(ScheduleIn):
    """A schedule as it is kept."""

    id: Id
    version: int


class Schedules(BaseModel):
    """All of the account, by name."""

    items: list[ScheduleOut]


class AbsenceIn(BaseModel):
    """Somebody does not work from the first to the last day, both included, in their schedule's time zone."""

    model_config = ConfigDict(extra="forbid")

    agent_id: Id
    first_day: date
    last_day: date
    note: Annotated[str, StringConstraints(max_length=200), AfterValidator(clean)] = ""


class AbsenceOut(AbsenceIn):
    """An absence as it is kept."""

    id: Id


class PlannedHour(BaseModel):
    """How many are planned to work in one hour: the most at once, and the sum of their time in it."""

    from_at: Time
    agents: int
    agent_hours: float


class Coverage(BaseModel):
    """The plan, hour by hour."""

    items: list[PlannedHour]


class StatusSeconds(BaseModel):
    """How long an agent was in one status, within their shifts and outside of them."""

    state: RoutingState
    label_id: Id | None
    seconds: float
    in_shift_seconds: float


class Attendance(BaseModel):
    """How an agent's time went, and how the plan was kept.

    `adherence` is the part of the planned time in which they were there (available, busy, or in a named status that is
    not offline); null where nothing was planned.
    """

    agent_id: Id
    name: str
    planned_seconds: float
    present_in_shift_seconds: float
    adherence: float | None
    statuses: list[StatusSeconds]


class Attendances(BaseModel):
    """Everybody's, by name."""

    items: list[Attendance]


@router.get("/presence/schedules")
async def list_schedules(who: Reader, db: Db) -> Schedules:
    """The account's schedules, and who follows them."""
    async with db.begin() as tx:
        return Schedules(items=[_schedule(row) for row in await store.schedules(tx, who.account_id)])


@router.post("/presence/schedules", status_code=201)
async def create_schedule(
    *, body: ScheduleIn, who: Manager, db: Db, rt: Rt, once: Idempotency, response: Response
) -> ScheduleOut:
    """Make a schedule; whoever followed another one follows this from now on."""
    calendar = _calendar(body.calendar)
    id_ = new_id()
    try:
        async with db.begin() as tx:
            await once.start(tx)
            await store.lock(tx, who.account_id)
            await _all_known(tx, who.account_id, body)
            await store.add_schedule(tx, who.account_id, id_, body.name, calendar)
            made = await _followed(tx, who.account_id, id_, body, rt)
            tag(response, made.version)
            return await once.finish(tx, made)
    except psycopg.errors.UniqueViolation:
        raise name_taken(es="horario", en="schedule") from None


@router.put("/presence/schedules/{schedule_id}")
async def edit_schedule(
    *, schedule_id: UUID, body: ScheduleIn, who: Manager, db: Db, rt: Rt, response: Response, if_match: IfMatch = None
) -> ScheduleOut:
    """Write a schedule anew. What has been recorded stays as it was."""
    calendar = _calendar(body.calendar)
    try:
        async with db.begin() as tx:
            await store.lock(tx, who.account_id)
            present = await _one(tx, who.account_id, str(schedule_id))
            check_match(if_match, present.version, present)
            await _all_known(tx, who.account_id, body)
            await store.edit_schedule(tx, who.account_id, str(schedule_id), body.name, calendar)
            made = await _followed(tx, who.account_id, str(schedule_id), body, rt)
    except psycopg.errors.UniqueViolation:
        raise name_taken(es="horario", en="schedule") from None
    tag(response, made.version)
    return made


@router.delete("/presence/schedules/{schedule_id}", status_code=204)
async def remove_schedule(schedule_id: UUID, who: Manager, db: Db, rt: Rt) -> None:
    """Take a schedule away; for who followed it nothing is planned, or what their teams follow."""
    async with db.begin() as tx:
        if not await store.remove_schedule(tx, who.account_id, str(schedule_id)):
            raise _no_schedule()
        await changes.look_again(tx, who.account_id, now(), limits_of(rt.settings))


@router.get("/presence/absences")
async def list_absences(
    *,
    who: Reader,
    db: Db,
    agent_id: Annotated[UUID | None, Query(description="Only this person's.")] = None,
    since: Annotated[date | None, Query(description="That end on this day or later; today by default.")] = None,
    limit: Limit = 50,
    cursor: Cursor = None,
) -> Page[AbsenceOut]:
    """Who is away, by the first day."""
    after = _absence_place(*paging.decode(cursor, str, str)) if cursor else None
    async with db.begin() as tx:
        rows = await store.absences(
            tx,
            who.account_id,
            None if agent_id is None else str(agent_id),
            since=since or now().astimezone(UTC).date(),
            after=after,
            limit=limit + 1,
        )
    return paging.page(
        rows, limit, lambda row: (row["first_day"].isoformat(), row["id"]), lambda row: AbsenceOut(**row)
    )


@router.post("/presence/absences", status_code=201)
async def create_absence(body: AbsenceIn, who: Manager, db: Db, rt: Rt, once: Idempotency) -> AbsenceOut:
    """Note that somebody will not work."""
    if not timedelta() <= body.last_day - body.first_day <= LONGEST_ABSENCE:
        raise Problem(
            422,
            "bad_period",
            es="La ausencia debe terminar el mismo día o después, y durar un año como mucho.",
            en="The absence must end on the same day or later, and last a year at most.",
            errors=[FieldError("/last_day", es="No es posible.", en="Is not possible.")],
        )
    made = AbsenceOut(id=new_id(), **body.model_dump())
    async with db.begin() as tx:
        await once.start(tx)
        await _agents_known(tx, who.account_id, [body.agent_id], "/agent_id")
        given = {**body.model_dump(exclude={"agent_id"}), "agent": body.agent_id}
        await store.add_absence(tx, who.account_id, made.id, given)
        await changes.look_again(tx, who.account_id, now(), limits_of(rt.settings))
        return await once.finish(tx, made)


@router.delete("/presence/absences/{absence_id}", status_code=204)
async def remove_absence(absence_id: UUID, who: Manager, db: Db, rt: Rt) -> None:
    """Take an absence back."""
    async with db.begin() as tx:
        if await store.remove_absence(tx, who.account_id, str(absence_id)) is None:
            raise Problem(404, "absence_not_found", es="No existe esa ausencia.", en="There is no such absence.")
        await changes.look_again(tx, who.account_id, now(), limits_of(rt.settings))


@router.get("/presence/coverage")
async def get_coverage(
    *,
    who: Reader,
    db: Db,
    since: Annotated[Moment | None, Query(description="From this hour on; now by default.")] = None,
    until: Annotated[Time | None, Query(description="A day later by default, 31 days at most.")] = None,
    team_id: Annotated[Id | None, Query(description="Only its members.")] = None,
) -> Coverage:
    """How many people are planned to work, hour by hour."""
    begin = (since or now()).astimezone(UTC).replace(minute=0, second=0, microsecond=0)
    end = until or begin + timedelta(days=1)
    _period(begin, end, _LONGEST_PLAN)
    async with db.begin() as tx:
        agents = [
            agent.id
            for agent in await directory.agents(tx, who.account_id)
            if agent.active and (team_id is None or team_id in agent.team_ids)
        ]
        calendars = await store.calendars_of(tx, dict.fromkeys(agents, who.account_id))
    return Coverage(items=_planned(calendars.values(), begin, end))


@router.get("/presence/attendance")
async def get_attendance(
    *,
    who: Others,
    db: Db,
    since: Annotated[Time, Query(description="From here on.")],
    until: Annotated[
        Time | None, Query(description="Up to here, exclusive, and now at the latest; 92 days at most.")
    ] = None,
    agent_id: Annotated[Id | None, Query(description="Only this person.")] = None,
    team_id: Annotated[Id | None, Query(description="Only its members.")] = None,
) -> Attendances:
    """How long everybody was in which status, and whether they were there when it was planned; from what was recorded."""
    moment = now()
    end = min(until or moment, moment)
    _period(since, end, _LONGEST_LOOK)
    async with db.begin() as tx:
        people = [
            agent
            for agent in await directory.agents(tx, who.account_id)
            if agent_id in (None, agent.id) and (team_id is None or team_id in agent.team_ids)
        ]
        rows = await statuses.seconds(tx, who.account_id, [agent.id for agent in people], since, end)
    by_agent: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_agent.setdefault(row["agent_id"], []).append(row)
    ordered = sorted(people, key=lambda agent: (agent.name.casefold(), agent.id))
    return Attendances(items=[_attendance(agent.id, agent.name, by_agent.get(agent.id, [])) for agent in ordered])


def _attendance(agent_id: str, name: str, rows: Iterable[Mapping[str, Any]]) -> Attendance:
    found: dict[tuple[str, str | None], StatusSeconds] = {}
    for row in rows:
        one = found.setdefault(
            (row["state"], row["label_id"]),
            StatusSeconds(state=row["state"], label_id=row["label_id"], seconds=0, in_shift_seconds=0),
        )
        one.seconds += row["seconds"]
        one.in_shift_seconds += row["seconds"] if row["in_shift"] else 0.0
    planned = sum(one.in_shift_seconds for one in found.values())
    present = sum(one.in_shift_seconds for one in found.values() if one.state != "offline")
    return Attendance(
        agent_id=agent_id,
        name=name,
        planned_seconds=planned,
        present_in_shift_seconds=present,
        adherence=present / planned if planned else None,
        statuses=sorted(found.values(), key=lambda one: (one.state, one.label_id or "")),
    )


def _planned(calendars: Iterable[tuple[Calendar, ...]], begin: datetime, end: datetime) -> list[PlannedHour]:
    """By hour: the most at once, and agents' hours, from each one's shifts."""
    hours = -(-(end - begin) // _HOUR)
    seconds = [0.0] * hours
    edges: list[list[tuple[datetime, int]]] = [[] for _ in range(hours)]
    for mine in calendars:
        at = begin
        while at < end:
            shift = shift_at(mine, at)
            until = min(shift.until, end)
            while shift.open and at < until:
                hour = (at - begin) // _HOUR
                stop = min(until, begin + (hour + 1) * _HOUR)
                seconds[hour] += (stop - at).total_seconds()
                edges[hour] += [(at, 1), (stop, -1)]
                at = stop
            at = until
    return [
        PlannedHour(from_at=begin + number * _HOUR, agents=_most(edges[number]), agent_hours=round(total / 3600, 4))
        for number, total in enumerate(seconds)
    ]


def _most(edges: list[tuple[datetime, int]]) -> int:
    most = present = 0
    for _, step in sorted(edges):  # who leaves goes before who comes at the same instant
        present += step
        most = max(most, present)
    return most


def _period(begin: datetime, end: datetime, longest: timedelta) -> None:
    if not timedelta() < end - begin <= longest:
        raise Problem(
            422,
            "bad_period",
            es=f"`since` debe ser anterior a `until`, {longest.days} días como mucho.",
            en=f"`since` must be before `until`, {longest.days} days at most.",
            errors=[FieldError("/query/since", es="No es posible.", en="Is not possible.")],
        )


def _calendar(given: dict[str, Any]) -> dict[str, Any]:
    try:
        return Calendar.parse(given).to_json()
    except CalendarError as error:
        told = f"{error.reason} {error.mend}"
        raise Problem(
            422,
            "bad_calendar",
            es="El calendario no es válido.",
            en="The calendar is not valid.",
            errors=[FieldError(f"/calendar{error.path}", es=told, en=told)],
        ) from None


async def _all_known(tx: Tx, account_id: str, body: ScheduleIn) -> None:
    await _agents_known(tx, account_id, body.agent_ids, "/agent_ids")
    teams = {team.id for team in await directory.teams(tx, account_id)}
    _refuse_unknown(body.team_ids, teams, "/team_ids")


async def _agents_known(tx: Tx, account_id: str, ids: Iterable[str], pointer: str) -> None:
    _refuse_unknown(ids, {agent.id for agent in await directory.agents(tx, account_id)}, pointer)


def _refuse_unknown(ids: Iterable[str], known: set[str], pointer: str) -> None:
    if unknown := sorted(set(ids) - known):
        raise Problem(
            422,
            "not_found",
            es="Hay ids que no existen en la cuenta: quítalos.",
            en="Some ids do not exist in the account: take them out.",
            errors=[FieldError(pointer, es=f"No existe {unknown[0]}.", en=f"{unknown[0]} does not exist.")],
        )


async def _followed(tx: Tx, account_id: str, id_: str, body: ScheduleIn, rt: Rt) -> ScheduleOut:
    await store.follow(tx, account_id, id_, body.agent_ids, body.team_ids)
    await changes.look_again(tx, account_id, now(), limits_of(rt.settings))
    return await _one(tx, account_id, id_)


async def _one(tx: Tx, account_id: str, id_: str) -> ScheduleOut:
    found = await store.schedules(tx, account_id, id_)
    if not found:
        raise _no_schedule()
    return _schedule(found[0])


def _no_schedule() -> Problem:
    return Problem(404, "schedule_not_found", es="No existe ese horario.", en="There is no such schedule.")


def _schedule(row: Mapping[str, Any]) -> ScheduleOut:
    return ScheduleOut(**row)


def _absence_place(day: str, last: str) -> tuple[date, str]:
    try:
        return date.fromisoformat(day), str(UUID(last))
    except ValueError:
        raise paging.invalid_cursor() from None

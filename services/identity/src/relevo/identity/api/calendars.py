"""Business calendars: when people answer, on which inboxes, in which teams."""

from datetime import datetime
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Response
from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, StringConstraints

from relevo.chassis import paging
from relevo.chassis.auth import Principal, require
from relevo.chassis.editing import IfMatch, check_match, tag
from relevo.chassis.http import Db
from relevo.chassis.idempotency import Idempotency
from relevo.chassis.paging import Cursor, Limit, Page
from relevo.contracts.base import Time, new_id, now
from relevo.contracts.identity import CalendarState, Weekday
from relevo.contracts.permissions import Permission
from relevo.identity import calendars, problems
from relevo.identity.api.common import Body, Called, Name, TimeZone, after, ids, plain
from relevo.identity.domain import holidays
from relevo.identity.store import calendars as store
from relevo.identity.store.directory import Stored
from relevo.kernel.business_time import next_close
from relevo.kernel.calendars import MAX_INTERVALS_A_DAY, counting

_FIRST_YEAR: Final = 1901
_LAST_YEAR: Final = 8900

router = APIRouter(prefix="/calendars", tags=["calendars"])
Reader = Annotated[Principal, Depends(require(Permission.DIRECTORY_READ, Permission.CALENDARS_MANAGE))]
Manager = Annotated[Principal, Depends(require(Permission.CALENDARS_MANAGE))]
Clock = Annotated[str, StringConstraints(max_length=5)]
DayName = Annotated[str, StringConstraints(strip_whitespace=True, max_length=holidays.MAX_NAME), AfterValidator(plain)]


class HoursIn(Body):
    """Open from `opens` to `closes`, 00:00 to 24:00; an end that is not after its start is on the next day."""

    opens: Clock
    closes: Clock


class WeekdayHoursIn(HoursIn):
    """The same on every such weekday."""

    day: Weekday


class SpecialDayIn(Body):
    """A date with hours of its own; without any it is a holiday."""

    date: Annotated[str, StringConstraints(max_length=10)]
    name: DayName = ""
    hours: Annotated[list[HoursIn], Field(max_length=MAX_INTERVALS_A_DAY)] = Field(default=[])


Weekly = Annotated[list[WeekdayHoursIn], Field(max_length=7 * MAX_INTERVALS_A_DAY)]
SpecialDays = Annotated[list[SpecialDayIn], Field(max_length=holidays.MAX_DAYS)]
Teams = Annotated[list[UUID], Field(max_length=500)]
Inboxes = Annotated[list[UUID], Field(max_length=500)]


class NewCalendar(Body):
    """``is_default``: it counts wherever no other does. Teams and inboxes leave the calendar that they had."""

    name: Name
    time_zone: TimeZone
    weekly: Weekly = Field(default=[])
    special_days: SpecialDays = Field(default=[])
    is_default: bool = False
    team_ids: Teams = Field(default=[])
    inbox_ids: Inboxes = Field(default=[])


class CalendarPatch(Body):
    """The fields that are given are changed; a list is the whole new one."""

    name: Name | None = None
    time_zone: TimeZone | None = None
    weekly: Weekly | None = None
    special_days: SpecialDays | None = None
    is_default: bool | None = None
    team_ids: Teams | None = None
    inbox_ids: Inboxes | None = None


class SpecialDaysText(Body):
    """Lines such as `2026-12-25 Christmas`, `2026-12-24 09:00-14:00 Christmas Eve`, `2026-08-03..2026-08-16 Holidays`; or an iCalendar file."""

    text: Annotated[str, StringConstraints(min_length=1, max_length=500_000)]
    replace: bool = Field(default=False, description="Instead of the special days that there are, not besides them.")


class CalendarOut(CalendarState):
    """A calendar. ``version`` is what facts and events name it by."""

    version: int

    @classmethod
    def of(cls, stored: Stored[CalendarState]) -> "CalendarOut":
        return cls(**stored.state.model_dump(), version=stored.version)


class Opening(BaseModel):
    """Whether it is open at a moment, when it opens next, and when it closes then. Null ``open``: it has no hours at all."""

    at: Time
    open: bool | None
    opens_at: Time | None = None
    closes_at: Time | None = None


def _fields(body: Body) -> dict[str, Any]:
    given: dict[str, Any] = body.model_dump(exclude_none=True)
    for name in ("team_ids", "inbox_ids"):
        if name in given:
            given[name] = ids(given[name])
    return given


async def _read(db: Db, who: Principal, calendar_id: UUID) -> Stored[CalendarState]:
    async with db.begin() as tx:
        found = await store.calendar(tx, who.account_id, str(calendar_id))
    if found is None:
        raise problems.not_found("calendar")
    return found


@router.get("")
async def list_calendars(who: Reader, db: Db, limit: Limit = 50, cursor: Cursor = None) -> Page[CalendarOut]:
    """The calendars of the account, in the order in which they were made."""
    async with db.begin() as tx:
        rows = await store.calendars(tx, who.account_id, after=after(cursor), limit=limit + 1)
    return paging.page(rows, limit, lambda row: (row.state.id,), CalendarOut.of)


@router.post("", status_code=201)
async def create_calendar(
    *, body: NewCalendar, who: Manager, db: Db, caller: Called, once: Idempotency, response: Response
) -> CalendarOut:
    """Make a calendar."""
    async with caller.act(db, who) as act:
        await once.start(act.tx)
        state = CalendarState.model_validate({"id": new_id(), "account_id": act.account, **_fields(body)})
        stored = await calendars.save_calendar(act, None, state)
        tag(response, stored.version)
        return await once.finish(act.tx, CalendarOut.of(stored))


@router.get("/{calendar_id}")
async def get_calendar(calendar_id: UUID, who: Reader, db: Db, response: Response) -> CalendarOut:
    """One calendar."""
    found = await _read(db, who, calendar_id)
    tag(response, found.version)
    return CalendarOut.of(found)


@router.get("/{calendar_id}/opening")
async def get_opening(
    calendar_id: UUID,
    who: Reader,
    db: Db,
    at: Annotated[AwareDatetime | None, Query(description="RFC 3339; without it, now.")] = None,
) -> Opening:
    """Whether it is open at a moment, and when that changes."""
    if at is not None and not _FIRST_YEAR <= at.year < _LAST_YEAR:
        raise problems.far_from_any_use("/query/at", _FIRST_YEAR, _LAST_YEAR)
    found = await _read(db, who, calendar_id)
    one, moment = counting(found.state, found.version), at or now()
    said = one.at(moment)
    if said is None:
        return Opening(at=moment, open=None)
    begins: datetime | None = moment if said.open else said.opens_at
    closes = next_close(one.calendar, begins) if begins else None
    return Opening(at=moment, open=said.open, opens_at=said.opens_at, closes_at=closes)


@router.patch("/{calendar_id}")
async def edit_calendar(
    *,
    calendar_id: UUID,
    body: CalendarPatch,
    who: Manager,
    db: Db,
    caller: Called,
    response: Response,
    if_match: IfMatch = None,
) -> CalendarOut:
    """Change a calendar, from now on: what was measured by an older version stays as it was."""
    async with caller.act(db, who) as act:
        before = await calendars.calendar(act, str(calendar_id))
        check_match(if_match, before.version, CalendarOut.of(before))
        state = CalendarState.model_validate({**before.state.model_dump(), **_fields(body)})
        stored = await calendars.save_calendar(act, before, state)
    tag(response, stored.version)
    return CalendarOut.of(stored)


@router.post("/{calendar_id}/special-days")
async def import_special_days(
    *,
    calendar_id: UUID,
    body: SpecialDaysText,
    who: Manager,
    db: Db,
    caller: Called,
    response: Response,
    if_match: IfMatch = None,
) -> CalendarOut:
    """Take holidays and special days over from a text or an iCalendar file; of a line at fault nothing is taken over."""
    try:
        days = holidays.read(body.text, this_year=now().year)
        async with caller.act(db, who) as act:
            before = await calendars.calendar(act, str(calendar_id))
            check_match(if_match, before.version, CalendarOut.of(before))
            present = () if body.replace else before.state.special_days
            state = before.state.model_copy(update={"special_days": holidays.merged(present, days)})
            stored = await calendars.save_calendar(act, before, state)
    except holidays.Unreadable as unreadable:
        raise problems.bad_special_days(unreadable.faults) from None
    tag(response, stored.version)
    return CalendarOut.of(stored)


@router.delete("/{calendar_id}", status_code=204)
async def remove_calendar(calendar_id: UUID, who: Manager, db: Db, caller: Called, *, if_match: IfMatch = None) -> None:
    """Remove a calendar; where it counted, the team's or the account's does, or none."""
    async with caller.act(db, who) as act:
        before = await calendars.calendar(act, str(calendar_id))
        check_match(if_match, before.version, CalendarOut.of(before))
        await calendars.remove_calendar(act, before)

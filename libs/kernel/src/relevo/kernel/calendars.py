"""An account's business calendars: which one counts, and what it says of a moment or a period.

A snapshot of the answer travels with the event it is about. Whoever reads that event later needs no calendar, and a
calendar that is edited afterwards changes nothing that was said before.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Final

from relevo.contracts.identity import CalendarState, Hours
from relevo.contracts.snapshots import BusinessHours
from relevo.kernel.business_time import (
    WEEKDAYS,
    Calendar,
    CalendarError,
    Interval,
    business_seconds,
    interval_of,
    is_open,
    next_open,
)

MAX_INTERVALS_A_DAY: Final = 24


def calendar_of(state: CalendarState) -> Calendar:
    """The opening hours of a calendar. Raises CalendarError where they are none, with the pointer into the state."""
    weekly: dict[str, list[Interval]] = {name: [] for name in WEEKDAYS}
    for at, item in enumerate(state.weekly):
        weekly[item.day].append(interval_of(item.opens, item.closes, f"/weekly/{at}"))
        _few(weekly[item.day], f"/weekly/{at}")
    special: dict[date, tuple[Interval, ...]] = {}
    for at, day in enumerate(state.special_days):
        pointer = f"/special_days/{at}"
        when = _date(day.date, f"{pointer}/date")
        if when in special:
            raise CalendarError(f"{pointer}/date", "This date is there twice.", "Give each date once.")
        special[when] = tuple(_intervals(day.hours, f"{pointer}/hours"))
    return Calendar(state.time_zone, tuple(tuple(weekly[name]) for name in WEEKDAYS), special)


def _intervals(given: Iterable[Hours], pointer: str) -> list[Interval]:
    found: list[Interval] = []
    for at, item in enumerate(given):
        found.append(interval_of(item.opens, item.closes, f"{pointer}/{at}"))
        _few(found, f"{pointer}/{at}")
    return found


def _few(found: list[Interval], pointer: str) -> None:
    if len(found) > MAX_INTERVALS_A_DAY:
        raise CalendarError(
            pointer, f"A day has more than {MAX_INTERVALS_A_DAY} intervals.", "Join those that touch each other."
        )


def _date(raw: str, pointer: str) -> date:
    try:
        found = date.fromisoformat(raw)
    except ValueError:
        found = None
    if found is None or found.isoformat() != raw or not 1900 < found.year < 9000:
        raise CalendarError(pointer, "This is not a date.", "Write it as 2026-12-25.")
    return found


@dataclass(frozen=True, slots=True)
class Counting:
    """One version of a calendar, and where it counts."""

    id: str
    version: int
    calendar: Calendar
    inbox_ids: tuple[str, ...] = ()
    team_ids: tuple[str, ...] = ()
    is_default: bool = False

    def at(self, moment: datetime) -> BusinessHours | None:
        """Whether it is open then, and when next; None where it measures nothing, or for a moment far from any use."""
        try:
            is_it = is_open(self.calendar, moment)
            opens = next_open(self.calendar, moment) if is_it is False else None
        except ValueError:
            return None
        if is_it is None:
            return None
        return BusinessHours(
            calendar_id=self.id,
            calendar_version=self.version,
            time_zone=self.calendar.time_zone,
            open=is_it,
            opens_at=opens,
        )

    def seconds(self, start: datetime, end: datetime) -> float | None:
        """Business time between two moments, 0 when the end is before the start; None where it is not measured."""
        try:
            return business_seconds(self.calendar, start, max(start, end))
        except ValueError:
            return None


def counting(state: CalendarState, version: int) -> Counting:
    """One version of a calendar. Raises CalendarError."""
    return Counting(state.id, version, calendar_of(state), state.inbox_ids, state.team_ids, state.is_default)


class Calendars:
    """The calendars of one account as they are now."""

    __slots__ = ("_by_inbox", "_by_team", "_default")

    def __init__(self, given: Iterable[Counting]) -> None:
        self._by_inbox: dict[str, Counting] = {}
        self._by_team: dict[str, Counting] = {}
        self._default: Counting | None = None
        for one in given:
            self._by_inbox.update(dict.fromkeys(one.inbox_ids, one))
            self._by_team.update(dict.fromkeys(one.team_ids, one))
            if one.is_default:
                self._default = one

    def of(self, *, inbox_id: str | None, team_id: str | None) -> Counting | None:
        """The calendar that counts there: the inbox's, else the team's, else the account's; None where there is none."""
        found = self._by_inbox.get(inbox_id) if inbox_id else None
        if found is None and team_id:
            found = self._by_team.get(team_id)
        return found or self._default

"""Shifts: when an agent is planned to work, as the union of the calendars that count for them.

An agent's own schedule counts alone; without one, those of their teams do together. A calendar is the kernel's: weekly
intervals, several a day, past midnight, right across changes of the clocks; dates with intervals of their own. Time off is
a span of dates that closes them, in the schedule's zone.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from functools import lru_cache
from typing import Final

from relevo.kernel import business_time
from relevo.kernel.business_time import Calendar

_LOOK_AHEAD: Final = timedelta(days=14)
"""A shift that stays as it is for longer is looked at again then."""
LONGEST_ABSENCE: Final = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class Shift:
    """Whether one is planned to work (None: nothing is planned), for the instants from `since` up to `until`."""

    open: bool | None
    since: datetime
    until: datetime

    def covers(self, at: datetime) -> bool:
        return self.since <= at < self.until


def shift_at(calendars: Sequence[Calendar], at: datetime) -> Shift:
    """The shift at an instant, with an `until` at which to ask again: when it ends or begins, in two weeks at most."""
    measured = [calendar for calendar in calendars if calendar.measures]
    horizon = at + _LOOK_AHEAD
    if not measured:
        return Shift(None, at, horizon)
    if any(business_time.is_open(calendar, at) for calendar in measured):
        until = at
        # Where one calendar closes another may be open still, or open at that very instant.
        while until < horizon and (
            ends := [_close(one, until) for one in measured if business_time.is_open(one, until)]
        ):
            until = max((end for end in ends if end is not None), default=horizon)
        return Shift(open=True, since=at, until=min(until, horizon))
    opens = [found for one in measured if (found := business_time.next_open(one, at)) is not None]
    return Shift(open=False, since=at, until=min([*opens, horizon]))


def absent(calendar: Calendar, absences: Sequence[tuple[date, date]]) -> Calendar:
    """The calendar with these spans of dates (first and last day) closed."""
    closed = {
        first + timedelta(days=number): () for first, last in absences for number in range((last - first).days + 1)
    }
    return Calendar(calendar.time_zone, calendar.weekly, {**calendar.overrides, **closed})


@lru_cache(maxsize=4_096)
def calendar_of(text: str, absences: tuple[tuple[date, date], ...] = ()) -> Calendar:
    """A calendar from its JSON text with these absences; kept, as a team shares its."""
    return absent(Calendar.parse(json.loads(text)), absences)


def _close(calendar: Calendar, at: datetime) -> datetime | None:
    return business_time.next_close(calendar, at)


def next_start(calendars: Sequence[Calendar], at: datetime) -> datetime | None:
    """When the next shift begins, for who is off shift at `at`; None when none does within the kernel's horizon."""
    opens = [found for one in calendars if one.measures and (found := business_time.next_open(one, at)) is not None]
    return min(opens, default=None)

"""Clocks of service levels: what counts, what stops them, when they are due. Pure: times in, times out.

A course is one conversation's present cycle as its events told it; a clock is one measure of it under a policy. A
cycle begins when the conversation is opened or reopened. Nothing here looks at the present moment: a clock is due at a
time, and whether that has come is the caller's to ask.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Literal

from relevo.contracts.snapshots import ConversationSnapshot
from relevo.kernel.business_time import Calendar, add_business_seconds, business_seconds

Measure = Literal["first_response", "next_response", "resolution"]
ClockState = Literal["running", "paused", "met", "missed", "void"]
MEASURES: Final[tuple[Measure, ...]] = ("first_response", "next_response", "resolution")
DEFAULT: Final = "default"
_HALTED: Final = frozenset({"pending", "snoozed"})


@dataclass(frozen=True, slots=True)
class Stop:
    """Time that does not count. ``end`` None: it goes on."""

    start: datetime
    end: datetime | None = None


@dataclass(frozen=True, slots=True)
class Targets:
    """Seconds by measure; None: not measured."""

    first_response: int | None = None
    next_response: int | None = None
    resolution: int | None = None

    def of(self, measure: Measure) -> int | None:
        """Of one measure."""
        found: int | None = getattr(self, measure)
        return found


@dataclass(frozen=True, slots=True)
class Terms:
    """What a policy says of time. ``targets`` by priority, `default` for those that are not named."""

    targets: Mapping[str, Targets]
    business_hours: bool = True
    pause_on_customer: bool = False
    """The resolution's clock stands while the customer has the last word of ours to answer."""
    warn_percent: int = 80
    """How much of the target is over when it is about to breach."""

    def of(self, priority: str | None) -> Targets:
        """For conversations of this priority."""
        return self.targets.get(priority or DEFAULT) or self.targets.get(DEFAULT) or Targets()


@dataclass(frozen=True, slots=True)
class Course:
    """A conversation's present cycle. ``halts``: pending or snoozed; ``turns``: answered, until the customer writes.

    ``asked_at`` is the first message that nobody had answered, after the first reply; ``answered_at`` when it was.
    """

    sequence: int
    cycle: int
    opened_at: datetime
    first_reply_at: datetime | None = None
    resolved_at: datetime | None = None
    asked_at: datetime | None = None
    answered_at: datetime | None = None
    halts: tuple[Stop, ...] = ()
    turns: tuple[Stop, ...] = ()


@dataclass(frozen=True, slots=True)
class Clock:
    """One measure. ``due_at`` and ``warn_at`` are None while it stands still, and where it is never due."""

    measure: Measure
    started_at: datetime
    target: int
    due_at: datetime | None
    warn_at: datetime | None
    done_at: datetime | None
    state: ClockState


def fold(before: Course | None, snapshot: ConversationSnapshot, at: datetime) -> Course:
    """The course after an event. An event that is older than what is known changes nothing."""
    if before is not None and snapshot.sequence <= before.sequence:
        return before
    if before is None or before.cycle != snapshot.cycle:
        before = Course(snapshot.sequence, snapshot.cycle, snapshot.opened_at)
    over = snapshot.status == "resolved"
    replied = snapshot.first_reply_at is not None
    waiting = snapshot.waiting_since
    asked, answered = before.asked_at, before.answered_at
    if not over and replied and waiting is not None and (asked is None or answered is not None):
        asked, answered = waiting, None
    elif asked is not None and answered is None and waiting is None and not over:
        answered = at
    return replace(
        before,
        sequence=snapshot.sequence,
        opened_at=snapshot.opened_at,
        first_reply_at=snapshot.first_reply_at,
        resolved_at=(snapshot.resolved_at or at) if over else None,
        asked_at=asked,
        answered_at=answered,
        halts=_switched(before.halts, at, on=snapshot.status in _HALTED),
        turns=_switched(before.turns, at, on=replied and waiting is None and not over),
    )


def clocks(course: Course, terms: Terms, targets: Targets, calendar: Calendar | None) -> list[Clock]:
    """The clocks of a course. ``calendar`` None, or one that measures nothing: every second counts."""
    found = []
    for measure in MEASURES:
        target = targets.of(measure)
        started, done = _course_of(measure, course)
        if target is None or started is None:
            continue
        stops = course.halts
        if measure == "resolution" and terms.pause_on_customer:
            stops = merged((*course.halts, *course.turns))
        due = due_at(calendar, started, target, stops)
        warn = due_at(calendar, started, target * terms.warn_percent / 100, stops)
        found.append(Clock(measure, started, target, due, warn, *_ended(course, done, due)))
    return found


def _course_of(measure: Measure, course: Course) -> tuple[datetime | None, datetime | None]:
    match measure:
        case "first_response":
            return course.opened_at, course.first_reply_at
        case "next_response":
            return course.asked_at, course.answered_at
        case _:
            return course.opened_at, course.resolved_at


def _ended(course: Course, done: datetime | None, due: datetime | None) -> tuple[datetime | None, ClockState]:
    """When a clock ended, and how. What the resolution cuts short is missed when it was late by then, else void."""
    if done is not None:
        return done, "met" if due is None or done <= due else "missed"
    if course.resolved_at is not None:
        return course.resolved_at, "void" if due is None or course.resolved_at <= due else "missed"
    return None, "paused" if due is None else "running"


def due_at(calendar: Calendar | None, start: datetime, seconds: float, stops: Iterable[Stop]) -> datetime | None:
    """The earliest instant by which so much time has passed that counts; None while a stop goes on before that."""
    at, left = start, seconds
    for stop in merged(stops):
        if stop.end is not None and stop.end <= at:
            continue
        if stop.start > at:
            counted = _seconds(calendar, at, stop.start)
            if counted >= left:
                break
            left -= counted
        if stop.end is None:
            return None
        at = stop.end
    if calendar is None or not calendar.measures:
        return at + timedelta(seconds=left)
    return add_business_seconds(calendar, at, left)


def merged(stops: Iterable[Stop]) -> tuple[Stop, ...]:
    """The same time as stops in order that neither touch nor overlap."""
    found: list[Stop] = []
    for stop in sorted(stops, key=lambda one: one.start):
        last = found[-1] if found else None
        if last is None or (last.end is not None and stop.start > last.end):
            found.append(stop)
        elif last.end is not None and (stop.end is None or stop.end > last.end):
            found[-1] = Stop(last.start, stop.end)
    return tuple(found)


def _seconds(calendar: Calendar | None, start: datetime, end: datetime) -> float:
    if calendar is not None and calendar.measures:
        return business_seconds(calendar, start, end) or 0.0
    return (end - start).total_seconds()


def _switched(stops: tuple[Stop, ...], at: datetime, *, on: bool) -> tuple[Stop, ...]:
    going = bool(stops) and stops[-1].end is None
    if on == going:
        return stops
    if on:
        return (*stops, Stop(at))
    last = stops[-1]
    # Of no length: it was on and off in one moment, or clocks disagree.
    return stops[:-1] if at <= last.start else (*stops[:-1], Stop(last.start, at))


def to_json(course: Course) -> dict[str, Any]:
    """A course as it is kept."""

    def text(at: datetime | None) -> str | None:
        return None if at is None else at.isoformat()

    def listed(stops: Sequence[Stop]) -> list[list[str | None]]:
        return [[text(stop.start), text(stop.end)] for stop in stops]

    return {
        "sequence": course.sequence,
        "cycle": course.cycle,
        "opened_at": text(course.opened_at),
        "first_reply_at": text(course.first_reply_at),
        "resolved_at": text(course.resolved_at),
        "asked_at": text(course.asked_at),
        "answered_at": text(course.answered_at),
        "halts": listed(course.halts),
        "turns": listed(course.turns),
    }


def from_json(kept: Mapping[str, Any]) -> Course:
    """The reverse of `to_json`."""

    def moment(text: str | None) -> datetime | None:
        return None if text is None else datetime.fromisoformat(text)

    def stops(given: Sequence[Sequence[str | None]]) -> tuple[Stop, ...]:
        return tuple(Stop(datetime.fromisoformat(start or ""), moment(end)) for start, end in given)

    return Course(
        kept["sequence"],
        kept["cycle"],
        datetime.fromisoformat(kept["opened_at"]),
        moment(kept["first_reply_at"]),
        moment(kept["resolved_at"]),
        moment(kept["asked_at"]),
        moment(kept["answered_at"]),
        stops(kept["halts"]),
        stops(kept["turns"]),
    )

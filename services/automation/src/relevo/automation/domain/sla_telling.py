"""What is told of service levels: of each clock once that it is about to breach, and once how it ended."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal

from relevo.automation.domain.sla import Clock, Measure

Kind = Literal["warned", "breached", "met"]


@dataclass(frozen=True, slots=True)
class Kept:
    """A clock, and the due times of which its warning and its breach were told."""

    clock: Clock
    warned_for: datetime | None = None
    breached_for: datetime | None = None


@dataclass(frozen=True, slots=True)
class Told:
    """Something to tell of a clock; ``at`` is when it came to be true."""

    kind: Kind
    clock: Clock
    at: datetime


def settled(before: Mapping[Measure, Kept], after: Mapping[Measure, Clock]) -> tuple[dict[Measure, Kept], list[Told]]:
    """The clocks as they are kept now, and what that ends.

    A clock that was overdue when it ended is told of, also if nobody was there to see it become so. A breach that was
    told stays told for its due time; when that moves into the future, because of a lower priority, the clock may
    breach again.
    """
    kept: dict[Measure, Kept] = {}
    told: list[Told] = []
    for measure, clock in after.items():
        old = before.get(measure)
        same = old if old is not None and old.clock.started_at == clock.started_at else None
        now = Kept(clock) if same is None else replace(same, clock=clock)
        was = same.clock.state if same is not None else "running"
        if clock.state == "missed" and clock.due_at is not None and now.breached_for != clock.due_at:
            told.append(Told("breached", clock, clock.due_at))
            now = replace(now, breached_for=clock.due_at)
        elif clock.state == "met" and was != "met" and clock.done_at is not None:
            told.append(Told("met", clock, clock.done_at))
        kept[measure] = now
    return kept, told


def rung(kept: Kept, due: datetime, kind: Kind, at: datetime) -> tuple[Kept, Told] | None:
    """What follows when a timer rings at ``at`` that was set for ``due``; None when the clock has moved or ended, or it is told.

    Nobody is warned of what is overdue by now: that is told itself.
    """
    clock = kept.clock
    if clock.state != "running" or clock.due_at is None:
        return None
    if kind == "breached" and clock.due_at == due != kept.breached_for:
        return replace(kept, breached_for=due), Told("breached", clock, due)
    if kind == "warned" and clock.warn_at == due and at < clock.due_at != kept.warned_for:
        return replace(kept, warned_for=clock.due_at), Told("warned", clock, due)
    return None

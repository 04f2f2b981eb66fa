"""When an alert about statuses is due. Pure.

An alert watches an agent, or a team. What it tells of is a *subject*: each agent for `status` and `outside_shift`, the
team as a whole for `nobody_available`. It is told once while it stays so, and not again within the quiet time.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from relevo.contracts.presence import RoutingState

Kind = Literal["status", "outside_shift", "nobody_available"]


@dataclass(frozen=True, slots=True)
class Alert:
    """What somebody wants to be told of: when it has been so for ``minutes``."""

    id: str
    account_id: str
    subscriber_id: str
    kind: Kind
    agent_id: str | None
    team_id: str | None
    states: tuple[RoutingState, ...]
    minutes: int
    quiet_minutes: int
    enabled: bool
    version: int
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Status:
    """An agent's status. ``not_available_since``: whatever it was in between; None while they are available."""

    agent_id: str
    account_id: str
    state: RoutingState
    since: datetime
    not_available_since: datetime | None
    in_shift: bool | None
    sequence: int


@dataclass(frozen=True, slots=True)
class Telling:
    """The last that was told of a subject: since when it was so, and when that was told."""

    since: datetime
    told_at: datetime


def after(before: Status | None, given: Status) -> Status:
    """A status with the memory of the one before; an older one changes nothing."""
    if before is not None and given.sequence <= before.sequence:
        return before
    since = None
    if given.state != "available":
        since = given.since if before is None else before.not_available_since or given.since
    return Status(given.agent_id, given.account_id, given.state, given.since, since, given.in_shift, given.sequence)


def holds_since(alert: Alert, statuses: Mapping[str, Status], members: Iterable[str]) -> dict[str, datetime]:
    """By subject, since when it is as the alert says. ``members``: of the team, if it watches one.

    Somebody of whom nothing was ever heard is offline, for as long as the alert is there. A team of nobody tells nothing.
    """
    watched = [alert.agent_id] if alert.agent_id else list(members)
    if alert.kind == "nobody_available":
        since = nobody_since(watched, statuses, alert.created_at)
        return {alert.team_id or alert.agent_id or "": since} if since else {}
    found = {}
    for agent in watched:
        status = statuses.get(agent)
        if status is None:
            continue
        if alert.kind == "outside_shift":
            so = status.in_shift is False and status.state != "offline"
        else:
            so = status.state in alert.states
        if so:
            found[agent] = status.since
    return found


def nobody_since(watched: Iterable[str], statuses: Mapping[str, Status], begun: datetime) -> datetime | None:
    """Since when none of these people is available; None: somebody is, or there is nobody. ``begun``: for those never heard of."""
    gone = []
    for agent in watched:
        status = statuses.get(agent)
        if status is not None and status.state == "available":
            return None
        gone.append((status and status.not_available_since) or begun)
    return max(gone, default=None)


def due(alert: Alert, since: datetime, last: Telling | None) -> datetime | None:
    """When to tell of a subject for which it is so since then; None when that was told."""
    at = since + timedelta(minutes=alert.minutes)
    if last is None:
        return at
    if last.since == since:
        return None
    return max(at, last.told_at + timedelta(minutes=alert.quiet_minutes))

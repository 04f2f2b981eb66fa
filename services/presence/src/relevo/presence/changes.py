"""The one way in which a status changes, whatever door the input came through: lock, decide, write, publish."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from relevo.chassis import timers
from relevo.chassis.database import Tx
from relevo.chassis.timers import Timer
from relevo.contracts.envelope import Envelope
from relevo.contracts.presence import AgentStatus, BreakDue, StatusChanged
from relevo.presence.domain import status
from relevo.presence.domain.shifts import next_start
from relevo.presence.domain.status import Agent, Change, Limits, Looked, Setting
from relevo.presence.store import rules, statuses

TIMER = "status"
"""The kind of the timer that rings when an agent's status may change by itself; its key is the agent's id."""


class ForeignAgent(ValueError):
    """An input names an agent of another account."""


@dataclass(frozen=True, slots=True)
class Step:
    """One input for one agent, and the event that brought it, if one did."""

    account_id: str
    agent_id: str
    given: status.Input
    cause: Envelope | None = None


async def apply(tx: Tx, steps: Sequence[Step], now: datetime, limits: Limits) -> dict[str, Agent]:
    """Apply inputs in order; answers the agents as they are then.

    Raises ForeignAgent when a step's account is not the agent's: nothing is written then.
    """
    await statuses.create_missing(tx, {step.agent_id: step.account_id for step in steps}, now)
    watched = await _lock(tx, {step.agent_id for step in steps})
    made: list[tuple[Change, Envelope | None]] = []
    for step in steps:
        one = watched.get(step.agent_id)
        if one is None or one.agent.account_id != step.account_id:
            raise ForeignAgent(f"agent {step.agent_id} is not of account {step.account_id}")
        one.agent, change = status.apply(one.agent, step.given, now, limits, one.setting)
        if change:
            made.append((change, step.cause))
    await _write(tx, list(watched.values()), made, now)
    return {agent_id: one.agent for agent_id, one in watched.items()}


async def look_again(tx: Tx, account_id: str, now: datetime, limits: Limits) -> None:
    """The account's rules, named statuses or shifts changed: everybody is looked at anew."""
    known = await rules.known_agents(tx, account_id)
    await apply(tx, [Step(account_id, agent_id, Looked()) for agent_id in sorted(known)], now, limits)


async def ring(tx: Tx, due: dict[str, datetime], now: datetime, limits: Limits) -> None:
    """The timers of these agents rang; `due` tells when they should have."""
    watched = await _lock(tx, due)
    made: list[tuple[Change, Envelope | None]] = []
    for agent_id, one in watched.items():
        one.check_at = None
        one.agent, change = status.tick(one.agent, now, due[agent_id], limits, one.setting)
        if change:
            made.append((change, None))
    await _write(tx, list(watched.values()), made, now)


async def _lock(tx: Tx, agents: Iterable[str]) -> dict[str, statuses.Watched]:
    watched = await statuses.lock(tx, agents)
    settings = await rules.settings_of(tx, {one.agent.id: one.agent.account_id for one in watched.values()})
    for agent_id, one in watched.items():
        one.setting = settings[agent_id]
        one.warned_at = one.agent.warned_at
    return watched


async def _write(
    tx: Tx, watched: Sequence[statuses.Watched], made: Sequence[tuple[Change, Envelope | None]], now: datetime
) -> None:
    alarms = []
    for one in watched:
        deadline = status.deadline(one.agent, now, one.setting)
        # A heartbeat only moves the deadline away: the timer that is set rings first, and sets the next one. So
        # heartbeats touch no timer.
        if deadline is not None and (one.check_at is None or deadline < one.check_at):
            one.check_at = deadline
            alarms.append(Timer(one.agent.id, deadline, account_id=one.agent.account_id))
    await timers.schedule_all(tx, TIMER, alarms)
    if watched:
        await statuses.save(tx, watched)
    if made:
        await statuses.record(tx, [change for change, _ in made])
    warned = [one for one in watched if one.agent.warned_at is not None and one.agent.warned_at != one.warned_at]
    labels = {change.after.label for change, _ in made if change.after.label is not None}
    labels |= {rest.id for one in warned if (rest := one.setting.rules.rest) is not None}
    names = await rules.names(tx, labels)
    settings = {one.agent.id: one.setting for one in watched}
    for change, cause in made:
        after = change.after
        tx.emit(
            StatusChanged(
                status=published(after, settings[after.id], names, now),
                previous=change.before.state,
                previous_since=change.before.since,
                previous_label_id=change.before.label,
                previous_in_shift=change.before.in_shift,
            ),
            account=after.account_id,
            entity=after.id,
            actor=after.actor,
            sequence=after.sequence,
            time=after.since,
            cause=cause,
        )
    for one in warned:
        rest, begins = one.setting.rules.rest, status.rest_begins(one.agent, one.setting.rules)
        if rest is not None and begins is not None:
            tx.emit(
                BreakDue(
                    agent_id=one.agent.id,
                    label_id=rest.id,
                    label=names.get(rest.id, ""),
                    begins_at=begins,
                    may_put_off=not one.agent.put_off and bool(one.setting.rules.put_off),
                ),
                account=one.agent.account_id,
                entity=one.agent.id,
            )


def published(agent: Agent, setting: Setting, names: Mapping[str, str], now: datetime) -> AgentStatus:
    """The agent's status as others see it; `names` are those of named statuses."""
    choice = agent.choice
    crowded = agent.cause == "capacity"
    return AgentStatus(
        agent_id=agent.id,
        state=agent.state,
        label_id=agent.label,
        label=names.get(agent.label) if agent.label else None,
        chosen=choice.state if choice else None,
        until=choice.until if choice else None,
        connected=agent.connected(now),
        since=agent.since,
        cause=agent.cause,
        in_shift=agent.in_shift,
        open=agent.open if crowded else None,
        limit=status.known(agent, setting, now).limit if crowded else None,
        back_at=_back_at(agent, setting, now),
    )


def _back_at(agent: Agent, setting: Setting, now: datetime) -> datetime | None:
    if agent.in_shift is not False and agent.state not in ("away", "offline"):
        return None
    choice = agent.choice
    if choice is not None and choice.until is not None and choice.in_force(now) and agent.in_shift is not False:
        return choice.until
    # Within a shift nobody knows when somebody who left is back.
    return next_start(setting.calendars, now) if agent.in_shift is False else None

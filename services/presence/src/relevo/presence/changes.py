"""The one way in which a status changes, whatever door the input came through: lock, decide, write, publish."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from relevo.chassis import timers
from relevo.chassis.database import Tx
from relevo.chassis.timers import Timer
from relevo.contracts.envelope import Envelope
from relevo.contracts.presence import AgentStatus, StatusChanged
from relevo.presence import store
from relevo.presence.domain import status
from relevo.presence.domain.status import Agent, Change, Limits

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
    await store.create_missing(tx, {step.agent_id: step.account_id for step in steps}, now)
    watched = await store.lock(tx, {step.agent_id for step in steps})
    made: list[tuple[Change, Envelope | None]] = []
    for step in steps:
        one = watched.get(step.agent_id)
        if one is None or one.agent.account_id != step.account_id:
            raise ForeignAgent(f"agent {step.agent_id} is not of account {step.account_id}")
        one.agent, change = status.apply(one.agent, step.given, now, limits)
        if change:
            made.append((change, step.cause))
    await _write(tx, list(watched.values()), made, now)
    return {agent_id: one.agent for agent_id, one in watched.items()}


async def ring(tx: Tx, due: dict[str, datetime], now: datetime, limits: Limits) -> None:
    """The timers of these agents rang; `due` tells when they should have."""
    watched = await store.lock(tx, due)
    made: list[tuple[Change, Envelope | None]] = []
    for agent_id, one in watched.items():
        one.check_at = None
        one.agent, change = status.tick(one.agent, now, due[agent_id], limits)
        if change:
            made.append((change, None))
    await _write(tx, list(watched.values()), made, now)


async def _write(
    tx: Tx, watched: Sequence[store.Watched], made: Sequence[tuple[Change, Envelope | None]], now: datetime
) -> None:
    alarms = []
    for one in watched:
        deadline = status.deadline(one.agent)
        # A heartbeat only moves the deadline away: the timer that is set rings first, and sets the next one. So
        # heartbeats touch no timer.
        if deadline is not None and (one.check_at is None or deadline < one.check_at):
            one.check_at = deadline
            alarms.append(Timer(one.agent.id, deadline, account_id=one.agent.account_id))
    await timers.schedule_all(tx, TIMER, alarms)
    if watched:
        await store.save(tx, watched)
    if made:
        await store.record(tx, [change for change, _ in made])
    for change, cause in made:
        after = change.after
        tx.emit(
            StatusChanged(
                status=published(after, now), previous=change.before.state, previous_since=change.before.since
            ),
            account=after.account_id,
            entity=after.id,
            actor=after.actor,
            sequence=after.sequence,
            time=after.since,
            cause=cause,
        )


def published(agent: Agent, now: datetime) -> AgentStatus:
    """The agent's status as others see it."""
    choice = agent.choice
    return AgentStatus(
        agent_id=agent.id,
        state=agent.state,
        chosen=choice.state if choice else None,
        until=choice.until if choice else None,
        connected=agent.connected(now),
        since=agent.since,
        cause=agent.cause,
    )

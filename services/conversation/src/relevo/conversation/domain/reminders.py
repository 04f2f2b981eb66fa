"""Reminders to follow up: when they are due, what makes them moot, and whom they remind."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final
from zoneinfo import ZoneInfo

from relevo.contracts.conversation import ReminderCancelled, ReminderDue, ReminderSet
from relevo.contracts.snapshots import ReminderSnapshot
from relevo.conversation.domain.state import Change, Conversation, Refused, following
from relevo.kernel.business_time import Calendar, add_business_seconds, next_open

MAX_PENDING: Final = 20
"""In one conversation."""
LONGEST: Final = timedelta(days=366)


@dataclass(frozen=True, slots=True)
class Answers:
    """Who has written to the other since a reminder was set: the customer, and a person of the team."""

    customer: bool
    agent: bool


def due_in(start: datetime, *, hours: int | None, days: int | None, zone: ZoneInfo) -> datetime:
    """So many hours later; or so many days later at the same time of day in the zone, whatever the clocks do meanwhile."""
    if hours is not None:
        return start + timedelta(hours=hours)
    local = start.astimezone(zone)
    return (local + timedelta(days=days or 0)).astimezone(start.tzinfo)


def open_in(start: datetime, calendar: Calendar, *, hours: int | None, days: int | None) -> datetime | None:
    """So many business hours later; or so many days later, and where it is closed then, at the next opening.

    None when the calendar measures nothing, or is not open so long within its horizon.
    """
    try:
        if hours is not None:
            return add_business_seconds(calendar, start, hours * 3600)
        return next_open(calendar, due_in(start, hours=None, days=days, zone=ZoneInfo(calendar.time_zone)))
    except ValueError:
        return None


def remind(conversation: Conversation, reminder: ReminderSnapshot, pending: int, now: datetime) -> Change:
    """Set a reminder. Raises Refused for a resolved conversation, or when too many wait there."""
    before = conversation.state
    if not conversation.unresolved:
        raise Refused(
            "conversation_is_resolved",
            es="La conversación está resuelta: reábrela para ponerle un recordatorio.",
            en="The conversation is resolved: reopen it to set a reminder.",
        )
    if pending >= MAX_PENDING:
        raise Refused(
            "too_many_reminders",
            es=f"Ya hay {MAX_PENDING} recordatorios en esta conversación: quita alguno.",
            en=f"There are {MAX_PENDING} reminders in this conversation already: take one away.",
        )
    conversation = following(conversation)
    event = ReminderSet(conversation=conversation.state, before=before.access, reminder=reminder)
    return Change(conversation, now, (event,))


def moot(conversation: Conversation, reminder: ReminderSnapshot, cycle: int, answers: Answers) -> bool:
    """Whether what it waits for has come, or the conversation was resolved since, also if it was reopened."""
    if not conversation.unresolved or conversation.state.cycle != cycle:
        return True
    match reminder.unless:
        case "customer_answers":
            return answers.customer
        case "agent_answers":
            return answers.agent
        case "anyone_answers":
            return answers.customer or answers.agent
        case "nothing":
            return False


def ring(conversation: Conversation, reminder: ReminderSnapshot, now: datetime) -> Change:
    """It is due: the agent; else the assignee, without one the team, without one who set it; or the team."""
    before = conversation.state
    setter = reminder.set_by.removeprefix("agent:") if reminder.set_by.startswith("agent:") else None
    agent: str | None = None
    team: str | None = None
    if reminder.to == "agent":
        agent = reminder.agent_id
    elif reminder.to == "assignee" and before.assignee_id:
        agent = before.assignee_id
    elif before.team_id:
        team = before.team_id
    else:
        agent = before.assignee_id or setter
    conversation = following(conversation)
    event = ReminderDue(
        conversation=conversation.state, before=before.access, reminder=reminder, agent_id=agent, team_id=team
    )
    return Change(conversation, now, (event,))


def cancel(conversation: Conversation, reminder: ReminderSnapshot, now: datetime) -> Change:
    """Put it away."""
    before = conversation.state
    conversation = following(conversation)
    event = ReminderCancelled(conversation=conversation.state, before=before.access, reminder=reminder)
    return Change(conversation, now, (event,))

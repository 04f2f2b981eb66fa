"""Reminders: set in the transaction of what asks for them, rung by a timer, exactly once."""

from collections import defaultdict
from collections.abc import Sequence
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

from relevo.chassis import directory, timers
from relevo.chassis.calendars import calendars
from relevo.chassis.database import Tx
from relevo.chassis.received import Received
from relevo.chassis.timers import DueTimer
from relevo.contracts.base import new_id, now
from relevo.contracts.conversation import Remind
from relevo.contracts.snapshots import ReminderSnapshot
from relevo.conversation import store
from relevo.conversation.changes import Changes
from relevo.conversation.domain import reminders
from relevo.conversation.domain.state import Conversation, Refused
from relevo.conversation.store import reminders as kept
from relevo.conversation.store.reminders import Kept
from relevo.kernel.zones import zone_named

REMINDER: Final = "reminder"
"""The timers of reminders, by reminder id. One that an answer made moot does nothing when it rings."""


async def _zone_of(tx: Tx, account_id: str) -> ZoneInfo:
    account = (await directory.accounts(tx, [account_id])).get(account_id)
    return zone_named(account.time_zone if account else None) or ZoneInfo("UTC")


async def due_at(
    tx: Tx, conversation: Conversation, start: datetime, hours: int | None, days: int | None, *, business_hours: bool
) -> datetime | None:
    """When a reminder that is set now is due; None: business hours are asked for, and no calendar measures them there."""
    state = conversation.state
    if not business_hours:
        zone = await _zone_of(tx, state.account_id) if days else ZoneInfo("UTC")  # hours are the same everywhere
        return reminders.due_in(start, hours=hours, days=days, zone=zone)
    known = (await calendars(tx, [state.account_id]))[state.account_id]
    counting = known.of(inbox_id=state.inbox_id, team_id=state.team_id)
    return reminders.open_in(start, counting.calendar, hours=hours, days=days) if counting else None


async def set_(  # noqa: PLR0917  (what a door has in hand)
    tx: Tx, changes: Changes, conversation: Conversation, reminder: ReminderSnapshot, pending: int, moment: datetime
) -> None:
    """Set one in a conversation that is locked; the caller saves the changes. Raises Refused."""
    change = reminders.remind(conversation, reminder, pending, moment)
    state = change.conversation.state
    changes.apply(change, actor=reminder.set_by)
    await kept.add(tx, Kept(state.account_id, state.id, reminder, state.cycle, state.sequence))
    await timers.schedule(tx, REMINDER, reminder.id, reminder.due_at, account_id=state.account_id)


async def on_remind(tx: Tx, changes: Changes, received: Received) -> None:
    """A rule wants a reminder; while one of its own waits here that is not moot, another one changes nothing.

    Raises Refused.
    """
    data, account = received.data, received.envelope.account
    assert isinstance(data, Remind)
    conversation = changes.conversations[account, data.conversation_id]
    actor = received.envelope.actor
    waiting = await kept.waiting(tx, account, data.conversation_id)
    own = await kept.find(tx, ((account, id_) for id_, set_by in waiting.items() if set_by == actor))
    answers = await kept.answers(tx, own)
    live = {id_ for id_, one in own.items() if not reminders.moot(conversation, one.reminder, one.cycle, answers[id_])}
    if live:
        return
    if own:
        await kept.drop(tx, account, own)
        await timers.cancel(tx, REMINDER, *own)
    if (data.hours is None) == (data.days is None):
        raise Refused("invalid_delay", es="Indica horas o días.", en="Give hours or days.", pointer="/hours")
    start = received.envelope.time
    due = await due_at(tx, conversation, start, data.hours, data.days, business_hours=data.business_hours)
    if due is None:
        due = await due_at(tx, conversation, start, data.hours, data.days, business_hours=False)
    assert due
    reminder = ReminderSnapshot(
        id=new_id(),
        text=data.text,
        unless=data.unless,
        to=data.to,
        set_by=actor,
        set_at=start,
        due_at=due,
    )
    await set_(tx, changes, conversation, reminder, len(waiting) - len(own), now())


async def on_reminder(due: Sequence[DueTimer], tx: Tx) -> None:
    """Reminders are due: those that nothing has made moot are told of, in their conversation's story."""
    found = await kept.find(tx, ((timer.account_id, timer.key) for timer in due))
    changes = Changes(
        await store.conversations.lock(tx, ((one.account_id, one.conversation_id) for one in found.values()))
    )
    answers = await kept.answers(tx, found)
    moment = now()
    over: dict[str, list[str]] = defaultdict(list)
    for timer in due:
        one = found.get(timer.key)
        if one is None or timer.key not in answers:
            continue  # cancelled meanwhile
        over[one.account_id].append(timer.key)
        conversation = changes.conversations.get((one.account_id, one.conversation_id))
        if conversation and not reminders.moot(conversation, one.reminder, one.cycle, answers[timer.key]):
            changes.apply(reminders.ring(conversation, one.reminder, moment), actor="system")
    for account, ids in over.items():
        await kept.drop(tx, account, ids)
    await changes.save(tx)

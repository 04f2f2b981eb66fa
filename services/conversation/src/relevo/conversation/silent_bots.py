"""A bot that says nothing in time, or is gone, loses its conversations to people."""

from collections.abc import Sequence

from relevo.chassis.database import Tx
from relevo.chassis.timers import DueTimer
from relevo.contracts.base import now
from relevo.contracts.conversation import HandOver
from relevo.conversation import store
from relevo.conversation.changes import Changes
from relevo.conversation.domain.bots import leave_to_people
from relevo.conversation.store import bots


async def on_silent(due: Sequence[DueTimer], tx: Tx) -> None:
    """Bots have not answered in time: people get the conversations that are theirs still."""
    changes = Changes(await store.conversations.lock(tx, ((timer.account_id, timer.key) for timer in due)))
    states = [conversation.state for conversation in changes.conversations.values()]
    known = await bots.attached(tx, (s.account_id for s in states), (s.inbox_id for s in states))
    moment = now()
    for timer in due:
        conversation = changes.conversations.get((timer.account_id, timer.key))
        if conversation is None or conversation.state.status != "pending":
            continue
        reason: HandOver = "silent" if conversation.state.inbox_id in known else "detached"
        changes.apply(leave_to_people(conversation, moment, reason), actor="system")
    await changes.save(tx)

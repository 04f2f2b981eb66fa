"""What comes due: timers that were set in a conversation's own transaction."""

from collections.abc import Sequence

from relevo.chassis.database import Tx
from relevo.chassis.timers import DueTimer
from relevo.contracts.base import now
from relevo.conversation import store
from relevo.conversation.changes import Changes
from relevo.conversation.domain import snooze


async def on_snooze(due: Sequence[DueTimer], tx: Tx) -> None:
    """Snoozed conversations wake: those that still wait for this moment."""
    changes = Changes(await store.conversations.lock(tx, ((timer.account_id, timer.key) for timer in due)))
    moment = now()
    for timer in due:
        if conversation := changes.conversations.get((timer.account_id, timer.key)):
            changes.apply(snooze.come_due(conversation, timer.due_at, moment), actor="system")
    await changes.save(tx)

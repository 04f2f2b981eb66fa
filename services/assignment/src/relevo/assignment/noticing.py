"""Customers who wait are told their place in the queue, and how long it is expected to last still."""

from collections.abc import Collection
from math import ceil

from relevo.assignment.domain.held import Held
from relevo.assignment.domain.policy import WaitingNotice
from relevo.assignment.store import waits
from relevo.assignment.store.waits import Queue
from relevo.chassis.database import Tx
from relevo.contracts.base import now
from relevo.contracts.conversation import SendMessage
from relevo.kernel.variables import filled


async def tell(tx: Tx, account_id: str, notice: WaitingNotice, told: Collection[Held]) -> None:
    """Have these customers told, as it is after all that was decided: who does not wait any more is not."""
    if not told:
        return
    found = await waits.expected(tx, account_id, {one.id: Queue(one.inbox_id, one.team_id) for one in told}, at=now())
    for held in told:
        if held.id not in found:
            continue
        place, wait = found[held.id]
        values = {"place": str(place)}
        if wait.seconds is not None:
            values["minutes"] = str(max(ceil(wait.seconds / 60), 1))
        language = held.facts.get("conversation.language") or held.facts.get("contact.language") or ""
        command = SendMessage(conversation_id=held.id, text=filled(notice.text(language), values))
        tx.emit(command, account=account_id, entity=held.id)

"""Whoever is offered a conversation is told so, at once, wherever they are."""

from collections.abc import Sequence

from relevo.assignment.domain.held import Decision
from relevo.assignment.store import offers
from relevo.chassis.database import Tx
from relevo.contracts.notification import Notify


async def tell(tx: Tx, account_id: str, made: Sequence[tuple[str, Decision]]) -> None:
    """Have those told whom these decisions, each with its id, offer something."""
    asked = [(decision_id, one) for decision_id, one in made if one.kind == "offered"]
    if not asked:
        return
    numbers = await offers.numbers(tx, account_id, [one.conversation_id for _, one in asked])
    for decision_id, one in asked:
        assert one.offered_until is not None
        # While the facts are projected anew, numbers are not known for a moment.
        stands = one.offered_until - one.entry.at
        command = Notify(
            dedup_key=f"offer:{decision_id}",
            kind="assignment",
            agent_id=one.offered_to,
            template="offer",
            data={"number": numbers.get(one.conversation_id, "—"), "seconds": round(stands.total_seconds())},
            conversation_id=one.conversation_id,
            vouched=True,
            useless_after=one.offered_until,
        )
        tx.emit(command, account=account_id, entity=one.conversation_id, cause=one.entry.cause)

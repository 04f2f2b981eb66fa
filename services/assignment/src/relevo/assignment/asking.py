"""Whoever is offered a conversation is told so, at once, wherever they are; and who let too many pass, that they get no more."""

from collections.abc import Sequence

from relevo.assignment.domain.held import Decision
from relevo.assignment.domain.roster import Roster
from relevo.assignment.store import offers
from relevo.chassis.database import Tx
from relevo.contracts.notification import Notify


async def tell(tx: Tx, account_id: str, made: Sequence[tuple[str, Decision]], roster: Roster) -> None:
    """Have those told whom these decisions, each with its id, offer something, or nothing more."""
    _tell_paused(tx, account_id, [one for _, one in made], roster)
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


def _tell_paused(tx: Tx, account_id: str, made: Sequence[Decision], roster: Roster) -> None:
    """Once in a status, since another one ends it."""
    most = roster.policy.most_unanswered
    let_pass = {one.ended.agent_id for one in made if one.ended is not None and one.ended.outcome == "timed_out"}
    for agent in [roster.agents[one] for one in sorted(let_pass)]:
        if most is None or agent.unanswered < most:
            continue
        command = Notify(
            dedup_key=f"offers_paused:{agent.id}:{agent.state_since}",
            kind="assignment",
            agent_id=agent.id,
            template="offers_paused",
            data={"count": agent.unanswered},
        )
        tx.emit(command, account=account_id, entity=agent.id)

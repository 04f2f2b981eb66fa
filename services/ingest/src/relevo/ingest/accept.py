"""The one way in: both doors, and the retry of a quarantined event, end here."""

from collections.abc import Sequence

from relevo.chassis import Tx
from relevo.chassis.crash import crash_point
from relevo.contracts.inbound import InboundMessage
from relevo.contracts.ingest import MessageReceived, StatusReceived
from relevo.ingest.domain.ledger import Arrival, Verdict, firsts, judge, sender_entity
from relevo.ingest.store import gate


async def accept(arrivals: Sequence[Arrival], tx: Tx) -> list[Verdict]:
    """Accept each event once, for ever; answers one verdict per arrival, in order.

    The new ones are published in the order of arrival, numbered within their sender. True when the transaction
    commits, and only then. Call it once per transaction: ledger rows are locked in key order, then senders in key
    order, so that two transactions never wait for each other in a ring.
    """
    if not arrivals:
        return []
    wanted = firsts(arrivals)
    claimed = await gate.claim(tx, list(wanted.values()))
    crash_point("ingest.after_ledger")
    others = [place for place in wanted if place not in claimed]
    known = await gate.body_hashes(tx, others) if others else {}
    verdicts = judge(arrivals, claimed, known)
    accepted = [one for one, verdict in zip(arrivals, verdicts, strict=True) if verdict is Verdict.ACCEPTED]
    if accepted:
        numbers = await gate.advance_senders(tx, accepted)
        crash_point("ingest.after_senders")
        for one in accepted:
            sender = one.inbox.id, one.sender_key
            numbers[sender] += 1
            _emit(one, numbers[sender], tx)
    conflicts = [one for one, verdict in zip(arrivals, verdicts, strict=True) if verdict is Verdict.CONFLICT]
    if conflicts:
        await gate.record_conflicts(tx, conflicts)
    crash_point("ingest.after_accept")
    return verdicts


def _emit(one: Arrival, sequence: int, tx: Tx) -> None:
    event = one.event
    data: MessageReceived | StatusReceived
    if isinstance(event, InboundMessage):
        data = MessageReceived(
            inbox=one.inbox,
            sender_key=one.sender_key,
            sender=event.sender,
            external_id=event.external_id,
            content=event.content,
            reply_to=event.reply_to,
            automatic=event.automatic,
            occurred_at=event.occurred_at,
            received_at=one.at,
        )
    else:
        data = StatusReceived(
            inbox=one.inbox,
            sender_key=one.sender_key,
            message_id=event.message_id,
            external_id=event.external_id,
            status=event.status,
            error=event.error,
            change_id=event.change_id,
            occurred_at=event.occurred_at,
        )
    tx.emit(
        data,
        account=one.inbox.account_id,
        entity=sender_entity(one.inbox.id, one.sender_key),
        actor=one.actor,
        sequence=sequence,
        time=event.occurred_at,
        cause=one.cause,
    )

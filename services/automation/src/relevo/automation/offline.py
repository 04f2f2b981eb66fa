"""Customers who write while nobody is there are told so, and when somebody is back: once until somebody was."""

from collections.abc import Sequence
from typing import Final

from relevo.automation import offline_store as store
from relevo.automation import out_of_hours_store
from relevo.automation.domain.offline import Question, is_there, question_of
from relevo.automation.offline_store import Seen
from relevo.chassis import Received, Tx, directory
from relevo.contracts.base import now
from relevo.contracts.catalogue import BY_MODEL
from relevo.contracts.conversation import MessageCreated, SendMessage
from relevo.contracts.envelope import Envelope
from relevo.contracts.presence import StatusChanged

_WRITTEN: Final = BY_MODEL[MessageCreated].name


async def on_presence(batch: Sequence[Received], tx: Tx) -> None:
    """EVT_PRESENCE: who is there; a projection."""
    seen: dict[str, Seen] = {}
    for received in batch:
        if not received.is_a(StatusChanged):
            continue
        told: StatusChanged = received.data
        status, before = told.status, seen.get(told.status.agent_id)
        there = is_there(status.state, status.in_shift)
        gone = before.gone_since if before else None
        if there:
            gone = None
        elif is_there(told.previous, told.previous_in_shift):
            gone = status.since
        seen[status.agent_id] = Seen(
            received.envelope.account,
            status.agent_id,
            there,
            gone,
            status.since,
            status.back_at,
            received.envelope.sequence,
        )
    if seen:
        await store.keep(tx, seen.values())


async def on_conversation(batch: Sequence[Received], tx: Tx) -> None:
    """Order the answers that are due; a message that is seen again orders nothing."""
    written = [received for received in batch if received.type == _WRITTEN]
    if not written:
        return
    settings = await store.enabled(tx, {received.envelope.account for received in written})
    if not settings:
        return
    accounts = {setting.account_id for setting in settings.values()}
    closed = await out_of_hours_store.enabled(tx, accounts)
    inboxes = await directory.inboxes(tx, settings)
    asked: dict[str, tuple[Question, Envelope]] = {}
    for received in written:
        if received.envelope.account not in accounts:
            continue  # its body need not be decoded
        event: MessageCreated = received.data
        inbox_id = event.conversation.inbox_id
        question = question_of(
            event,
            settings.get(inbox_id),
            inbox_team=inboxes[inbox_id].team_id if inbox_id in inboxes else None,
            told_closed=inbox_id in closed,
        )
        if question:
            asked[question.conversation.id] = question, received.envelope
    if not asked:
        return
    moment = now()
    found = await store.attendance(tx, [question.group for question, _ in asked.values()], moment)
    due = [(one, found[one.group]) for one, _ in asked.values() if not found[one.group].somebody]
    claimed = await store.claim(tx, due, moment) if due else set()
    if not claimed:
        return
    known = await directory.accounts(tx, accounts)
    for question, attendance in due:
        conversation_id = question.conversation.id
        if conversation_id not in claimed:
            continue
        cause = asked[conversation_id][1]
        account = known.get(cause.account)
        language, time_zone = (account.language, account.time_zone) if account else ("es", "UTC")
        tx.emit(
            SendMessage(conversation_id=conversation_id, text=question.answer(attendance, language, time_zone, moment)),
            account=cause.account,
            entity=conversation_id,
            actor=question.actor,
            cause=cause,
            id=question.command_id(),
        )

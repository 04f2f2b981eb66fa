"""Customers who write while nobody is there are told so, and when somebody is back: once until somebody was."""

from collections.abc import Sequence

from relevo.automation import inbox_answers, inbox_answers_store
from relevo.automation import offline_store as store
from relevo.automation.domain import out_of_hours
from relevo.automation.domain.offline import Question, Setting, is_there, question_of
from relevo.automation.offline_store import Seen
from relevo.chassis import Received, Tx, directory
from relevo.contracts.base import now
from relevo.contracts.conversation import MessageCreated
from relevo.contracts.envelope import Envelope
from relevo.contracts.presence import StatusChanged


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
    settings, written = await inbox_answers.written(batch, tx, Setting)
    if not written:
        return
    closed = await inbox_answers_store.enabled(tx, out_of_hours.Setting, {one.account_id for one in settings.values()})
    inboxes = await directory.inboxes(tx, settings)
    asked: dict[str, tuple[Question, Envelope]] = {}
    for received in written:
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
    known = await directory.accounts(tx, {question.setting.account_id for question, _ in due})
    for question, attendance in due:
        conversation_id = question.conversation.id
        if conversation_id not in claimed:
            continue
        cause = asked[conversation_id][1]
        account = known.get(cause.account)
        language, time_zone = (account.language, account.time_zone) if account else ("es", "UTC")
        inbox_answers.say(
            tx,
            question.answer(attendance, language, time_zone, moment),
            conversation_id=conversation_id,
            actor=question.setting.actor,
            cause=cause,
            command_id=question.command_id(),
        )

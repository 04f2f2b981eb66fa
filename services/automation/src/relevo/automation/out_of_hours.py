"""Customers who write out of hours are told so, and when we are back: once in a conversation until then."""

from collections.abc import Sequence

from relevo.automation import inbox_answers
from relevo.automation import out_of_hours_store as store
from relevo.automation.domain.out_of_hours import Answer, Setting, answer_to
from relevo.chassis import Received, Tx, directory
from relevo.contracts.base import now
from relevo.contracts.conversation import MessageCreated
from relevo.contracts.envelope import Envelope


async def on_conversation(batch: Sequence[Received], tx: Tx) -> None:
    """Order the answers that are due; a message that is seen again orders nothing."""
    settings, written = await inbox_answers.written(batch, tx, Setting)
    moment = now()
    # Of several messages of one conversation the last: it is in the closed period that is still on.
    due: dict[str, tuple[Answer, Envelope]] = {}
    for received in written:
        event: MessageCreated = received.data
        setting = settings.get(event.conversation.inbox_id)
        if answer := answer_to(event, setting, received.envelope.time, moment):
            due[answer.conversation.id] = answer, received.envelope
    if not due:
        return
    claimed = await store.claim(tx, [answer for answer, _ in due.values()])
    if not claimed:
        return
    known = await directory.accounts(tx, {cause.account for _, cause in due.values()})
    for conversation_id, (answer, cause) in due.items():
        if conversation_id in claimed:
            account = known.get(cause.account)
            text = answer.message(account.language if account else "es", moment)
            inbox_answers.say(
                tx,
                text,
                conversation_id=conversation_id,
                actor=answer.setting.actor,
                cause=cause,
                command_id=answer.command_id(),
            )

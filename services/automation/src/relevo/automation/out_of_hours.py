"""Customers who write out of hours are told so, and when we are back: once in a conversation until then."""

from collections.abc import Sequence
from typing import Final

from relevo.automation import out_of_hours_store as store
from relevo.automation.domain.out_of_hours import Answer, answer_to
from relevo.chassis import Received, Tx, directory
from relevo.contracts.base import now
from relevo.contracts.catalogue import BY_MODEL
from relevo.contracts.conversation import MessageCreated, SendMessage
from relevo.contracts.envelope import Envelope

_TYPE: Final = BY_MODEL[MessageCreated].name


async def on_conversation(batch: Sequence[Received], tx: Tx) -> None:
    """Order the answers that are due; a message that is seen again orders nothing."""
    written = [received for received in batch if received.type == _TYPE]
    if not written:
        return
    settings = await store.enabled(tx, {received.envelope.account for received in written})
    if not settings:
        return
    accounts = {setting.account_id for setting in settings.values()}
    moment = now()
    # Of several messages of one conversation the last: it is in the closed period that is still on.
    due: dict[str, tuple[Answer, Envelope]] = {}
    for received in written:
        if received.envelope.account not in accounts:
            continue  # its body need not be decoded
        event: MessageCreated = received.data
        setting = settings.get(event.conversation.inbox_id)
        if answer := answer_to(event, setting, received.envelope.time, moment):
            due[answer.conversation.id] = answer, received.envelope
    if not due:
        return
    claimed = await store.claim(tx, [answer for answer, _ in due.values()])
    if not claimed:
        return
    known = await directory.accounts(tx, accounts)
    for conversation_id, (answer, cause) in due.items():
        if conversation_id in claimed:
            account = known.get(cause.account)
            text = answer.message(account.language if account else "es", moment)
            tx.emit(
                SendMessage(conversation_id=conversation_id, text=text),
                account=cause.account,
                entity=conversation_id,
                actor=answer.actor,
                cause=cause,
                id=answer.command_id(),
            )

"""The messages that an inbox may answer by itself, and the order that says the answer."""

from collections.abc import Sequence
from typing import Final

from relevo.automation import inbox_answers_store as store
from relevo.automation.inbox_answers_store import S
from relevo.chassis import Received, Tx
from relevo.contracts.catalogue import BY_MODEL
from relevo.contracts.conversation import MessageCreated, SendMessage
from relevo.contracts.envelope import Envelope

_WRITTEN: Final = BY_MODEL[MessageCreated].name


async def written(batch: Sequence[Received], tx: Tx, kind: type[S]) -> tuple[dict[str, S], list[Received]]:
    """What is answered, by inbox, and what was written in those accounts; of others no body need be decoded."""
    found = [received for received in batch if received.type == _WRITTEN]
    settings = await store.enabled(tx, kind, {received.envelope.account for received in found}) if found else {}
    accounts = {setting.account_id for setting in settings.values()}
    return settings, [received for received in found if received.envelope.account in accounts]


def say(tx: Tx, text: str, *, conversation_id: str, actor: str, cause: Envelope, command_id: str) -> None:
    """Order an answer; the same ``command_id`` says it once."""
    tx.emit(
        SendMessage(conversation_id=conversation_id, text=text),
        account=cause.account,
        entity=conversation_id,
        actor=actor,
        cause=cause,
        id=command_id,
    )

"""Bus, durable half: the access facts of conversations. What sockets are sent comes from the followers."""

from collections.abc import Sequence

from relevo.chassis import conversation_facts
from relevo.chassis.database import Tx
from relevo.chassis.received import Received
from relevo.contracts.catalogue import BY_MODEL
from relevo.contracts.conversation import (
    ContactCreated,
    ContactDeleted,
    ContactErased,
    ContactUpdated,
    ConversationEvent,
    MessageCreated,
    MessageStatusChanged,
)
from relevo.contracts.snapshots import ConversationSnapshot
from relevo.realtime import chats

# A message changes nothing of who may see its conversation; these are most of the traffic and stay undecoded.
_WITHOUT_FACTS = frozenset(
    BY_MODEL[model].name
    for model in (ContactCreated, ContactDeleted, ContactUpdated, MessageCreated, MessageStatusChanged)
)
_ERASED = BY_MODEL[ContactErased].name


async def on_conversation(batch: Sequence[Received], tx: Tx) -> None:
    """Project the access facts, and which visitor a webchat's conversation is with."""
    latest = {r.envelope.entity: r for r in batch if r.type not in _WITHOUT_FACTS}
    snapshots: list[ConversationSnapshot] = [
        r.data.conversation for r in latest.values() if isinstance(r.data, ConversationEvent)
    ]
    await conversation_facts.project(tx, snapshots)
    await chats.project(tx, snapshots)
    erased = [r for r in batch if r.type == _ERASED]
    if erased:
        gone = {conversation for r in erased for conversation in r.data.conversation_ids}
        await chats.forget(tx, {r.account for r in erased}, gone)


async def on_nothing(_batch: Sequence[Received], _tx: Tx) -> None:
    """Nothing of this stream is kept: the followers pass it on to the sockets."""

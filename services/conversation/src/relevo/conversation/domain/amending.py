"""What was said, and is said otherwise: notes and messages edited and deleted, failed messages sent again."""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from relevo.contracts.conversation import (
    MessageChangeRefused,
    MessageDeleted,
    MessageEdited,
    MessageReacted,
    OutboundUpdate,
)
from relevo.contracts.ingest import MessageChange
from relevo.contracts.snapshots import MessageSnapshot, Reaction
from relevo.conversation.domain import writing
from relevo.conversation.domain.state import Change, Conversation, Refused, Writing, following

MAX_REACTIONS: Final = 200


@dataclass(frozen=True, slots=True)
class Reach:
    """What the channel can do to messages that were sent, and the id of the change that is asked of it."""

    can: frozenset[MessageChange] = frozenset()
    change_id: str = ""


_NOTHING: Final = Reach()


def edit(
    conversation: Conversation, message: MessageSnapshot, text: str, now: datetime, reach: Reach = _NOTHING
) -> Change:
    """Write a note anew, or a message to the customer whose channel can do that.

    Raises Refused for others, for a deleted one, and for a message that never reached the channel.
    """
    _changeable(message, "edit", reach)
    if text == message.text:
        return Change(conversation, now)
    edited = message.model_copy(update={"text": text, "edited_at": now})
    before = conversation.state
    conversation = following(conversation)
    event = MessageEdited(conversation=conversation.state, before=before.access, message=edited, from_text=message.text)
    return Change(conversation, now, (event,), edited, _update(conversation, edited, "edit", reach, now))


def delete(conversation: Conversation, message: MessageSnapshot, now: datetime, reach: Reach = _NOTHING) -> Change:
    """Take away what a note says, or a message whose channel can do that; its place stays. Raises Refused as `edit`."""
    _changeable(message, "delete", reach)
    gone = message.model_copy(update={"text": "", "attachments": (), "reactions": (), "deleted_at": now})
    before = conversation.state
    conversation = following(conversation)
    event = MessageDeleted(conversation=conversation.state, before=before.access, message=gone)
    return Change(conversation, now, (event,), gone, _update(conversation, gone, "delete", reach, now))


def refused(conversation: Conversation, message: MessageSnapshot, error: str, now: datetime) -> Change:
    """The channel could not change a message: the customer has it as it was, and the conversation says so."""
    before = conversation.state
    conversation = following(conversation)
    event = MessageChangeRefused(
        conversation=conversation.state, before=before.access, message_id=message.id, error=error
    )
    return Change(conversation, now, (event,))


def _update(
    conversation: Conversation, message: MessageSnapshot, update: MessageChange, reach: Reach, now: datetime
) -> OutboundUpdate | None:
    """What the channel is told; nothing of a private note."""
    if message.kind != "outgoing":
        return None
    state = conversation.state
    return OutboundUpdate(
        change_id=reach.change_id,
        of_message_id=message.id,
        update=update,
        new_text=message.text,
        external_id=message.external_id,
        conversation_id=state.id,
        inbox_id=state.inbox_id,
        channel=state.channel,
        recipient_id=state.source_id,
        recipient_key=conversation.recipient_key,
        updated_at=now,
    )


def react(
    conversation: Conversation, message: MessageSnapshot, author: str, emoji: str, now: datetime, *, add: bool
) -> Change:
    """Somebody reacts to a private note, or takes that back; what is so already stays so.

    Raises Refused for messages to and from the customer, whose channels take no reactions, and above MAX_REACTIONS.
    """
    if message.kind != "note":
        raise Refused(
            "channel_takes_no_reactions",
            es="El canal no admite reacciones a sus mensajes: reacciona en una nota privada.",
            en="The channel takes no reactions to its messages: react to a private note.",
        )
    _changeable(message, "edit", _NOTHING)
    wanted = Reaction(author=author, emoji=emoji)
    if (wanted in message.reactions) == add:
        return Change(conversation, now)
    if add and len(message.reactions) >= MAX_REACTIONS:
        raise Refused(
            "too_many_reactions",
            es=f"Una nota tiene como mucho {MAX_REACTIONS} reacciones.",
            en=f"A note has at most {MAX_REACTIONS} reactions.",
        )
    rest = tuple(one for one in message.reactions if one != wanted)
    reacted = message.model_copy(update={"reactions": (*rest, wanted) if add else rest})
    before = conversation.state
    conversation = following(conversation)
    event = MessageReacted(
        conversation=conversation.state, before=before.access, message=reacted, emoji=emoji, added=add
    )
    return Change(conversation, now, (event,), reacted)


def retry(conversation: Conversation, failed: MessageSnapshot, said: Writing, now: datetime) -> Change:
    """Send a message again that failed: as a new one, since the channel may still report on the old.

    It counts as a reply of whoever retries. Raises Refused when it has not failed, or the conversation is archived.
    """
    if failed.kind != "outgoing" or failed.status != "failed":
        raise Refused(
            "message_has_not_failed",
            es="Ese mensaje no ha fallado: no hay nada que reenviar.",
            en="That message has not failed: there is nothing to send again.",
        )
    return writing.reply(conversation, said, now)


def _changeable(message: MessageSnapshot, update: MessageChange, reach: Reach) -> None:
    if message.kind in ("incoming", "activity"):
        raise Refused(
            "not_ours_to_change",
            es="Solo se puede cambiar lo que escribe el equipo.",
            en="Only what the team writes can be changed.",
        )
    if message.kind == "outgoing" and message.status == "failed":
        raise Refused(
            "message_never_left",
            es="El mensaje no llegó a enviarse: reenvíalo o escribe otro.",
            en="The message never got out: send it again or write another.",
        )
    if message.kind == "outgoing" and update not in reach.can:
        raise Refused(
            "channel_cannot_change_messages",
            es="El mensaje ya salió hacia el cliente y su canal no permite cambiarlo: escribe otro que lo corrija.",
            en="The message has left for the customer, and its channel cannot change it: write another that corrects it.",
        )
    if message.deleted_at is not None:
        raise Refused("message_is_deleted", es="El mensaje está eliminado.", en="The message is deleted.")

"""What the team writes into a conversation, and what becomes of it on its way out."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Final, Literal

from relevo.contracts.conversation import (
    ConversationEvent,
    MessageCreated,
    MessageStatusChanged,
    OutboundMessage,
    ParticipantsChanged,
)
from relevo.contracts.inbound import DeliveryStatus
from relevo.contracts.snapshots import MessageSnapshot, MessageStatus
from relevo.conversation.domain.state import Change, Conversation, Refused, Writing, following


def reply(conversation: Conversation, writing: Writing, now: datetime) -> Change:
    """A public message to the customer. It does not reopen a resolved conversation.

    Only a person's reply within a cycle ends the wait and counts as its first reply. Raises Refused when archived, and
    when it is said to answer a message that the customer cannot see.
    """
    before = conversation.state
    if before.archived:
        raise Refused(
            "conversation_archived",
            es="La conversación está archivada: desarchívala antes de responder.",
            en="The conversation is archived: unarchive it before you reply.",
        )
    _answerable(before.id, writing.reply_to, private=False)
    answers = writing.human and conversation.unresolved
    first_reply = answers and before.first_reply_at is None
    message = _written(conversation, writing, "outgoing", "queued", now)
    conversation = following(
        conversation,
        message_count=before.message_count + 1,
        first_reply_at=now if first_reply else before.first_reply_at,
        waiting_since=None if answers else before.waiting_since,
        last_responder_id=_agent(writing) or before.last_responder_id,
        last_activity_at=max(before.last_activity_at, now),
    )
    event = MessageCreated(
        conversation=conversation.state,
        before=before.access,
        message=message,
        first=before.message_count == 0,
        human=writing.human,
        first_reply=first_reply,
        answered_since=before.waiting_since if answers else None,
    )
    outbound = OutboundMessage(
        message_id=message.id,
        conversation_id=before.id,
        inbox_id=before.inbox_id,
        channel=before.channel,
        recipient_id=before.source_id,
        recipient_key=conversation.recipient_key,
        text=message.text,
        author_name=message.author_name,
        reply_to=writing.reply_to.external_id if writing.reply_to else None,
        attachments=writing.fetchable,
        created_at=now,
    )
    return Change(conversation, now, (event,), message, outbound)


def note(
    conversation: Conversation,
    writing: Writing,
    now: datetime,
    *,
    mentions: Sequence[str] = (),
    mentioned_agents: Iterable[str] = (),
) -> Change:
    """A private note: it stays inside, answers nobody, and makes the people it mentions participants.

    ``mentions`` are ``agent:ID`` and ``team:ID`` as written; ``mentioned_agents`` the people they stand for. They take
    part before it is said, so that whoever is told of it may see where.
    """
    before = conversation.state
    _answerable(before.id, writing.reply_to, private=True)
    events: list[ConversationEvent] = []
    if added := tuple(a for a in dict.fromkeys(mentioned_agents) if a not in before.participant_ids):
        conversation = following(conversation, participant_ids=before.participant_ids + added)
        events.append(ParticipantsChanged(conversation=conversation.state, before=before.access, added=added))
    present = conversation.state
    message = _written(conversation, writing, "note", "received", now).model_copy(
        update={"mentions": tuple(dict.fromkeys(mentions))}
    )
    conversation = following(
        conversation,
        message_count=before.message_count + 1,
        last_activity_at=max(before.last_activity_at, now),
    )
    events.append(
        MessageCreated(
            conversation=conversation.state,
            before=present.access,
            message=message,
            first=before.message_count == 0,
            human=writing.human,
        )
    )
    return Change(conversation, now, tuple(events), message)


_PROGRESS: Final[dict[MessageStatus, int]] = {"queued": 0, "sent": 1, "failed": 2, "delivered": 3, "read": 4}


def fold_status(
    conversation: Conversation,
    message: MessageSnapshot,
    *,
    status: DeliveryStatus,
    error: str | None,
    external_id: str | None,
    at: datetime,
) -> Change:
    """A delivery report on an outgoing message. Progress only goes forward, in whatever order reports arrive.

    Failed outranks sent; that it was delivered or read after all outranks failed.
    """
    if message.kind != "outgoing" or _PROGRESS[status] <= _PROGRESS[message.status]:
        return Change(conversation, at)
    before = conversation.state
    message = message.model_copy(
        update={
            "status": status,
            "error": error if status == "failed" else None,
            "external_id": message.external_id or external_id,
        }
    )
    conversation = following(conversation)
    event = MessageStatusChanged(conversation=conversation.state, before=before.access, message=message)
    return Change(conversation, at, (event,), message)


def _agent(writing: Writing) -> str | None:
    kind, _, id_ = writing.author.partition(":")
    return id_ if writing.human and kind == "agent" else None


def _written(
    conversation: Conversation,
    writing: Writing,
    kind: Literal["outgoing", "note"],
    status: MessageStatus,
    now: datetime,
) -> MessageSnapshot:
    return MessageSnapshot(
        id=writing.id,
        conversation_id=conversation.state.id,
        kind=kind,
        sequence=conversation.state.sequence + 1,
        text=writing.text,
        author=writing.author,
        author_name=writing.author_name,
        status=status,
        reply_to=writing.reply_to.id if writing.reply_to else None,
        attachments=writing.attachments,
        retry_of=writing.retry_of.id if writing.retry_of else None,
        occurred_at=now,
        created_at=now,
    )


def _answerable(conversation_id: str, message: MessageSnapshot | None, *, private: bool) -> None:
    """Whether a message can be answered. A reply to the customer must not even name a private note."""
    if message is None:
        return
    shown = message.kind in ("incoming", "outgoing") or (private and message.kind == "note")
    if message.conversation_id != conversation_id or not shown:
        raise Refused(
            "cannot_answer_that",
            es="Ese mensaje no se puede citar aquí: elige uno de esta conversación que el cliente pueda ver.",
            en="That message cannot be quoted here: choose one of this conversation that the customer can see.",
            pointer="/reply_to",
        )

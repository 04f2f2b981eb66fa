"""Conversations that should not be here: spam, put away, and those that are deleted."""

from datetime import datetime

from relevo.contracts.conversation import ConversationDeleted, ConversationEvent, ConversationMarkedSpam
from relevo.conversation.domain import life
from relevo.conversation.domain.state import Change, Conversation, Refused, following


def mark_spam(conversation: Conversation, now: datetime) -> Change:
    """Say that it is spam, and put it away: resolved and archived in the same act. Raises Refused when archived."""
    before = conversation.state
    if before.archived:
        raise Refused(
            "conversation_already_archived",
            es="La conversación ya está archivada.",
            en="The conversation is archived already.",
        )
    conversation = following(conversation)
    marked = ConversationMarkedSpam(conversation=conversation.state, before=before.access)
    away = life.archive(conversation, now)
    return Change(away.conversation, now, (marked, *away.events))


def delete(conversation: Conversation, reason: str, now: datetime) -> Change:
    """The last events of a conversation; one that is not resolved is resolved in the same act, so that nobody holds it."""
    events: tuple[ConversationEvent, ...] = ()
    if conversation.unresolved:
        closed = life.resolve(conversation, now)
        conversation, events = closed.conversation, closed.events
    before = conversation.state
    conversation = following(conversation)
    event = ConversationDeleted(conversation=conversation.state, before=before.access, reason=reason)
    return Change(conversation, now, (*events, event))

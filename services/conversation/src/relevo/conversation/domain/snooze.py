"""What an unresolved conversation waits for: nothing (open), a moment or its customer (snoozed), a bot (pending)."""

from datetime import datetime
from typing import Literal

from relevo.contracts.conversation import (
    ConversationMadePending,
    ConversationSnoozed,
    ConversationWoken,
)
from relevo.conversation.domain import bots
from relevo.conversation.domain.state import Change, Conversation, Refused, following


def snooze(conversation: Conversation, until: datetime | None, now: datetime) -> Change:
    """Put the conversation off until a moment, or with None until its customer writes; snoozed again, the moment moves.

    Raises Refused when it is resolved, and for a moment that is not in the future.
    """
    before = conversation.state
    _unresolved(conversation)
    if until is not None and until <= now:
        raise Refused(
            "snooze_in_the_past",
            es="Elige un momento que aún no haya pasado.",
            en="Choose a moment that has not passed yet.",
            pointer="/until",
        )
    if before.status == "snoozed" and before.snoozed_until == until:
        return Change(conversation, now)
    conversation = following(conversation, status="snoozed", snoozed_until=until)
    event = ConversationSnoozed(conversation=conversation.state, before=before.access)
    return Change(conversation, now, (event,))


def wake(
    conversation: Conversation, now: datetime, cause: Literal["time", "customer", "agent", "automation"] = "agent"
) -> Change:
    """Have a snoozed conversation open again. Raises Refused when it is not snoozed."""
    before = conversation.state
    if before.status != "snoozed":
        raise Refused(
            "conversation_not_snoozed",
            es="La conversación no está pospuesta.",
            en="The conversation is not snoozed.",
        )
    conversation = following(
        conversation, status="open", snoozed_until=None, last_activity_at=max(before.last_activity_at, now)
    )
    event = ConversationWoken(conversation=conversation.state, before=before.access, cause=cause)
    return Change(conversation, now, (event,))


def come_due(conversation: Conversation, due: datetime, now: datetime) -> Change:
    """A timer set for ``due`` rings: the conversation wakes if that is still what it waits for, however late it rings."""
    until = conversation.state.snoozed_until
    if until is None or until > due:
        return Change(conversation, now)
    return wake(conversation, now, "time")


def make_pending(conversation: Conversation, now: datetime) -> Change:
    """Hand the conversation to a bot. Raises Refused when it is resolved, or pending already."""
    before = conversation.state
    _unresolved(conversation)
    if before.status == "pending":
        raise Refused(
            "conversation_already_pending",
            es="La conversación ya está pendiente.",
            en="The conversation is pending already.",
        )
    conversation = following(conversation, status="pending", snoozed_until=None)
    event = ConversationMadePending(conversation=conversation.state, before=before.access)
    return Change(conversation, now, (event,))


def take_over(conversation: Conversation, now: datetime) -> Change:
    """Take a pending conversation from its bot: it is open. Raises Refused when it is not pending."""
    return bots.leave_to_people(conversation, now, "taken")


def _unresolved(conversation: Conversation) -> None:
    if not conversation.unresolved:
        raise Refused(
            "conversation_is_resolved",
            es="La conversación está resuelta: reábrela antes.",
            en="The conversation is resolved: reopen it first.",
        )

"""The life of one conversation: begun, written to by its customer, resolved, reopened, archived."""

from datetime import datetime, timedelta
from typing import Literal

from relevo.contracts.conversation import (
    ConversationArchived,
    ConversationEvent,
    ConversationOpened,
    ConversationReopened,
    ConversationResolved,
    ConversationUnarchived,
    MessageCreated,
)
from relevo.contracts.ingest import InboxState, ReopenPolicy
from relevo.contracts.snapshots import ContactSnapshot, ConversationSnapshot, MessageSnapshot
from relevo.conversation.domain import snooze
from relevo.conversation.domain.state import Change, Conversation, Incoming, Refused, following


def destination(current: Conversation | None, policy: ReopenPolicy) -> Literal["append", "reopen", "open"]:
    """Where a customer's message goes, ``current`` being their latest conversation on that inbox, an unresolved one first."""
    if current is None or current.state.merged_into is not None:
        return "open"
    if current.unresolved:
        return "append"
    return "reopen" if policy == "always_one" else "open"


def begin(
    *,
    id: str,  # noqa: A002
    number: int,
    inbox: InboxState,
    contact: ContactSnapshot,
    source_id: str,
    recipient_key: str,
    occurred_at: datetime,
    now: datetime,
    subject: str = "",
    language: str | None = None,
    to_bot: bool = False,
) -> Change:
    """A new open conversation of a customer on an inbox, or with ``to_bot`` a pending one: a bot has it first.

    ``language`` is what their channel or browser told this time; without one it is the contact's.
    """
    at = min(occurred_at, now)
    state = ConversationSnapshot(
        id=id,
        account_id=inbox.account_id,
        number=number,
        inbox_id=inbox.id,
        channel=inbox.channel,
        contact=contact,
        source_id=source_id,
        status="pending" if to_bot else "open",
        stage="new",
        subject=subject,
        language=language or contact.language,
        owner_id=contact.owner_id,
        created_at=at,
        opened_at=at,
        last_activity_at=now,
        sequence=1,
    )
    conversation = Conversation(state, recipient_key, inbox.reopen == "always_one")
    return Change(conversation, at, (ConversationOpened(conversation=state),))


def receive(conversation: Conversation, incoming: Incoming, now: datetime, *, to_bot: bool = False) -> Change:
    """A customer's message joins the conversation.

    A resolved one is reopened by it, with ``to_bot`` as a bot's, an archived one loses that flag first, a snoozed one wakes; a pending one stays
    the bot's. Times never run ahead of ``now``, and a new cycle never begins before the last one ended.
    """
    at = min(incoming.occurred_at, now)
    events: list[ConversationEvent] = []
    if not conversation.unresolved:
        reopened = _reopen(conversation, max(at, conversation.state.resolved_at or at), now, "customer", to_bot=to_bot)
        conversation = reopened.conversation
        events.extend(reopened.events)
    elif conversation.state.status == "snoozed":
        woken = snooze.wake(conversation, now, "customer")
        conversation = woken.conversation
        events.extend(woken.events)
    said = received(conversation, incoming, now, waits=True)
    return Change(said.conversation, at, (*events, *said.events), said.message)


def received(conversation: Conversation, incoming: Incoming, now: datetime, *, waits: bool = False) -> Change:
    """A customer's message joins the conversation, whose status stays; ``waits``: they wait for an answer from then on."""
    at = min(incoming.occurred_at, now)
    before = conversation.state
    message = MessageSnapshot(
        id=incoming.id,
        conversation_id=before.id,
        kind="incoming",
        sequence=before.sequence + 1,
        text=incoming.text,
        author=f"contact:{before.contact.id}",
        author_name=incoming.author_name,
        external_id=incoming.external_id,
        reply_to=incoming.reply_to,
        attachments=incoming.attachments,
        status="received",
        occurred_at=at,
        created_at=now,
    )
    conversation = following(
        conversation,
        message_count=before.message_count + 1,
        waiting_since=before.waiting_since or (max(at, before.opened_at) if waits else None),
        last_activity_at=max(before.last_activity_at, now),
    )
    event = MessageCreated(
        conversation=conversation.state,
        before=before.access,
        message=message,
        first=before.message_count == 0,
        human=incoming.human,
    )
    return Change(conversation, at, (event,), message)


def resolve(conversation: Conversation, now: datetime) -> Change:
    """Close the conversation: the cycle ends and nobody waits. Raises Refused when it is closed already."""
    before = conversation.state
    if not conversation.unresolved:
        raise Refused(
            "conversation_already_resolved",
            es="La conversación ya está resuelta.",
            en="The conversation is resolved already.",
        )
    conversation = following(
        conversation,
        status="resolved",
        snoozed_until=None,
        resolved_at=max(now, before.opened_at),
        waiting_since=None,
    )
    event = ConversationResolved(conversation=conversation.state, before=before.access)
    return Change(conversation, now, (event,))


def reopen(conversation: Conversation, now: datetime, cause: Literal["agent", "automation"] = "agent") -> Change:
    """Open a resolved conversation by hand: a new cycle. Raises Refused when it is not resolved."""
    if conversation.unresolved:
        raise Refused(
            "conversation_not_resolved",
            es="La conversación no está resuelta: no hay nada que reabrir.",
            en="The conversation is not resolved: there is nothing to reopen.",
        )
    return _reopen(conversation, max(now, conversation.state.resolved_at or now), now, cause)


def archive(conversation: Conversation, now: datetime) -> Change:
    """Put the conversation away for the record; one that is not resolved is resolved in the same act.

    Raises Refused when it is archived already.
    """
    if conversation.state.archived:
        raise Refused(
            "conversation_already_archived",
            es="La conversación ya está archivada.",
            en="The conversation is archived already.",
        )
    events: tuple[ConversationEvent, ...] = ()
    if conversation.unresolved:
        closed = resolve(conversation, now)
        conversation, events = closed.conversation, closed.events
    before = conversation.state
    conversation = following(conversation, archived=True)
    event = ConversationArchived(conversation=conversation.state, before=before.access)
    return Change(conversation, now, (*events, event))


def archive_due(conversation: Conversation, days: int | None) -> datetime | None:
    """When a conversation is to be archived by itself; None while it is not resolved, or where that is not done."""
    state = conversation.state
    if days is None or conversation.unresolved or state.archived or state.resolved_at is None:
        return None
    return state.resolved_at + timedelta(days=days)


def unarchive(conversation: Conversation, now: datetime) -> Change:
    """Take an archived conversation back; it is resolved. Raises Refused when it is not archived."""
    before = conversation.state
    if not before.archived:
        raise Refused(
            "conversation_not_archived",
            es="La conversación no está archivada.",
            en="The conversation is not archived.",
        )
    conversation = following(conversation, archived=False)
    event = ConversationUnarchived(conversation=conversation.state, before=before.access)
    return Change(conversation, now, (event,))


def _reopen(
    conversation: Conversation,
    at: datetime,
    now: datetime,
    cause: Literal["customer", "agent", "automation"],
    *,
    to_bot: bool = False,
) -> Change:
    events: list[ConversationEvent] = []
    if conversation.state.archived:
        back = unarchive(conversation, at)
        conversation = back.conversation
        events.extend(back.events)
    before = conversation.state
    conversation = following(
        conversation,
        status="pending" if to_bot else "open",
        people_since=None,
        cycle=before.cycle + 1,
        opened_at=at,
        resolved_at=None,
        first_reply_at=None,
        waiting_since=None,
        last_activity_at=max(before.last_activity_at, now),
    )
    events.append(ConversationReopened(conversation=conversation.state, before=before.access, cause=cause))
    return Change(conversation, at, tuple(events))

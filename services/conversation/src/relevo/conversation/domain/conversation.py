"""The life of one conversation: (state, input, now) → the new state, and the events that tell of it.

The state is the snapshot that events carry. Every event is the next number of its conversation, and its snapshot is
the state right after it. Nothing here reads a clock, makes an id or does I/O.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final, Literal

from relevo.contracts.conversation import (
    AssigneeChanged,
    ConversationArchived,
    ConversationEvent,
    ConversationOpened,
    ConversationReopened,
    ConversationResolved,
    ConversationUnarchived,
    LabelsChanged,
    MessageCreated,
    MessageStatusChanged,
    OutboundMessage,
    ParticipantsChanged,
)
from relevo.contracts.inbound import Attachment, DeliveryStatus
from relevo.contracts.ingest import InboxState, ReopenPolicy
from relevo.contracts.snapshots import (
    ContactSnapshot,
    ConversationSnapshot,
    ConversationStatus,
    MessageSnapshot,
    MessageStatus,
    Stage,
)

MAX_LABELS: Final = 100


class Refused(Exception):
    """The conversation's state does not allow this; ``code`` is stable, the reason and the mend are in both languages."""

    def __init__(self, code: str, *, es: str, en: str) -> None:
        super().__init__(en)
        self.code = code
        self.es = es
        self.en = en


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation as it stands.

    ``recipient_key`` is its customer's token in outbound subjects. ``exclusive``: opened under the policy
    ``always_one``, so it must not be unresolved beside another exclusive one of the same customer and inbox.
    """

    state: ConversationSnapshot
    recipient_key: str
    exclusive: bool = False

    @property
    def unresolved(self) -> bool:
        """Whether it is open, pending or snoozed."""
        return self.state.status != "resolved"


@dataclass(frozen=True, slots=True)
class Change:
    """What an act did: the state after it, its events in order, the message it made or changed, and what leaves.

    ``at`` is when it occurred. No events: nothing changed, or nothing that anybody must know.
    """

    conversation: Conversation
    at: datetime
    events: tuple[ConversationEvent, ...] = ()
    message: MessageSnapshot | None = None
    outbound: OutboundMessage | None = None


@dataclass(frozen=True, slots=True)
class Incoming:
    """A customer's message. ``occurred_at`` is the provider's time and may be wrong."""

    id: str
    text: str
    external_id: str | None
    occurred_at: datetime
    author_name: str = ""
    reply_to: str | None = None
    attachments: tuple[Attachment, ...] = ()


@dataclass(frozen=True, slots=True)
class Writing:
    """What somebody of the team, or a rule, writes. ``author`` is an actor; ``human`` whether a person wrote it."""

    id: str
    text: str
    author: str
    author_name: str = ""
    human: bool = True


def stage_of(status: ConversationStatus, *, archived: bool, first_reply_at: datetime | None) -> Stage:
    """What the inbox shows: archived, closed, new (no human has replied in this cycle) or in progress."""
    if archived:
        return "archived"
    if status == "resolved":
        return "closed"
    if status == "snoozed" or first_reply_at is not None:
        return "in_progress"
    return "new"


def destination(current: Conversation | None, policy: ReopenPolicy) -> Literal["append", "reopen", "open"]:
    """Where a customer's message goes, ``current`` being their latest conversation on that inbox, an unresolved one first."""
    if current is None:
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
) -> Change:
    """A new open conversation of a customer on an inbox."""
    at = min(occurred_at, now)
    state = ConversationSnapshot(
        id=id,
        account_id=inbox.account_id,
        number=number,
        inbox_id=inbox.id,
        channel=inbox.channel,
        contact=contact,
        source_id=source_id,
        status="open",
        stage="new",
        subject=subject,
        language=contact.language,
        created_at=at,
        opened_at=at,
        last_activity_at=now,
        sequence=1,
    )
    conversation = Conversation(state, recipient_key, inbox.reopen == "always_one")
    return Change(conversation, at, (ConversationOpened(conversation=state),))


def receive(conversation: Conversation, incoming: Incoming, now: datetime) -> Change:
    """A customer's message joins the conversation.

    A resolved one is reopened by it; an archived one loses that flag first. Times never run ahead of ``now``, and a
    new cycle never begins before the last one ended.
    """
    at = min(incoming.occurred_at, now)
    events: list[ConversationEvent] = []
    if not conversation.unresolved:
        reopened = _reopen(conversation, max(at, conversation.state.resolved_at or at), now, "customer")
        conversation = reopened.conversation
        events.extend(reopened.events)
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
    conversation = _next(
        conversation,
        message_count=before.message_count + 1,
        waiting_since=before.waiting_since or max(at, before.opened_at),
        last_activity_at=max(before.last_activity_at, now),
    )
    events.append(
        MessageCreated(
            conversation=conversation.state, before=before.access, message=message, first=before.message_count == 0
        )
    )
    return Change(conversation, at, tuple(events), message)


def reply(conversation: Conversation, writing: Writing, now: datetime) -> Change:
    """A public message to the customer. It does not reopen a resolved conversation.

    Only a person's reply within a cycle ends the wait and counts as its first reply. Raises Refused when archived.
    """
    before = conversation.state
    if before.archived:
        raise Refused(
            "conversation_archived",
            es="La conversación está archivada: desarchívala antes de responder.",
            en="The conversation is archived: unarchive it before you reply.",
        )
    answers = writing.human and conversation.unresolved
    first_reply = answers and before.first_reply_at is None
    message = _written(conversation, writing, "outgoing", "queued", now)
    conversation = _next(
        conversation,
        message_count=before.message_count + 1,
        first_reply_at=now if first_reply else before.first_reply_at,
        waiting_since=None if answers else before.waiting_since,
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

    ``mentions`` are ``agent:ID`` and ``team:ID`` as written; ``mentioned_agents`` the people they stand for.
    """
    before = conversation.state
    message = _written(conversation, writing, "note", "received", now).model_copy(
        update={"mentions": tuple(dict.fromkeys(mentions))}
    )
    conversation = _next(
        conversation,
        message_count=before.message_count + 1,
        last_activity_at=max(before.last_activity_at, now),
    )
    events: list[ConversationEvent] = [
        MessageCreated(
            conversation=conversation.state,
            before=before.access,
            message=message,
            first=before.message_count == 0,
            human=writing.human,
        )
    ]
    present = conversation.state
    if added := tuple(a for a in dict.fromkeys(mentioned_agents) if a not in present.participant_ids):
        conversation = _next(conversation, participant_ids=present.participant_ids + added)
        events.append(ParticipantsChanged(conversation=conversation.state, before=present.access, added=added))
    return Change(conversation, now, tuple(events), message)


def resolve(conversation: Conversation, now: datetime) -> Change:
    """Close the conversation: the cycle ends and nobody waits. Raises Refused when it is closed already."""
    before = conversation.state
    if not conversation.unresolved:
        raise Refused(
            "conversation_already_resolved",
            es="La conversación ya está resuelta.",
            en="The conversation is resolved already.",
        )
    conversation = _next(conversation, status="resolved", resolved_at=max(now, before.opened_at), waiting_since=None)
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
    conversation = _next(conversation, archived=True)
    event = ConversationArchived(conversation=conversation.state, before=before.access)
    return Change(conversation, now, (*events, event))


def unarchive(conversation: Conversation, now: datetime) -> Change:
    """Take an archived conversation back; it is resolved. Raises Refused when it is not archived."""
    before = conversation.state
    if not before.archived:
        raise Refused(
            "conversation_not_archived",
            es="La conversación no está archivada.",
            en="The conversation is not archived.",
        )
    conversation = _next(conversation, archived=False)
    event = ConversationUnarchived(conversation=conversation.state, before=before.access)
    return Change(conversation, now, (event,))


def change_labels(conversation: Conversation, add: Iterable[str], remove: Iterable[str], now: datetime) -> Change:
    """Put labels on, take others off; a label named in both stays. Raises Refused above MAX_LABELS."""
    before = conversation.state
    wanted = dict.fromkeys(add)
    off = set(remove) - wanted.keys()
    removed = tuple(label for label in before.labels if label in off)
    added = tuple(label for label in wanted if label not in before.labels)
    if not removed and not added:
        return Change(conversation, now)
    labels = (*(label for label in before.labels if label not in off), *added)
    if len(labels) > MAX_LABELS:
        raise Refused(
            "too_many_labels",
            es=f"Una conversación lleva como mucho {MAX_LABELS} etiquetas: quita alguna.",
            en=f"A conversation has at most {MAX_LABELS} labels: take some off.",
        )
    conversation = _next(conversation, labels=labels)
    event = LabelsChanged(conversation=conversation.state, before=before.access, added=added, removed=removed)
    return Change(conversation, now, (event,))


def fold_assignment(
    conversation: Conversation,
    *,
    version: int,
    assignee_id: str | None,
    team_id: str | None,
    reason: str,
    mode: Literal["automatic", "manual", "automation"],
    at: datetime,
) -> Change:
    """Assignment's decision becomes part of the story; a version that is not newer is dropped.

    A newer version that changes nobody (such as joining the queue again) is remembered without an event.
    """
    before = conversation.state
    if version <= before.assignment_version:
        return Change(conversation, at)
    if (assignee_id, team_id) == (before.assignee_id, before.team_id):
        known = replace(conversation, state=before.model_copy(update={"assignment_version": version}))
        return Change(known, at)
    conversation = _next(conversation, assignee_id=assignee_id, team_id=team_id, assignment_version=version)
    event = AssigneeChanged(
        conversation=conversation.state,
        before=before.access,
        from_assignee_id=before.assignee_id,
        from_team_id=before.team_id,
        reason=reason,
        mode=mode,
    )
    return Change(conversation, at, (event,))


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
    conversation = _next(conversation)
    event = MessageStatusChanged(conversation=conversation.state, before=before.access, message=message)
    return Change(conversation, at, (event,), message)


def _reopen(
    conversation: Conversation, at: datetime, now: datetime, cause: Literal["customer", "agent", "automation"]
) -> Change:
    events: list[ConversationEvent] = []
    if conversation.state.archived:
        back = unarchive(conversation, at)
        conversation = back.conversation
        events.extend(back.events)
    before = conversation.state
    conversation = _next(
        conversation,
        status="open",
        cycle=before.cycle + 1,
        opened_at=at,
        resolved_at=None,
        first_reply_at=None,
        waiting_since=None,
        last_activity_at=max(before.last_activity_at, now),
    )
    events.append(ConversationReopened(conversation=conversation.state, before=before.access, cause=cause))
    return Change(conversation, at, tuple(events))


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
        occurred_at=now,
        created_at=now,
    )


def _next(conversation: Conversation, **changes: Any) -> Conversation:
    """The state after one more event; the only place where the number and the stage are set."""
    state = conversation.state
    changes["sequence"] = state.sequence + 1
    changes["stage"] = stage_of(
        changes.get("status", state.status),
        archived=changes.get("archived", state.archived),
        first_reply_at=changes.get("first_reply_at", state.first_reply_at),
    )
    return Conversation(state.model_copy(update=changes), conversation.recipient_key, conversation.exclusive)

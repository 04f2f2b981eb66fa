"""The conversation service: its story, what it is asked to do, and what it sends out."""

from collections.abc import Mapping
from typing import Annotated, Final, Literal

from pydantic import Field, StringConstraints

from relevo.contracts.base import Id, Model, Time
from relevo.contracts.inbound import MAX_TEXT, Attachment
from relevo.contracts.ingest import MessageChange, SurveyWay
from relevo.contracts.snapshots import (
    AccessFacts,
    AttributeValue,
    BusinessHours,
    ContactOrigin,
    ContactProfile,
    ContactSnapshot,
    ConversationSnapshot,
    MessageSnapshot,
    Priority,
    ReminderSnapshot,
    Unless,
)

Label = Annotated[str, StringConstraints(min_length=1, max_length=60, strip_whitespace=True)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TEXT)]
Unresolved = Literal["open", "pending", "snoozed"]
ReviewMinutes = Annotated[int, Field(ge=0, le=525_600)]
REVIEWED_AT_MOST: Final = 20_000
"""Conversations that one review tells of."""


class ContactCreated(Model):
    """A contact came to be; the first known facts. ``origin`` tells how."""

    contact: ContactSnapshot
    profile: ContactProfile = ContactProfile()
    origin: ContactOrigin = "channel"


class ContactUpdated(Model):
    """A contact changed; the whole new state. ``changed`` names what did (`email`, `labels`, `attributes.size`)."""

    contact: ContactSnapshot
    profile: ContactProfile = ContactProfile()
    changed: tuple[str, ...] = ()


class ContactDeleted(Model):
    """A contact without conversations was deleted."""

    contact_id: Id


class ContactErased(Model):
    """A person's data was erased: whoever holds any of it erases it too, and what was said in these conversations.

    Numbers stay: the contact and the conversations are there as before, without anything that tells whose they were.
    ``merged_ids`` are those that were merged into this contact.
    """

    contact_id: Id
    conversation_ids: tuple[Id, ...] = ()
    merged_ids: tuple[Id, ...] = ()


class ContactMerged(Model):
    """A contact became part of another one; what was theirs is now that one's. `contact_id` is nobody any more."""

    contact_id: Id
    into_id: Id
    merge_id: Id


class ContactRestored(Model):
    """A merge was undone: the contact who had become part of another one is there again."""

    contact: ContactSnapshot
    profile: ContactProfile = ContactProfile()
    from_id: Id
    merge_id: Id


class ConversationEvent(Model):
    """The base of all events of a conversation: the state after it, and the access facts before it.

    ``before`` is None on the first event, ``business_hours`` where no calendar counted.
    """

    conversation: ConversationSnapshot
    before: AccessFacts | None = None
    business_hours: BusinessHours | None = None


class ConversationOpened(ConversationEvent):
    """A new conversation began."""


class ConversationImported(ConversationEvent):
    """A past conversation was brought here from another system, resolved: nobody acts on it and it counts apart.

    It is the first event of it; its number is beyond those of the messages that came with it, which no event tells of.
    """

    import_id: Id


class ConversationReopened(ConversationEvent):
    """A resolved or archived conversation is open again: a new cycle. ``cause`` tells who did it."""

    cause: Literal["customer", "agent", "automation"] = "customer"


class ConversationResolved(ConversationEvent):
    """A conversation was closed; its cycle ends. ``resolution_business_seconds``: business time since ``opened_at``."""

    resolution_business_seconds: float | None = None


class ConversationArchived(ConversationEvent):
    """A closed conversation was put away for the record."""


class ConversationUnarchived(ConversationEvent):
    """An archived conversation lost that flag; it is resolved."""


class ConversationSnoozed(ConversationEvent):
    """A conversation was put off, until `snoozed_until` or, without one, until its customer writes."""


class ConversationWoken(ConversationEvent):
    """A snoozed conversation is open again. ``cause`` tells what woke it."""

    cause: Literal["time", "customer", "agent", "automation"]


class ConversationMadePending(ConversationEvent):
    """A conversation was handed to a bot."""


HandOver = Literal["taken", "customer_asked", "cannot_help", "silent", "detached", "endless"]
"""Why people have what a bot had: somebody took it; the customer asked for a person; the bot could not help; it said
nothing in time; it is no bot of the inbox any more; it talked without end."""


class ConversationTakenOver(ConversationEvent):
    """A pending conversation is open: people have it, no bot any more. ``reason`` tells why."""

    reason: HandOver = "taken"


class ConversationMarkedSpam(ConversationEvent):
    """A conversation was found to be spam: its contact is blocked, and it is put away."""


class ConversationDeleted(ConversationEvent):
    """A conversation was deleted with all that was said in it; it was resolved first. Nothing of it comes after this."""

    reason: str


class ConversationMerged(ConversationEvent):
    """A conversation became part of another one of its contact, its `merged_into`; it was resolved and archived first."""

    merge_id: Id


class ConversationAbsorbed(ConversationEvent):
    """Another conversation became part of this one: what was said there is shown at this event's number."""

    other_id: Id
    merge_id: Id


class ConversationUnmerged(ConversationEvent):
    """A merge was undone: the conversation is by itself again."""

    from_id: Id
    merge_id: Id


class ConversationSplit(ConversationEvent):
    """A merge was undone: the other conversation is part of this one no more."""

    other_id: Id
    merge_id: Id


class PriorityChanged(ConversationEvent):
    """A conversation became more or less urgent."""

    from_priority: Priority | None = None


class SubjectChanged(ConversationEvent):
    """A conversation's subject was written anew."""

    from_subject: str = ""


class AttributesChanged(ConversationEvent):
    """Custom attributes of a conversation have other values; ``changed`` names them, ``from_attributes`` are those they had."""

    changed: tuple[str, ...]
    from_attributes: Mapping[str, AttributeValue] = {}


class LabelsChanged(ConversationEvent):
    """Labels, by their keys, were put on or taken off. ``cause``: somebody's act, or that a label became part of another
    one, or was deleted, for the whole account: then nobody has judged this conversation.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    cause: Literal["act", "merge", "deletion"] = "act"


class ParticipantsChanged(ConversationEvent):
    """People joined a conversation, by a mention or by hand, or left it."""

    added: tuple[Id, ...] = ()
    removed: tuple[Id, ...] = ()


class ContactChanged(ConversationEvent):
    """A conversation is another contact's: theirs was merged, or that was undone. It is the same person's all the time."""

    from_contact_id: Id
    cause: Literal["merge", "undo"] = "merge"


class OwnerChanged(ConversationEvent):
    """The contact of a conversation has another owner, or none: an agent or a team."""

    from_owner_id: Id | None = None
    from_owner_team_id: Id | None = None


class AssigneeChanged(ConversationEvent):
    """Assignment's decision, folded into the conversation's own story."""

    from_assignee_id: Id | None = None
    from_team_id: Id | None = None
    reason: str = ""
    mode: Literal["automatic", "manual", "automation"] = "automatic"


class MessageCreated(ConversationEvent):
    """A message, reply or private note was added.

    ``first`` tells whether it is the first message of the conversation; ``human`` whether a person wrote it;
    ``first_reply`` whether it is the cycle's first public human reply, the one that set ``first_reply_at``.
    ``answered_since`` is the ``waiting_since`` that a public human reply ended, None when nobody waited. The business
    time of both, from ``opened_at`` and from ``answered_since``, is None where it is not measured.
    """

    message: MessageSnapshot
    first: bool = False
    human: bool = True
    first_reply: bool = False
    answered_since: Time | None = None
    first_reply_business_seconds: float | None = None
    answered_business_seconds: float | None = None


class MessageStatusChanged(ConversationEvent):
    """An outgoing message was sent, delivered, read, or failed."""

    message: MessageSnapshot


class MessageEdited(ConversationEvent):
    """A note, or a message whose channel can do that, was written anew; ``from_text`` is what it said before."""

    message: MessageSnapshot
    from_text: str


class MessageDeleted(ConversationEvent):
    """A note, or a message whose channel can do that, was deleted: that it was there stays, what it said does not."""

    message: MessageSnapshot


class MessageChangeRefused(ConversationEvent):
    """A channel could not edit or delete a message: the customer has it as it was. ``error`` says why."""

    message_id: Id
    error: str = ""


class MessageReacted(ConversationEvent):
    """Somebody of the team reacted to a private note, or took that back; ``message`` has all reactions."""

    message: MessageSnapshot
    emoji: str
    added: bool


class ConversationForwarded(ConversationEvent):
    """What was said in a conversation was sent to somebody by e-mail; ``with_notes``: the private notes too, to a colleague."""

    addresses: tuple[str, ...]
    with_notes: bool = False


class SurveySent(ConversationEvent):
    """A customer was asked how they were served in the cycle that ended.

    ``agent_id`` and ``team_id`` are credited with the answer: who resolved the conversation, or had it then.
    """

    survey_id: Id
    way: SurveyWay
    agent_id: Id | None = None
    team_id: Id | None = None


class SurveyAnswered(ConversationEvent):
    """A customer rated how they were served, 1 (very bad) to 5 (very good), or changed the rating.

    ``version`` counts the answers to this survey from 1; ``answered_at`` is when the first was given. What the customer
    wrote beside it is read over HTTP, by who may.
    """

    survey_id: Id
    version: int
    rating: int
    previous_rating: int | None = None
    commented: bool = False
    answered_at: Time
    agent_id: Id | None = None
    team_id: Id | None = None


class ReminderSet(ConversationEvent):
    """Somebody, or a rule, wants to be reminded of a conversation, or somebody else to be."""

    reminder: ReminderSnapshot


class ReminderDue(ConversationEvent):
    """What a reminder waited for has not come: whom to remind. Nobody, when the conversation has neither now."""

    reminder: ReminderSnapshot
    agent_id: Id | None = None
    team_id: Id | None = None


class ReminderCancelled(ConversationEvent):
    """A reminder was put away by hand. One that an answer or the resolution makes moot is not told of."""

    reminder: ReminderSnapshot


class ConversationReviewed(Model):
    """A rule's time came for a conversation in which nothing happened: here is how it is now.

    No part of its story: it has no number there (sequence 0), and nobody but automation is told.
    """

    rule_id: Id
    due_at: Time
    conversation: ConversationSnapshot
    business_hours: BusinessHours | None = None


class ReviewConversations(Model):
    """Tell of the conversations that a rule whose time has come asks for (ConversationReviewed), each as it is when its turn comes.

    Those with one of ``statuses`` (none given: all that are not resolved), in ``inbox_ids`` (none: in all), of ``team_id`` (none: of
    any team, or none), in which nothing has happened for ``idle_minutes`` and whose customer has waited for ``waiting_minutes``, both counted back from ``due_at``; at
    most REVIEWED_AT_MOST, the longest quiet first.
    """

    rule_id: Id
    due_at: Time
    statuses: Annotated[tuple[Unresolved, ...], Field(max_length=3)] = ()
    inbox_ids: Annotated[tuple[Id, ...], Field(max_length=200)] = ()
    team_id: Id | None = None
    idle_minutes: ReviewMinutes = 0
    waiting_minutes: ReviewMinutes = 0


class Remind(Model):
    """Remind of a conversation in some hours or days (one of them), counted from this command, unless it is moot by then.

    With ``business_hours`` hours are those of the calendar that counts there, and a day that ends outside of them is moved
    to the next opening; without a calendar it is as if it were not said. A sender has one reminder in a conversation at a time: while it waits, another one changes nothing.
    """

    conversation_id: Id
    hours: Annotated[int | None, Field(ge=1, le=8760)] = None
    days: Annotated[int | None, Field(ge=1, le=365)] = None
    business_hours: bool = False
    unless: Unless = "agent_answers"
    to: Literal["assignee", "team"] = "assignee"
    text: Annotated[str, StringConstraints(max_length=500)] = ""


class LabelState(Model):
    """A label of the account's catalogue.

    ``key`` is what conversations, contacts, events and reports carry: the name under which it was first used, which
    never changes; ``name`` is what people read. ``sidebar``: shown there. With ``into_key`` it was merged into that
    label, and is only another name of it.
    """

    id: Id
    account_id: Id
    key: Label
    name: Label
    color: str = "#6b7280"
    description: str = ""
    sidebar: bool = True
    into_key: Label | None = None


class LabelChanged(Model):
    """A label was made, by hand or by being used, edited, merged into another one, or deleted."""

    label: LabelState
    deleted: bool = False


class ChangeLabels(Model):
    """Put labels on a conversation, take others off."""

    conversation_id: Id
    add: Annotated[tuple[Label, ...], Field(max_length=50)] = ()
    remove: Annotated[tuple[Label, ...], Field(max_length=50)] = ()


Mention = Annotated[str, StringConstraints(pattern=r"^(agent|team):[A-Za-z0-9_-]{1,64}$")]
"""Somebody whom a note names: ``agent:ID``, or ``team:ID`` for all its members."""


class SendMessage(Model):
    """Write into a conversation: to the customer, or a private note, which may mention agents and teams.

    Whoever is not there any more, or may not read conversations, is not mentioned.
    """

    conversation_id: Id
    text: Text
    private: bool = False
    mentions: Annotated[tuple[Mention, ...], Field(max_length=50)] = ()


class SetPriority(Model):
    """Say how urgent a conversation is; None: nothing is said."""

    conversation_id: Id
    priority: Priority | None = None


class SetAttributes(Model):
    """Give custom attributes of a conversation these values; None takes one away.

    What is not defined, or does not fit its definition, stays as it was; the others are set.
    """

    conversation_id: Id
    attributes: Annotated[Mapping[str, AttributeValue | None], Field(max_length=100)]


class SetStatus(Model):
    """Bring a conversation to a status, by whatever act leads there from where it is.

    `open`: reopened, woken or taken from its bot. `pending`: given to a bot. `snoozed`: for ``hours`` or ``days``, counted
    from this command (with ``business_hours`` as in Remind), without either until the customer writes. `archived`: put away,
    and resolved first where it is not.
    """

    conversation_id: Id
    to: Literal["open", "pending", "snoozed", "resolved", "archived"]
    hours: Annotated[int | None, Field(ge=1, le=8760)] = None
    days: Annotated[int | None, Field(ge=1, le=365)] = None
    business_hours: bool = False


class AskSurvey(Model):
    """Ask the customer of a resolved conversation at once how they were served, whether or not the inbox asks by itself."""

    conversation_id: Id


class ResolveConversation(Model):
    """Close a conversation."""

    conversation_id: Id


class OutboundMessage(Model):
    """A message for the customer, for the adapter of its inbox.

    ``message_id`` is what delivery reports name; it is also the idempotency key for the provider.
    """

    message_id: Id
    conversation_id: Id
    inbox_id: Id
    channel: str
    recipient_id: str
    recipient_key: Id
    text: str
    author_name: str = ""
    reply_to: str | None = None
    attachments: tuple[Attachment, ...] = ()
    created_at: Time


class BotEvent(Model):
    """What a bot is told of a conversation that it has: the customer wrote, it was given to the bot, or it is over.

    ``over``: people have it or it is resolved; the bot says nothing more. Of the customer only the name and the language
    are told; what the team writes never is.
    """

    event_id: Id
    bot_id: Id
    kind: Literal["message", "given", "over"]
    conversation_id: Id
    inbox_id: Id
    number: int
    message_id: Id | None = None
    text: str = ""
    attachments: int = 0
    contact_name: str = ""
    language: str | None = None
    owned: bool = False
    at: Time


class OutboundUpdate(Model):
    """A message that the customer has already is edited or deleted, for the adapter of its inbox.

    ``of_message_id`` is the message's id, ``external_id`` the provider's id of it as far as we know it. Sent only where the
    inbox says that its channel can do it. No field is named as a message's: nothing takes it for one.
    """

    change_id: Id
    of_message_id: Id
    update: MessageChange
    new_text: str = ""
    external_id: str | None = None
    conversation_id: Id
    inbox_id: Id
    channel: str
    recipient_id: str
    recipient_key: Id
    updated_at: Time

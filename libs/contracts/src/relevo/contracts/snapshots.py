"""The state that conversation events carry, so that no consumer reads back a later one."""

from collections.abc import Mapping
from typing import Literal

from pydantic import StrictBool, StrictFloat, StrictInt, StrictStr

from relevo.contracts.base import Id, Model, Time
from relevo.contracts.inbound import Attachment, DeliveryStatus

ConversationStatus = Literal["open", "pending", "snoozed", "resolved"]
Stage = Literal["new", "in_progress", "closed", "archived"]
Priority = Literal["low", "medium", "high", "urgent"]
MessageKind = Literal["incoming", "outgoing", "note", "activity"]
AttributeValue = StrictBool | StrictInt | StrictFloat | StrictStr
ContactOrigin = Literal["channel", "manual", "import"]
Unless = Literal["customer_answers", "agent_answers", "anyone_answers", "nothing"]
ReminderTo = Literal["agent", "assignee", "team"]
MessageStatus = Literal["received", "queued", "sent", "delivered", "read", "failed"]

__all__ = [
    "AccessFacts",
    "AttributeValue",
    "BusinessHours",
    "ContactOrigin",
    "ContactProfile",
    "ContactSnapshot",
    "ConversationSnapshot",
    "ConversationStatus",
    "DeliveryStatus",
    "MessageKind",
    "MessageSnapshot",
    "MessageStatus",
    "Priority",
    "Reaction",
    "ReminderSnapshot",
    "ReminderTo",
    "Stage",
    "Unless",
]


class AccessFacts(Model):
    """The facts that decide who may see a conversation (one rule: kernel.access)."""

    inbox_id: Id
    team_id: Id | None = None
    assignee_id: Id | None = None
    participant_ids: tuple[Id, ...] = ()
    owner_id: Id | None = None


class BusinessHours(Model):
    """Whether it was business hours when something happened, by the version of the calendar that counted then.

    ``opens_at`` is when it opens next; None when it is open, or does not open within five years.
    """

    calendar_id: Id
    calendar_version: int
    time_zone: str
    open: bool
    opens_at: Time | None = None


class ContactSnapshot(Model):
    """A contact as it is now. Their owner, if they have one, is an agent or a team; the rest is as in ContactProfile."""

    id: Id
    name: str = ""
    email: str | None = None
    phone: str | None = None
    language: str | None = None
    labels: tuple[str, ...] = ()
    blocked: bool = False
    owner_id: Id | None = None
    owner_team_id: Id | None = None
    company: str = ""
    city: str = ""
    country: str | None = None
    attributes: Mapping[str, AttributeValue] = {}


class ContactProfile(Model):
    """What is known of a contact beyond what every event of their conversations carries.

    ``identifier`` is theirs in another system, unique within the account; ``country`` is ISO 3166, two letters.
    ``attributes`` are the custom attributes by key: text, a number, true or false; a date is written YYYY-MM-DD.
    """

    identifier: str | None = None
    company: str = ""
    city: str = ""
    country: str | None = None
    attributes: Mapping[str, AttributeValue] = {}


class ConversationSnapshot(Model):
    """A conversation as it stands after the event that carries it.

    ``sequence`` is that event's number. ``cycle`` counts openings (1, then +1 a reopening); ``opened_at`` is the
    start of the present cycle, ``first_reply_at`` its first public human reply, ``waiting_since`` the first
    customer message that no human has answered. ``people_since``: when a bot that had it first in this cycle left it to
    people; None where they had it from the start. ``merged_into`` is the one that it is part of: it is over. ``snoozed_until`` is None also when it is snoozed until the customer's
    next message. ``last_responder_id`` is the agent who wrote to the customer last, in whatever cycle. ``assignment_version`` is assignment's own counter. ``historic``: it was imported, and what was said until
    then was said elsewhere.
    """

    id: Id
    account_id: Id
    number: int
    inbox_id: Id
    channel: str
    contact: ContactSnapshot
    source_id: str
    status: ConversationStatus
    stage: Stage
    archived: bool = False
    snoozed_until: Time | None = None
    priority: Priority | None = None
    subject: str = ""
    language: str | None = None
    labels: tuple[str, ...] = ()
    attributes: Mapping[str, AttributeValue] = {}
    assignee_id: Id | None = None
    team_id: Id | None = None
    participant_ids: tuple[Id, ...] = ()
    owner_id: Id | None = None
    last_responder_id: Id | None = None
    assignment_version: int = 0
    cycle: int = 1
    created_at: Time
    opened_at: Time
    resolved_at: Time | None = None
    first_reply_at: Time | None = None
    people_since: Time | None = None
    waiting_since: Time | None = None
    last_activity_at: Time
    message_count: int = 0
    merged_into: Id | None = None
    historic: bool = False
    sequence: int

    @property
    def answerable_since(self) -> Time:
        """From when on people could answer in this cycle: what their first response is measured from."""
        return self.people_since or self.opened_at

    @property
    def access(self) -> AccessFacts:
        """The facts of this state that the access rule reads."""
        return AccessFacts(
            inbox_id=self.inbox_id,
            team_id=self.team_id,
            assignee_id=self.assignee_id,
            participant_ids=self.participant_ids,
            owner_id=self.owner_id,
        )


class Reaction(Model):
    """What one person thinks of a message, in one emoji."""

    author: str
    emoji: str


class ReminderSnapshot(Model):
    """A reminder to follow up on a conversation.

    It is due at ``due_at`` unless ``unless`` comes first: the customer or an agent answers (`anyone`: either of them);
    `nothing`: it is due in any case, short of a resolved conversation. ``to``: the one agent ``agent_id``, whoever is
    the assignee when it is due, or the team that has it then.
    """

    id: Id
    text: str = ""
    unless: Unless = "nothing"
    to: ReminderTo = "assignee"
    agent_id: Id | None = None
    set_by: str
    set_at: Time
    due_at: Time


class MessageSnapshot(Model):
    """One message. ``sequence`` is its conversation's event number when it was accepted: the order of record.

    ``reply_to`` is the channel's id of a message in what the customer wrote, ours in what the team wrote. ``retry_of``
    is the message that failed before this one said the same again. A deleted one has no text any more.
    """

    id: Id
    conversation_id: Id
    kind: MessageKind
    sequence: int
    text: str
    author: str
    author_name: str = ""
    external_id: str | None = None
    reply_to: str | None = None
    attachments: tuple[Attachment, ...] = ()
    mentions: tuple[str, ...] = ()
    status: MessageStatus = "received"
    error: str | None = None
    reactions: tuple[Reaction, ...] = ()
    retry_of: Id | None = None
    edited_at: Time | None = None
    deleted_at: Time | None = None
    occurred_at: Time
    created_at: Time

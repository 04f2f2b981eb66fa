"""What is personal in a message, as data, and a message without it.

An event that tells of a person who was erased stays in its owner's log with its ids, numbers, times and statuses, so
that every fold over the log gives the figures that it gave; what stands here is emptied. A test holds every field of
the catalogue that could tell who somebody is, or what was said, to one of the two lists.
"""

from collections.abc import Mapping
from typing import Any, Final, TypeVar

from pydantic import BaseModel

from relevo.contracts import conversation, dead, inbound, ingest, notification, snapshots
from relevo.contracts.base import Model
from relevo.contracts.catalogue import DURABLES, MESSAGES, SERVICES, decode

_Model = TypeVar("_Model", bound=Model)

UNSAID: Final = "-"
"""Stands where a model wants some text."""

PERSONAL: Final[Mapping[type[Model], Mapping[str, Any]]] = {
    inbound.Sender: {"id": UNSAID, "name": "", "email": None, "phone": None, "language": None},
    inbound.Content: {"text": "", "subject": "", "attachments": ()},
    inbound.Attachment: {"url": "", "name": "", "content_type": "", "id": None},
    inbound.InboundMessage: {"external_id": UNSAID, "reply_to": None, "raw": None},
    inbound.InboundStatus: {"external_id": UNSAID, "error": None},
    ingest.MessageReceived: {"external_id": UNSAID, "reply_to": None},
    ingest.StatusReceived: {"external_id": UNSAID, "error": None},
    ingest.EventQuarantined: {"detail": ""},
    snapshots.ContactSnapshot: {
        "name": "",
        "email": None,
        "phone": None,
        "language": None,
        "labels": (),
        "company": "",
        "city": "",
        "country": None,
        "attributes": {},
    },
    snapshots.ContactProfile: {"identifier": None, "company": "", "city": "", "country": None, "attributes": {}},
    snapshots.ConversationSnapshot: {"source_id": "", "subject": "", "attributes": {}},
    snapshots.MessageSnapshot: {
        "text": "",
        "author_name": "",
        "external_id": None,
        "reply_to": None,
        "attachments": (),
        "error": None,
    },
    conversation.SubjectChanged: {"from_subject": ""},
    conversation.AttributesChanged: {"from_attributes": {}},
    conversation.SetAttributes: {"attributes": {}},
    conversation.MessageEdited: {"from_text": ""},
    conversation.ConversationDeleted: {"reason": ""},
    conversation.ConversationForwarded: {"addresses": ()},
    conversation.MessageChangeRefused: {"error": ""},
    conversation.OutboundUpdate: {"new_text": "", "external_id": None, "recipient_id": ""},
    snapshots.ReminderSnapshot: {"text": ""},
    conversation.SendMessage: {"text": UNSAID},
    conversation.OutboundMessage: {
        "recipient_id": "",
        "text": "",
        "author_name": "",
        "reply_to": None,
        "attachments": (),
    },
    conversation.BotEvent: {"text": "", "contact_name": "", "language": None},
    notification.Notify: {"address": None, "data": {}, "file": None},
    notification.MailFile: {"name": "", "content": ""},
    notification.NotificationCreated: {"title": "", "body": ""},
    dead.DeadLettered: {"subject": "", "headers": {}, "body": "", "error": ""},
}
"""By model, the fields that are personal, and what is left in their place. A field that holds None keeps it."""

NOT_PERSONAL: Final = frozenset(
    {
        "accounts.RowsDropped.table",
        "assignment.ConversationAssigned.needs",
        "assignment.ConversationOffered.needs",
        "assignment.ConversationQueued.needs",
        "assignment.Reason.en",
        "assignment.Reason.es",
        "automation.RuleExecuted.actions",
        "automation.RuleExecuted.event_type",
        "automation.RuleExecuted.rule_name",
        "conversation.AssigneeChanged.reason",
        "conversation.AttributesChanged.changed",
        "conversation.ChangeLabels.add",
        "conversation.ChangeLabels.remove",
        "conversation.ContactUpdated.changed",
        "conversation.LabelState.color",
        "conversation.LabelState.description",
        "conversation.LabelState.into_key",
        "conversation.LabelState.key",
        "conversation.LabelState.name",
        "conversation.LabelsChanged.added",
        "conversation.LabelsChanged.removed",
        "conversation.MessageReacted.emoji",
        "conversation.OutboundMessage.channel",
        "conversation.OutboundUpdate.channel",
        "inbound.InboundStatus.change_id",
        "ingest.StatusReceived.change_id",
        "dead.DeadLettered.body_encoding",
        "dead.DeadLettered.reason",
        "dead.DeadLettered.service",
        "dead.DeadLettered.stream",
        "ingest.EventQuarantined.inbox_id",
        "ingest.EventQuarantined.reason",
        "ingest.InboxState.channel",
        "ingest.InboxState.name",
        "ingest.InboxState.phone_region",
        "ingest.InboxState.webhook_url",
        "ingest.StatusReceived.message_id",
        "inbound.InboundStatus.message_id",
        "metrics.Gauge.gauge",
        "notification.NotificationCreated.kind",
        "notification.Notify.dedup_key",
        "notification.Notify.kind",
        "notification.Notify.template",
        "snapshots.BusinessHours.time_zone",
        "snapshots.ConversationSnapshot.channel",
        "snapshots.ConversationSnapshot.labels",
        "snapshots.ConversationSnapshot.language",
        "snapshots.MessageSnapshot.author",
        "snapshots.MessageSnapshot.mentions",
        "snapshots.ReminderSnapshot.set_by",
        "conversation.Remind.text",
        "conversation.SendMessage.mentions",
        "snapshots.Reaction.author",
        "snapshots.Reaction.emoji",
        "metrics.Dimensions.channel",
        "metrics.Dimensions.labels",
        "metrics.Dimensions.language",
        "metrics.Dimensions.priority",
        "metrics.Dimensions.state",
        "assignment.ConversationAssigned.channel",
        "assignment.ConversationOffered.channel",
        "assignment.ConversationQueued.channel",
        "assignment.ConversationUnassigned.channel",
        "automation.RuleExecuted.channel",
        "automation.SlaBreached.channel",
        "automation.SlaMet.channel",
        "automation.SlaWarned.channel",
    }
)
"""Fields of text that tell nothing of a contact: words of the team's own, codes, keys, and what reports are counted by."""

ABOUT_THE_TEAM: Final = frozenset({"identity", "presence"})
"""Modules of the contracts whose messages tell of the team's own people and of settings only."""


def nameless(conversation_id: str) -> str:
    """What stands for the person's id in the channel once they are erased: another one for each conversation."""
    return f"erased-{conversation_id}"


def redacted(data: _Model) -> _Model:
    """A message without what is personal in it; every id, number, time and status is as it was. Twice changes nothing."""
    empty = PERSONAL.get(type(data), {})
    changed: dict[str, Any] = {}
    for name in type(data).model_fields:
        value = getattr(data, name)
        if name in empty:
            if value is not None:
                changed[name] = empty[name]
        elif isinstance(value, Model):
            changed[name] = redacted(value)
        elif isinstance(value, tuple) and value and isinstance(value[0], Model):
            changed[name] = tuple(redacted(one) for one in value)
    return data.model_copy(update=changed) if changed else data


def redact(message_type: str, body: bytes) -> bytes:
    """The body of an event as its owner's log keeps it from now on; the very same bytes when nothing in it is personal.

    Raises UnknownType or ValidationError for a body that its own type does not explain.
    """
    data = decode(message_type, body)
    bare = redacted(data)
    return body if bare == data else bytes(bare.__pydantic_serializer__.to_json(bare))


def tells_of_people(model: type[BaseModel], seen: frozenset[type] = frozenset()) -> bool:
    """Whether a message of this model can hold something personal, in itself or in what it is made of."""
    if model in PERSONAL:
        return True
    parts = {part for field in model.model_fields.values() for part in _models(field.annotation)} - seen
    return any(tells_of_people(part, seen | parts) for part in parts)


def _models(annotation: Any) -> set[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return {annotation}
    return {model for argument in getattr(annotation, "__args__", ()) for model in _models(argument)}


def who_holds() -> tuple[str, ...]:
    """The services that are told anything personal, and so must be able to forget it."""
    told = {
        service
        for message in MESSAGES
        if tells_of_people(message.model) and message.model is not dead.DeadLettered
        for service in message.consumers
    }
    told |= {durable.service for durable in DURABLES}
    return tuple(service for service in SERVICES if service in told)
